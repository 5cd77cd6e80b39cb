"""Decoded pictures in a file that is read as memory."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vaelab.data import DataModule, InMemory, folder
from vaelab.data import cache as caching
from vaelab.data.cache import cached
from vaelab.data.images import ImageFiles
from vaelab.data.pictures import Reader
from vaelab.runs.configs import that_only_reads


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of ten pictures of random pixels."""
    rng, root = np.random.default_rng(0), tmp_path / "pictures"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(rng.integers(0, 256, (9, 12), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


def read(root: Path, cache: Path, split: str = "train", on_error: str = "stop") -> InMemory | ImageFiles:
    found = folder(str(root), split, (1, 8, 8), max_memory=0, cache=str(cache), on_error=on_error)
    assert isinstance(found, InMemory | ImageFiles)
    return found


def names(cache: Path) -> list[str]:
    return sorted(path.suffix for path in cache.iterdir())


@pytest.mark.parametrize("split", ["train", "test"])
def test_they_are_those_in_memory_and_are_decoded_once(split: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = folder(str(pictures), split, (1, 8, 8))
    first = read(pictures, tmp_path / "cache", split)
    assert names(tmp_path / "cache") == [".json", ".pictures"]
    monkeypatch.setattr(Reader, "__call__", None)
    for found in (first, read(pictures, tmp_path / "cache", split)):
        assert isinstance(found, InMemory)
        assert isinstance(memory, InMemory)
        assert torch.equal(found.x, memory.x)
        assert torch.equal(found.y, memory.y)
        assert (found.names, found.y_names) == (memory.names, memory.y_names)


def test_a_data_module_records_the_same_split(pictures: Path, tmp_path: Path) -> None:
    records = []
    for cache, most in ((None, 2**30), (str(tmp_path / "cache"), 0)):
        make = lambda split, cache=cache, most=most: folder(str(pictures), split, (1, 8, 8), max_memory=most, cache=cache)  # noqa: E731
        data = DataModule(make, shape=[1, 8, 8], val_size=4)
        data.setup("fit")
        data.setup("test")
        records.append(data.record())
    assert records[0] == records[1]


def test_what_is_written_into_x_does_not_reach_the_file(pictures: Path, tmp_path: Path) -> None:
    first = read(pictures, tmp_path / "cache")
    before = first.x.clone()
    first.x.zero_()
    assert torch.equal(read(pictures, tmp_path / "cache").x, before)


@pytest.mark.parametrize("changed", ["a picture", "how it is read"])
def test_what_has_changed_is_decoded_anew(changed: str, pictures: Path, tmp_path: Path) -> None:
    read(pictures, tmp_path / "cache")
    if changed == "a picture":  # of the same size
        for path in pictures.glob("*/*.png"):
            Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
            os.utime(path, ns=(1, 1))
        memory, found = folder(str(pictures), "train", (1, 8, 8)), read(pictures, tmp_path / "cache")
    else:
        memory, found = (
            folder(str(pictures), "train", (1, 8, 8), crop=6, max_memory=most, cache=str(tmp_path / "cache")) for most in (2**30, 0)
        )
    assert torch.equal(found.x, memory.x)
    assert names(tmp_path / "cache") == [".json", ".json", ".pictures", ".pictures"]


def test_pictures_that_cannot_be_read(pictures: Path, tmp_path: Path) -> None:
    """They are known the second time, too."""
    (pictures / "cat" / "3.png").write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"3\.png is not a readable picture"):
            [read(pictures, tmp_path / "cache", split) for split in ("train", "test")]
        found = [read(pictures, tmp_path / "cache", split, on_error="skip") for split in ("train", "test")]
        assert sum(len(each.absent) for each in found) == 1
        assert sum("skipped: 1" in each.contents.note for each in found) == 1


@pytest.mark.parametrize("ending", [".pictures", ".json"])
def test_what_is_damaged_is_decoded_anew(ending: str, pictures: Path, tmp_path: Path) -> None:
    before = read(pictures, tmp_path / "cache").x.clone()
    (path,) = (tmp_path / "cache").glob(f"*{ending}")
    path.write_bytes(path.read_bytes()[:-1])
    assert torch.equal(read(pictures, tmp_path / "cache").x, before)
    assert names(tmp_path / "cache") == [".json", ".pictures"]


@pytest.mark.parametrize("reason", ["a file is there", "no room"])
def test_without_a_place_they_are_decoded_in_every_epoch(
    reason: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    if reason == "a file is there":
        cache.touch()
    else:

        def full(file: int, size: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(caching, "allocate", full)
    assert isinstance(read(pictures, cache), ImageFiles)
    assert f"note: data.cache={cache} cannot be used" in capsys.readouterr().out
    assert not cache.is_dir() or not list(cache.iterdir())


def test_it_is_no_memory_of_the_process(tmp_path: Path) -> None:
    """VmRSS - RssFile: what the system cannot take back."""

    def own() -> int:
        status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
        return int(status["VmRSS"].split()[0]) - int(status["RssFile"].split()[0])

    def fill(x: torch.Tensor) -> dict[int, str]:
        x[:] = torch.arange(x.shape[1], dtype=torch.uint8)
        return {}

    def looked_at(num: int) -> int:
        """The memory of this process that is there while it has looked at all of a file."""
        x, _ = cached(tmp_path / f"{num}.pictures", (num, 2**20), fill)
        assert all(int(row.sum(dtype=torch.long)) == 4096 * 255 * 128 for row in x)
        return own()

    looked_at(2)  # what the operations themselves need
    assert looked_at(200) - looked_at(2) < 20_000  # KiB, where the difference of the files is 202,752


def test_a_stored_config_does_not_ask_for_it() -> None:
    """It may come from a stranger, and would write into a folder of its choice."""
    stored = {"data": {"cache": "/elsewhere", "dataset": {"cache": "${data.cache}", "download": True}}, "model": {"cache": "all"}}
    read = {"data": {"cache": None, "dataset": {"cache": "${data.cache}", "download": False}}, "model": {"cache": "all"}}
    assert that_only_reads(stored) == read
    stored["data"]["dataset"]["cache"] = "/elsewhere"
    assert that_only_reads(stored)["data"]["dataset"]["cache"] is None
