"""Datasets of one's own: whatever gives x, or x and y; values that no model can be trained on; pictures changed while training."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from vaelab.commands.errors import in_words
from vaelab.data import DataModule, InMemory, folder
from vaelab.data.augment import crop, flip
from vaelab.data.memory import as_example

X = torch.arange(60.0).reshape(20, 3)


class Own(Dataset):
    """A dataset of someone who has not read how they should be."""

    def __init__(self, item, y_names=()):
        self.item, self.y_names = item, y_names

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return self.item(index)


def module(dataset, **options):
    return DataModule(lambda split: dataset, [3], **({"val_size": 5, "batch_size": 4} | options))


def everything(data, split):
    return tuple(torch.cat(parts) for parts in zip(*data.batches(split), strict=True))


KINDS = {
    "numpy": (Own(lambda i: (X[i].numpy(), np.int64(i % 2))), True),
    "float64": (Own(lambda i: (X[i].double().numpy(), float(i % 2))), True),
    "x alone": (Own(lambda i: X[i]), False),
    "numpy alone": (Own(lambda i: X[i].numpy()), False),
    "x in a tuple": (Own(lambda i: (X[i],)), False),
    "no y": (Own(lambda i: (X[i], None)), False),
    "names": (Own(lambda i: (X[i], ["cat", "dog"][i % 2]), ["cat", "dog"]), True),
    "uint16": (Own(lambda i: (X[i].numpy().astype(np.uint16), i % 2)), True),
    "list": ([(X[i], i % 2) for i in range(20)], True),
    "tensors": (TensorDataset(X, torch.arange(20) % 2), True),
    "tensor": (TensorDataset(X), False),
    "in memory": (InMemory(X, torch.arange(20) % 2), True),
    "in memory, numpy": (InMemory(X.numpy(), np.arange(20) % 2), True),
    "in memory, names": (InMemory(X.numpy(), ["cat", "dog"] * 10), True),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_kind_of_dataset_gives_the_same(name, split):
    dataset, has_labels = KINDS[name]
    x, y = everything(module(dataset), split)
    assert x.dtype == torch.get_default_dtype()
    rows = (x[:, 0] / 3).long()
    assert torch.equal(x, X[rows])
    assert torch.equal(y.long(), rows % 2 if has_labels else torch.full((len(x),), -1))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"x": X[0]}, "an object of type dict: it must be x or"),
        ((X[0], 1, 2), r"3 parts, the first of which is Tensor: it must be x or \(x, y\)"),
        ((), "0 parts"),
        ("text", "an object of type str"),
        ((X[0], "cat"), "y='cat' is text: number the classes, or name them all in y_names"),
        ((X[0], {"a": 1}), "y={'a': 1}: it must be a number"),
    ],
)
def test_what_is_no_example_is_said(item, message):
    with pytest.raises(ValueError, match=message):
        module(Own(lambda i: item)).setup("fit")


def test_an_example_is_taken_as_it_is():
    x, y = as_example((X[0], torch.tensor([1, 2])))
    assert x is X[0] or torch.equal(x, X[0])
    assert y.tolist() == [1, 2]


def test_names_of_classes_are_numbered():
    data = InMemory(X[:3], ["dog", "cat", "dog"])
    assert (data.y.tolist(), data.y_names) == ([1, 0, 1], ("cat", "dog"))
    assert InMemory(X[:3], ["dog", "cat", "dog"], ["dog", "cat"]).y.tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="y='emu' is text"):
        InMemory(X[:2], ["dog", "emu"], ["dog", "cat"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("is_in_memory", [False, True])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_value_that_is_no_number_is_found_with_its_row(value, is_in_memory, split):
    """In the last row as in the first batch; of data in memory when they are read."""
    x = X.clone()
    x[17, 1] = value
    data = module(InMemory(x) if is_in_memory else Own(lambda i: x[i]))
    with pytest.raises(ValueError, match=rf"row 17 .*has x\[1\]={value}: replace it") as error:
        data.setup("fit" if split == "train" else "test") if is_in_memory else [everything(data, each) for each in ("val", split)]
    assert ("set missing=true" in str(error.value)) == math.isnan(value)


def test_several_rows_are_counted():
    x = X.clone()
    x[[3, 5, 19], 0] = math.nan
    with pytest.raises(ValueError, match=r"b3 of the test data has x\[0\]=nan \(3 of 20 examples have such values\)"):
        module(InMemory(x, names=[f"b{i}" for i in range(20)])).setup("test")


@pytest.mark.parametrize("is_in_memory", [False, True])
def test_missing_values_are_none_of_them(is_in_memory):
    x = X.clone()
    x[17, 1] = math.nan
    data = module(InMemory(x) if is_in_memory else Own(lambda i: x[i]), missing=True)
    assert sum(int(part.isnan().sum()) for split in ("train", "val") for part, _ in data.batches(split)) == 1
    x[3, 0] = math.inf
    data = module(InMemory(x) if is_in_memory else Own(lambda i: x[i]), missing=True)
    with pytest.raises(ValueError, match=r"row 3 .*has x\[0\]=inf: replace it, or leave the example out$"):
        [everything(data, split) for split in ("train", "val")]


PICTURES = torch.rand(400, 2, 16, 12, generator=torch.Generator().manual_seed(0))


def test_flip_mirrors_half_of_the_pictures():
    """Within 5 standard errors of 1/2; left and right, and not upside down."""
    flipped = flip(PICTURES)
    is_same, is_mirrored = ((flipped == other).flatten(1).all(1) for other in (PICTURES, PICTURES.flip(-1)))
    assert (is_same ^ is_mirrored).all()
    assert abs(is_mirrored.double().mean() - 0.5) <= 5 * 0.5 / 400**0.5


def test_crop_moves_each_picture_by_itself():
    """By -2 ... 2 rows of 16 and -2 ... 2 columns of 12, all equally often (5 standard errors); what moves in repeats the border."""
    moved = crop(PICTURES)
    counts = torch.zeros(5, 5)
    for x, y in zip(PICTURES, moved, strict=True):
        found = [(i, j) for i in range(5) for j in range(5) if torch.equal(y[:, 2:-2, 2:-2], x[:, i : i + 12, j : j + 8])]
        assert len(found) == 1
        counts[found[0]] += 1
        i, j = found[0][0] - 2, found[0][1] - 2
        rows, columns = (torch.arange(16) + i).clamp(0, 15), (torch.arange(12) + j).clamp(0, 11)
        assert torch.equal(y, x[:, rows][:, :, columns])
    assert ((counts - 16).abs() <= 5 * (16 * 0.96) ** 0.5).all()


@pytest.mark.parametrize("names", ["flip", "crop", ["flip", "crop"]])
def test_pictures_are_changed_while_training_alone(names):
    def read(augment):
        data = DataModule(lambda split: InMemory(PICTURES), [2, 16, 12], val_size=100, augment=augment, batch_size=300)
        return {split: everything(data, split)[0] for split in ("train", "val", "test")}

    plain, changed = read(None), read(names)
    assert torch.equal(plain["val"], changed["val"])
    assert torch.equal(plain["test"], changed["test"])
    assert (plain["train"] != changed["train"]).flatten(1).any(1).double().mean() > 0.3


def test_what_cannot_be_changed_is_refused():
    with pytest.raises(ValueError, match=r"data\.augment=rotate is unknown: choose flip or crop"):
        DataModule(lambda split: InMemory(PICTURES), [2, 16, 12], augment="rotate")
    with pytest.raises(ValueError, match=r"data\.augment=flip changes pictures of shape \[channels, height, width\]"):
        DataModule(lambda split: InMemory(X), [3], augment="flip")


def test_a_broken_picture_is_a_sentence_in_every_process(tmp_path):
    """Whose error follows from another one there."""
    for i in range(20):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_text("no picture")

    def pictures(split):
        return folder(str(tmp_path), split, (1, 8, 8), max_memory=0)

    data = DataModule(pictures, [1, 8, 8], val_size=5, num_workers=1)
    with pytest.raises(ValueError, match="broken") as error:
        [everything(data, split) for split in ("train", "val", "test")]
    words = in_words(error.value)
    assert words is not None
    assert words.startswith(f"{tmp_path / 'broken.png'} is not a readable picture (")
    assert words.endswith("leaves such files out")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_processes_say_that_load_data_is_a_sentence(num_workers):
    x = X.clone()
    x[:, 1] = math.inf
    data = module(Own(lambda i: x[i] if i else X[i]), num_workers=num_workers)
    with pytest.raises(ValueError, match=r"has x\[1\]=inf") as error:
        everything(data, "train")
    words = in_words(error.value)
    assert words is not None
    assert "\n" not in words
    assert "has x[1]=inf" in words


def test_what_others_say_there_is_an_error_as_ever():
    def fail(i):
        return 1 / (i - 7)

    data = module(Own(lambda i: (X[i], fail(i))), num_workers=1, batch_size=15)
    with pytest.raises(ZeroDivisionError) as error:
        [everything(data, split) for split in ("train", "val")]
    assert in_words(error.value) is None
