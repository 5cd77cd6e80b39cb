"""vaelab compress and decompress: files as a user writes and reads them, and what is refused."""

import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from forked_scripts import ROOT
from PIL import Image
from small_runs import QUICK, SMALL, composed, train_small

from vaelab.applications.compression import Codec
from vaelab.applications.compression.code_length import mosaic, other_sizes
from vaelab.build import build_model, open_run
from vaelab.commands.compress import compress, decompress
from vaelab.commands.evaluate import evaluate_runs
from vaelab.commands.pictures import in_order
from vaelab.runs.compressed import from_bytes, read_compressed, to_bytes, write_compressed

FEW = [*QUICK, "trainer.max_epochs=1", "evaluation.enabled=false", "logger=csv"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of pictures that are black and white."""
    return train_small(tmp_path_factory.mktemp("compress") / "run", *FEW, "likelihood=bernoulli")


@pytest.fixture(scope="module")
def of_bytes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("compress_bytes") / "run", *FEW, "likelihood=discretized_logistic")


def first_test_data(run: Path, num: int) -> np.ndarray:
    """The first test data as they are stored, in the order of their dataset."""
    data = open_run(run).datamodule
    data.setup("test")
    return in_order(data.splits["test"])[torch.arange(num)][0].numpy()


def compressed(run: Path, target: Path, *words: str) -> None:
    compress(composed([f"run='{run}'", f"output='{target}'", *words], run, "compress"))


def decompressed(run: Path, source: Path, target: Path, *words: str) -> None:
    decompress(composed([f"run='{run}'", f"input='{source}'", f"output='{target}'", *words], run, "decompress"))


def test_pictures_come_back_as_an_array_and_as_files(of_bytes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compressed(of_bytes, tmp_path / "test.vlab")
    assert re.search(r"96 examples: [\d,]+ bytes, .* -ELBO [\d.]+\n.*examples a second, decoded and compared", capsys.readouterr().out)
    decompressed(of_bytes, tmp_path / "test.vlab", tmp_path / "x.npy")
    decompressed(of_bytes, tmp_path / "test.vlab", tmp_path / "pictures")
    x, found = first_test_data(of_bytes, 96), np.load(tmp_path / "x.npy")
    assert found.dtype == x.dtype == np.uint8
    assert np.array_equal(found, x)
    files = sorted((tmp_path / "pictures").iterdir())
    assert len(files) == 96
    assert np.array_equal(np.stack([np.asarray(Image.open(file)) for file in files])[:, None], x)


@pytest.mark.parametrize("num", [1, 2, 17])
def test_data_of_ones_own_come_back(trained: Path, tmp_path: Path, num: int) -> None:
    x = np.random.default_rng(0).integers(0, 2, (num, 1, 16, 16)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    for name in ("a.vlab", "b.vlab"):
        compressed(trained, tmp_path / name, f"input='{tmp_path / 'x.npy'}'", "batch=4")
    decompressed(trained, tmp_path / "b.vlab", tmp_path / "again.npy")
    found = np.load(tmp_path / "again.npy")
    assert found.dtype == x.dtype
    assert np.array_equal(found, x)
    assert (tmp_path / "a.vlab").read_bytes() == (tmp_path / "b.vlab").read_bytes()


def test_another_process_with_another_number_of_threads_decodes(trained: Path, tmp_path: Path) -> None:
    compressed(trained, tmp_path / "x.vlab", "num=40")
    words = [f"run={trained}", f"input={tmp_path / 'x.vlab'}", f"output={tmp_path / 'x.npy'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}
    subprocess.run([sys.executable, str(ROOT / "scripts" / "decompress.py"), *words], env=environment, check=True, capture_output=True)
    assert np.array_equal(np.load(tmp_path / "x.npy"), first_test_data(trained, 40))


def test_every_bit_counts() -> None:
    """A file in which any bit is another one, or which is cut anywhere, is refused."""
    head, bits = {"num": 2, "widths": [4]}, bytes(range(40))
    data = to_bytes(head, bits)
    assert from_bytes(data, Path("x.vlab")) == (head, bits)
    for place in range(8 * len(data)):
        other = bytearray(data)
        other[place // 8] ^= 1 << place % 8
        with pytest.raises(ValueError, match=r"cannot be read|does not begin"):
            from_bytes(bytes(other), Path("x.vlab"))
    for size in range(len(data)):
        with pytest.raises(ValueError, match=r"cannot be read|does not begin"):
            from_bytes(data[:size], Path("x.vlab"))


def refused(call, *words) -> str:
    with pytest.raises(ValueError, match=r"\w") as error:
        call(*words)
    return str(error.value)


def test_bits_that_were_computed_otherwise_are_refused(trained: Path, tmp_path: Path) -> None:
    """Bits that decode to something else, in a file that is sound."""
    source = tmp_path / "x.vlab"
    compressed(trained, source, "num=2")
    head, bits = read_compressed(source)
    for place in (0, 4 * len(bits), 8 * len(bits) - 1):
        other = bytearray(bits)
        other[place // 8] ^= 1 << place % 8
        write_compressed(source, head, bytes(other))
        assert "cannot be decoded here: torch" in refused(decompressed, trained, source, tmp_path / "x.npy"), place
    assert not (tmp_path / "x.npy").exists()


def test_files_of_others_are_refused(trained: Path, of_bytes: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "x.vlab", tmp_path / "x.npy"
    compressed(trained, source, "num=3")
    assert "was written with other weights, or another config" in refused(decompressed, of_bytes, source, target)
    newer = bytearray(to_bytes({}, b""))[:-4]
    newer[4] = 2
    source.write_bytes(newer + zlib.crc32(newer).to_bytes(4, "little"))
    assert "is of version 2 of the format" in refused(decompressed, trained, source, target)
    (tmp_path / "x.txt").write_text("words")
    assert "does not begin as the files" in refused(decompressed, trained, tmp_path / "x.txt", target)
    assert "is not there" in refused(decompressed, trained, tmp_path / "none.vlab", target)
    assert "must end in .npy" in refused(decompressed, trained, tmp_path / "x.txt", tmp_path / "x.csv")


def test_data_that_have_no_code_are_refused(trained: Path, of_bytes: Path, tmp_path: Path) -> None:
    def said(run: Path, x: np.ndarray) -> str:
        np.save(tmp_path / "x.npy", x)
        return refused(compressed, run, tmp_path / "x.vlab", f"input='{tmp_path / 'x.npy'}'")

    x = np.zeros((2, 1, 16, 16), np.float32)
    x[1, 0, 2, 3] = 0.37
    assert "x[1, 0, 2, 3]=0.37 is none of the values that p(x | z) has, 0 and 1:" in said(trained, x)
    assert "x[1, 0, 2, 3]=0.37 is none of the values that p(x | z) has, k / 255 for k = 0, ..., 255:" in said(of_bytes, x)
    x[1, 0, 2, 3] = 1 - 1e-6
    assert "only up to rounding" in said(of_bytes, x)
    assert "x of shape (1, 16, 15)" in said(trained, x[..., :15])
    assert "must end in .vlab" in refused(compressed, trained, tmp_path / "x.zip")
    assert not (tmp_path / "x.vlab").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["likelihood=gaussian"], "p(x | z) is a Normal, which gives x no probability but a density"),
        (["likelihood=continuous_bernoulli"], "p(x | z) is a ContinuousBernoulli"),
        (["likelihood=bernoulli", "posterior=planar"], "no code for the posterior"),
        (
            ["likelihood=bernoulli", "posterior=full_gaussian"],
            "no code for the posterior, a MultivariateNormal: train with posterior=gaussian",
        ),
        (["likelihood=bernoulli", "prior=standard_laplace"], "no code for the prior, a Laplace: train with prior=standard_normal"),
        (["likelihood=bernoulli", "prior=flow"], "no code for the prior"),
        (["likelihood=bernoulli", "missing=true"], "no code for data with missing values"),
    ],
)
def test_models_that_have_no_code_are_refused(words: list[str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        Codec(build_model(composed([*SMALL, *words], tmp_path)))


def test_code_length_is_the_bound(of_bytes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(of_bytes, run)
    evaluate_runs(composed([f"run='{run}'", "metrics=[code_length]"], run, "evaluate"))
    found = json.loads((run / "results.json").read_text())["test"]
    assert found["code_num_examples"] == 96
    assert found["code_bits_per_dim"] == pytest.approx(found["code_bound_bits_per_dim"], rel=0.01, abs=8 * 64 / (96 * 256))
    assert {"code_gzip_bits_per_dim", "code_bz2_bits_per_dim", "code_xz_bits_per_dim", "code_png_bits_per_dim"} < found.keys()
    assert (run / "figures" / "code_length.png").is_file()


def test_others_are_given_the_fewest_bits_that_hold_the_data() -> None:
    levels = np.random.default_rng(0).integers(0, 2, (50, 1, 16, 16))
    sizes = other_sizes(levels, 2)
    assert all(1 < size / (levels.size / 8) < 1.6 for size in sizes.values()), sizes  # of random bits nothing is saved
    pixels = np.asarray(mosaic(levels, 2))
    assert np.array_equal(pixels[:16, 16:32], levels[1, 0])
    colours = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6))
    assert np.array_equal(
        np.asarray(mosaic(colours, 256))[4:8, :6].transpose(2, 0, 1), colours[3 if mosaic(colours, 256).width == 18 else 2]
    )
    assert set(other_sizes(np.zeros((3, 7), int), 1000)) == {"gzip", "bz2", "xz"}
