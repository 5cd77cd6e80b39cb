"""The record of a split: another time the same examples are taken, whatever has become of the data; or it is said."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from vaelab.data import DataModule, InMemory, folder
from vaelab.data.record import check_record


@pytest.fixture
def pictures(tmp_path):
    """Twenty one-colour pictures of two classes; the value tells them apart."""
    for i in range(20):
        save(tmp_path / "pictures" / "ab"[i % 2] / f"{i:02}.png", 10 * i)
    return tmp_path / "pictures"


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8 + value % 7), value, np.uint8)).save(path)


def module(root, recorded=None, **options):
    options = {"val_size": 0.25, "batch_size": 4} | options
    data = DataModule(partial(folder, root=str(root), shape=(1, 8, 8), max_memory=options.pop("max_memory", 2**30)), [1, 8, 8], **options)
    data.recorded = recorded or {}
    return data


def values(data, split):
    """The grey values of a split, in order."""
    data.setup("test" if split == "test" else "fit")
    part = data.splits[split]
    return (255 * part.scaled(torch.arange(len(part)))[0].mean((1, 2, 3))).round().int().tolist()


def recorded(root, **options):
    """The record that a run stores, as it is read again."""
    data = module(root, **options)
    data.setup("fit")
    data.setup("test")
    return check_record(json.loads(json.dumps(data.record())))


@pytest.mark.parametrize("max_memory", [0, 2**30])
def test_pictures_that_are_new_change_nothing(pictures, max_memory, capsys):
    before, record = {split: values(module(pictures), split) for split in ("train", "val", "test")}, recorded(pictures)
    for name in ("a/new.png", "0/new.png", "b/00.png", "c/1.png"):  # a class that would come first, and one that would come last
        save(pictures / name, 255)
    again = module(pictures, record, max_memory=max_memory)
    assert {split: values(again, split) for split in before} == before
    assert again.splits["test"].y_names == ("a", "b")
    assert "4 that are new since this run was trained" in capsys.readouterr().out
    assert any(values(module(pictures), split) != before[split] for split in before)  # else there would be nothing to guard against


def test_the_record_names_what_each_split_consists_of(pictures):
    record = recorded(pictures)
    assert {split: record[split]["num"] for split in ("train", "val", "test")} == {"train": 14, "val": 4, "test": 2}
    assert len({record[split]["digest"] for split in ("train", "val", "test")}) == 3
    files = record["files"]
    assert not files["train"].keys() & files["test"].keys()
    assert files["train"] | files["test"] == {str(path.relative_to(pictures)): path.stat().st_size for path in pictures.rglob("*.png")}
    names = list(files["train"])
    grey = {name: 10 * int(name[2:4]) for name in names}
    assert [grey[names[i]] for i in record["val"]["indices"]] == values(module(pictures), "val")


def test_pictures_that_are_gone_are_said_and_left_out(pictures, capsys):
    """The others stay where they were: none moves from one split to another."""
    before, record = {split: values(module(pictures), split) for split in ("train", "val", "test")}, recorded(pictures)
    for split in ("train", "val", "test"):
        (path,) = pictures.rglob(f"{before[split][0] // 10:02}.png")
        path.unlink()
    again = module(pictures, record)
    for split in before:
        assert set(values(again, split)) == set(before[split][1:])
    said = capsys.readouterr().out
    for split, num in (("train", 14), ("val", 4), ("test", 2)):
        assert f"1 of the {num} {split} pictures of this run are gone or changed, and left out (" in said
    with pytest.raises(ValueError, match="was trained on 14 examples and validated on 4, but the data found now split into 13"):
        again.load_state_dict(state_of(record))


def state_of(record):
    """What a checkpoint of the run holds."""
    return {
        "val_indices": torch.tensor(record["val"]["indices"]),
        "num_train": record["train"]["num"],
        "digests": {split: record[split]["digest"] for split in ("train", "val")},
    }


def test_a_picture_of_another_size_is_another_picture(pictures, capsys):
    record, before = recorded(pictures), values(module(pictures), "test")
    (path,) = pictures.rglob(f"{before[0] // 10:02}.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30), np.uint8)).save(path)
    assert values(module(pictures, record), "test") == before[1:]
    assert "1 of the 2 test pictures of this run are gone or changed" in capsys.readouterr().out


def test_pictures_that_have_moved_are_the_same(pictures):
    before, record = values(module(pictures), "test"), recorded(pictures)
    moved = pictures.rename(pictures.with_name("moved"))
    assert values(module(moved, record), "test") == before


def test_a_folder_of_other_pictures_is_refused(pictures, tmp_path):
    record = recorded(pictures)
    save(tmp_path / "other" / "1.png", 1)
    with pytest.raises(ValueError, match=r"none of the 20 pictures of this run is in .*other: say where they are with data.root="):
        module(tmp_path / "other", record).setup("test")


def test_classes_and_broken_pictures_keep_their_record(pictures):
    """Of data of some classes, and with files that cannot be read."""
    (pictures / "a" / "broken.png").write_text("no picture")
    skip = partial(folder, root=str(pictures), shape=(1, 8, 8), on_error="skip")

    def read(recorded=None):
        data = DataModule(skip, [1, 8, 8], val_size=4, classes=["a"])
        data.recorded = recorded or {}
        return data, {split: values(data, split) for split in ("train", "val", "test")}

    data, before = read()
    save(pictures / "a" / "new.png", 255)
    assert read(json.loads(json.dumps(data.record())))[1] == before


def in_memory(split, scale=1.0, num=20):
    return InMemory(scale * torch.arange(num)[:, None].float(), torch.arange(num))


def numbers(**options):
    data = DataModule(partial(in_memory, **options), [1], val_size=5)
    data.setup("fit")
    data.setup("test")
    return data


@pytest.mark.parametrize("options", [{"scale": 2.0}, {"num": 21}])
@pytest.mark.parametrize("stage", ["fit", "test"])
def test_other_values_in_memory_are_refused(options, stage):
    record = numbers().record()
    same, other = (DataModule(partial(in_memory, **each), [1], val_size=5) for each in ({}, options))
    same.recorded = other.recorded = json.loads(json.dumps(record))
    same.setup(stage)
    with pytest.raises(ValueError, match=r"the (train|test) data are not those of this run: it had (15|20) examples with the digest"):
        other.setup(stage)


def test_a_checkpoint_knows_the_values():
    """Also where its folder has no record."""
    with pytest.raises(ValueError, match="but the data found now split into 15 and 5 or into others"):
        numbers(scale=2.0).load_state_dict(numbers().state_dict())
    state = numbers().state_dict()
    del state["digests"]  # as older ones
    numbers(scale=2.0).load_state_dict(state)


def test_data_that_would_have_to_be_read_have_a_number_alone():
    data = DataModule(lambda split: [(torch.zeros(1), 0)] * 20, [1], val_size=5)
    data.setup("fit")
    assert data.record()["train"] == {"num": 15, "digest": None}
    data = DataModule(lambda split: [(torch.zeros(1), 0)] * 21, [1], val_size=5)
    data.recorded = {"train": {"num": 15, "digest": None}}
    with pytest.raises(ValueError, match="it had 15 examples"):
        data.setup("fit")


def test_an_older_record_tells_nothing():
    assert check_record({"split_seed": 0, "num_train": 5, "num_val": 2, "val_indices": [1, 2]}) == {}


@pytest.mark.parametrize(
    "record", [[], {"train": 3}, {"files": [1]}, {"files": {"train": {"a": "b"}}}, {"files": {"../x": {}}}, {"val": {"indices": ["a"]}}]
)
def test_a_record_of_another_shape_is_refused(record):
    with pytest.raises(ValueError, match=r"split\.json, is of another shape than this version writes: remove it"):
        check_record(record)
