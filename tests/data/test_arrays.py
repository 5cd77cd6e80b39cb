"""Arrays from files: what is read, how it is split, and one sentence for what cannot be."""

from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from vaelab.data import DataModule, InMemory, array
from vaelab.data.arrays import ArrayRows, all_of, as_read
from vaelab.data.modality import Images, Modality, Vectors, modality_of
from vaelab.data.record import record_of

RNG = np.random.default_rng(0)


def vectors(num: int = 40, length: int = 3) -> np.ndarray:
    return RNG.normal(size=(num, length)).astype(np.float32)


def save(values: np.ndarray, path: Path, **others: np.ndarray) -> str:
    """A file of the kind that its ending says; others beside it, where it can hold several."""
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, x=values, **others)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, each in {"x": values, **others}.items():
                text = each.dtype.kind == "U"
                file.create_dataset(name, data=each.astype("S") if text else each)
    else:
        columns = {f"x{i}": values[:, i] for i in range(values.shape[1])} | others
        pq.write_table(pa.table({name: pa.array(each) for name, each in columns.items()}), path)
    return str(path)


def rows_of(file: str, split: str, **options: Any) -> list[int]:
    """Which rows of the file a split has; each example of these files begins with the number of its row."""
    return [int(example[0].flatten()[0]) for example in read(file, split, **options)]


def read(file: str, split: str, **options: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    data = array(file, split, **options)
    return [data[i] for i in range(len(data))]


def numbered(num: int = 100) -> np.ndarray:
    return np.stack([np.arange(num), RNG.normal(size=num)], axis=1)


@pytest.mark.parametrize("ending", [".npy", ".npz", ".h5", ".parquet"])
@pytest.mark.parametrize("max_memory", [2**30, 0])
def test_every_kind_of_file_gives_the_same_examples(ending: str, max_memory: int, tmp_path: Path) -> None:
    """In memory or not; the names of examples are their rows in the file."""
    values = numbered()
    file = save(values, tmp_path / f"x{ending}")
    for split, num in (("train", 90), ("test", 10)):
        data = array(file, split, max_memory=max_memory)
        assert isinstance(data, ArrayRows) == (max_memory == 0 and ending in (".npy", ".h5"))
        assert len(data) == num
        for i in (0, 1, num - 1):
            x, y = data[i]
            row = int(x[0])
            np.testing.assert_array_equal(x.numpy(), values[row])
            assert (int(y), data.names[i]) == (-1, f"row {row}")
    assert sorted(rows_of(file, "train") + rows_of(file, "test")) == list(range(100))
    assert rows_of(file, "test") != rows_of(file, "test", split_seed=1)


@pytest.mark.parametrize("max_memory", [2**30, 0])
@pytest.mark.parametrize(
    ("shape", "axes", "expected", "kind"),
    [
        ((30,), None, (1,), Vectors),
        ((30, 5), None, (5,), Vectors),
        ((30, 5), "NT", (1, 5), Modality),
        ((30, 5, 2), None, (2, 5), Modality),
        ((30, 2, 5), "NCT", (2, 5), Modality),
        ((30, 5, 7), "NHW", (1, 5, 7), Images),
        ((30, 5, 7, 3), None, (3, 5, 7), Images),
        ((30, 3, 5, 7), None, (3, 5, 7), Images),
        ((30, 4, 5, 3), "NCHW", (4, 5, 3), Images),
        ((30, 2, 3, 4, 5), None, (2, 3, 4, 5), Modality),
    ],
    ids=str,
)
def test_axes(shape: tuple[int, ...], axes: str | None, expected: tuple[int, ...], kind: type, max_memory: int, tmp_path: Path) -> None:
    """Channels come first, whichever axis they are of the array."""
    values = RNG.normal(size=shape)
    file = save(values, tmp_path / "x.npy")
    data = array(file, "train", axes=axes, max_memory=max_memory)
    x = data[0][0]
    assert tuple(x.shape) == expected
    assert isinstance(modality_of(expected), kind)
    row = values[int(data.names[0].split()[1])]
    last = axes in ("NHWC",) or (axes is None and len(shape) in (3, 4) and shape[-1] in (2, 3))
    np.testing.assert_array_equal(x.numpy().reshape(-1), (np.moveaxis(row, -1, 0) if last else np.asarray(row)).reshape(-1))


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i8", "f2", "f4", "f8", ">f4", ">i2", "g", "?"])
@pytest.mark.parametrize("max_memory", [2**30, 0])
def test_numbers_keep_their_values(dtype: str, max_memory: int, tmp_path: Path) -> None:
    """Bytes too, which are divided by 255 where they are pictures alone."""
    values = np.arange(120).reshape(30, 4).astype(dtype)
    data = DataModule(partial(array, save(values, tmp_path / "x.npy"), max_memory=max_memory), [4], val_size=5)
    x, _ = next(data.batches("val"))
    split = data.splits["val"]
    rows = [int(split.name(i).split()[1]) for i in range(5)]
    np.testing.assert_array_equal(x.numpy(), values[rows].astype(np.float32))
    pictures = array(save(values.reshape(30, 2, 2), tmp_path / "y.npy"), "test", axes="NHW", max_memory=max_memory)
    assert (pictures[0][0].dtype == torch.uint8) == (dtype == "u1")


@pytest.mark.parametrize("ending", [".npz", ".h5", ".parquet", ".npy"])
def test_labels(ending: str, tmp_path: Path) -> None:
    """Of the same file or another; names of classes are numbered over all splits alike."""
    values, kinds = numbered(), np.array(["cat", "dog", "emu"] * 33 + ["yak"])
    file = save(values, tmp_path / f"x{ending}", kind=kinds) if ending != ".npy" else save(values, tmp_path / "x.npy")
    name = "kind" if ending != ".npy" else save(kinds, tmp_path / "y.npy")
    for split in ("train", "test"):
        data = array(file, split, y=name, **({"key": "x"} if ending in (".npz", ".h5") else {}))
        assert isinstance(data, InMemory)
        assert data.y_names == ("cat", "dog", "emu", "yak")
        assert [data.y_names[int(y)] for y in data.y] == [kinds[int(x[0])] for x in data.x]
    assert [int(y) for _, y in read(save(values, tmp_path / "z.npy"), "test", y=save(np.arange(100.0), tmp_path / "w.npy"))] == rows_of(
        file, "test", y=name, key="x" if ending in (".npz", ".h5") else None
    )


@pytest.mark.parametrize("words", [["train", "valid", "test"], ["Train", "val", "TEST"], [0, 1, 2], [0.0, 1.0, 2.0]], ids=str)
def test_splits_by_a_column(words: list, tmp_path: Path) -> None:
    """It may name all three, or leave the test data, or the validation data, to be chosen."""
    given = np.array(words)[np.arange(100) % 3]
    file = save(numbered(), tmp_path / "x.npz", part=given)
    assert [rows_of(file, split, split_by="part", key="x") for split in ("train", "val", "test")] == [
        list(range(i, 100, 3)) for i in range(3)
    ]
    data = DataModule(partial(array, file, split_by="part", key="x"), [2], val_size=0.1)
    data.setup("fit")
    assert (len(data.splits["train"]), len(data.splits["val"])) == (34, 33)
    file = save(numbered(), tmp_path / "y.npz", part=np.array(words)[(np.arange(100) % 3) * 2 % 4])
    assert sorted(rows_of(file, "train", split_by="part", key="x")) == [i for i in range(100) if i % 3 in (0, 2)]
    with pytest.raises(ValueError, match="has the splits train, test, but not 'val'"):
        array(file, "val", split_by="part", key="x")


@pytest.mark.parametrize("val_size", [0.2, 20])
def test_no_group_is_in_two_splits(val_size: float, tmp_path: Path) -> None:
    """Each split has about as many examples as are wanted."""
    patients = RNG.integers(0, 40, 200)
    file = save(numbered(200), tmp_path / "x.npz", patient=patients)
    found = {split: rows_of(file, split, key="x", group="patient", val_size=val_size, test_share=0.2) for split in ("train", "val", "test")}
    assert sorted(row for rows in found.values() for row in rows) == list(range(200))
    of_split = {split: set(patients[rows].tolist()) for split, rows in found.items()}
    assert not of_split["train"] & of_split["val"] | of_split["train"] & of_split["test"] | of_split["val"] & of_split["test"]
    assert abs(len(found["test"]) - 40) < 8
    assert abs(len(found["val"]) - (40 if val_size < 1 else 20)) < 8
    data = DataModule(partial(array, file, key="x", group="patient", val_size=val_size), [2], val_size=val_size)
    data.setup("fit")
    seen = {split: {int(data.splits[split].name(i).split()[1]) for i in range(len(data.splits[split]))} for split in ("train", "val")}
    assert not set(patients[list(seen["train"])].tolist()) & set(patients[list(seen["val"])].tolist())
    with pytest.raises(ValueError, match=r"data\.group=7 is in two splits: row \d+ is in train, and row \d+ in val"):
        array(save(numbered(9), tmp_path / "z.npz", g=np.full(9, 7), s=np.arange(9) % 3), "train", "x", split_by="s", group="g")


def test_data_that_changed_are_noticed(tmp_path: Path) -> None:
    """In memory, by all values; in their file, by a thousand rows."""
    for max_memory in (2**30, 0):
        records = []
        for change in (0, 0, 1):
            values = np.arange(80.0).reshape(40, 2)
            values[:, 1] += change
            data = DataModule(partial(array, save(values, tmp_path / "x.npy"), max_memory=max_memory), [2], val_size=5)
            data.setup("fit")
            records.append(data.record()["train"]["digest"])
        assert records[0] == records[1] != records[2]
    assert record_of(array(str(tmp_path / "x.npy"), "test", max_memory=0), torch.arange(3), b"")["num"] == 3


def test_a_file_of_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    """A sparse file of zeros: only what is asked for comes into memory."""
    path, shape = tmp_path / "large.npy", (2**19, 1024)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + 4 * shape[0] * shape[1])
    data = DataModule(partial(array, str(path)), [1024], val_size=0.1, batch_size=64)
    data.setup("fit")
    x, _ = next(data.batches("train"))
    assert x.shape == (64, 1024)
    assert len(data.splits["train"]) == round(0.9 * (shape[0] - round(0.1 * shape[0])))


def test_series_of_one_time_and_rows_without_a_value_work(tmp_path: Path) -> None:
    values = RNG.normal(size=(40, 1, 2))
    values[7] = np.nan
    data = DataModule(partial(array, save(values, tmp_path / "x.npy")), [2, 1], val_size=5, missing=True, scale="standardize")
    x = torch.cat([x for split in ("train", "val", "test") for x, _ in data.batches(split)])
    assert int(x.isnan().all(1).all(1).sum()) == 1


@pytest.mark.parametrize("max_memory", [2**30, 0])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_named_by_row_and_column_of_the_file(value: float, max_memory: int, tmp_path: Path) -> None:
    values = vectors()
    values[23, 2] = value
    data = DataModule(partial(array, save(values, tmp_path / "x.npy"), max_memory=max_memory), [3], val_size=5)
    with pytest.raises(ValueError, match=rf"row 23 of the (\w+ )?data has x\[2\]={value}: replace it"):
        [list(data.batches(split)) for split in ("train", "val", "test")]


def broken(tmp_path: Path, name: str) -> str:
    path = tmp_path / name
    if name.startswith("empty"):
        path.touch()
    elif name.startswith("cut"):
        save(vectors(), path)
        path.write_bytes(path.read_bytes()[:-50])
    else:
        path.write_text("a,b\n1,2\n")
    return str(path)


SENTENCES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no file": (lambda at: str(at / "none.npy"), {}, r"there is no file .*none\.npy: set data\.file to a \.npy"),
    "another kind": (lambda at: broken(at, "x.csv"), {}, r"x\.csv is of no kind that is known: \.npy, \.npz"),
    "empty npy": (lambda at: broken(at, "empty.npy"), {}, r"empty\.npy is empty: it has 0 bytes"),
    "empty npz": (lambda at: broken(at, "empty.npz"), {}, r"empty\.npz cannot be read as \.npz"),
    "empty h5": (lambda at: broken(at, "empty.h5"), {}, r"empty\.h5 cannot be read as \.h5"),
    "empty parquet": (lambda at: broken(at, "empty.parquet"), {}, r"empty\.parquet cannot be read as \.parquet"),
    "cut npy": (lambda at: broken(at, "cut.npy"), {}, r"cut\.npy is cut or damaged"),
    "cut npz": (lambda at: broken(at, "cut.npz"), {}, r"cut\.npz cannot be read as \.npz"),
    "no npy": (lambda at: broken(at, "text.npy"), {}, r"text\.npy is cut or damaged"),
    "no examples": (lambda at: save(np.zeros((0, 3)), at / "x.npy"), {}, r"x\.npy has shape \(0, 3\): there is no example in it"),
    "one number": (lambda at: save(np.zeros(()), at / "x.npy"), {}, r"x\.npy has shape \(\): there is no example in it"),
    "one example": (lambda at: save(np.zeros((1, 3)), at / "x.npy"), {}, r"the 1 examples are too few to be split"),
    "objects": (
        lambda at: save(np.array([[1], [1, 2]], dtype=object), at / "x.npy"),
        {},
        r"x\.npy holds Python objects, such as series of different lengths: store numbers of one shape",
    ),
    "objects of npz": (lambda at: save(np.array([[1], [1, 2]], dtype=object), at / "x.npz"), {}, r"x\.npz\[x\] holds Python objects"),
    "text": (lambda at: save(np.array([["a"]] * 9), at / "x.npy"), {}, r"x\.npy holds text: number it"),
    "complex": (lambda at: save(np.zeros((9, 2), complex), at / "x.npy"), {}, r"x\.npy holds complex numbers: store real and imaginary"),
    "dates": (lambda at: save(np.zeros((9, 2), "M8[s]"), at / "x.npy"), {}, r"x\.npy holds dates: store them as numbers"),
    "records": (lambda at: save(np.zeros(9, [("a", "f4"), ("b", "f4")]), at / "x.npy"), {}, r"x\.npy holds records of several columns"),
    "no key": (lambda at: save(vectors(), at / "x.npz", z=vectors()), {}, r"x\.npz holds 2 arrays: set data\.key to one of x, z"),
    "wrong key": (lambda at: save(vectors(), at / "x.h5"), {"key": "z"}, r"x\.h5 has no array 'z': set data\.key to one of x"),
    "key of npy": (lambda at: save(vectors(), at / "x.npy"), {"key": "z"}, r"data\.key=z: x\.npy holds one array, which has no key"),
    "wrong column": (lambda at: save(vectors(), at / "x.parquet"), {"key": "z"}, r"has no column 'z': set data\.key to one .* x0, x1, x2"),
    "column of text": (
        lambda at: save(vectors(), at / "x.parquet", word=np.array(["a"] * 40)),
        {},
        r"column word of x\.parquet holds text: choose columns with data\.key, or take it as data\.y",
    ),
    "too large": (
        lambda at: save(np.full((9, 2), 2**64 - 1, np.uint64), at / "x.npy"),
        {},
        r"row 0 has x\[0\]=18446744073709551615, too large for 64 bits with a sign",
    ),
    "unknown axes": (lambda at: save(vectors(), at / "x.npy"), {"axes": "TN"}, r"data\.axes=TN is unknown: choose N, ND, NT"),
    "other axes": (
        lambda at: save(vectors(), at / "x.npy"),
        {"axes": "NTC"},
        r"data\.axes=NTC names 3 axes, but x\.npy has shape \(40, 3\)",
    ),
    "no channels": (lambda at: save(np.zeros((9, 8, 8, 8)), at / "x.npy"), {}, r"say which axis has the channels, with data\.axes=NHWC or"),
    "no y": (lambda at: save(vectors(), at / "x.npz"), {"y": "z"}, r"data\.y=z is neither in x\.npz \(it holds x\) nor a \.npy file"),
    "short y": (lambda at: save(vectors(), at / "x.npz", z=np.zeros(3)), {"y": "z"}, r"data\.y=z has length 3, but there are 40 examples"),
    "another split": (
        lambda at: save(vectors(3), at / "x.npz", s=np.array(["train", "dev", "test"])),
        {"split_by": "s"},
        r"data\.split has 'dev' in row 1: write train, val or test, or 0, 1 or 2",
    ),
    "no training": (
        lambda at: save(vectors(3), at / "x.npz", s=np.array([2, 2, 2])),
        {"split_by": "s"},
        r"data\.split has no row .* train",
    ),
    "one group": (lambda at: save(vectors(3), at / "x.npz", g=np.zeros(3)), {"group": "g"}, r"data\.group has 1 groups, too few for 2"),
}


@pytest.mark.parametrize(("made", "options", "words"), SENTENCES.values(), ids=SENTENCES.keys())
def test_what_cannot_be_read_is_one_sentence(made: Any, options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words) as error:
        array(made(tmp_path), "train", **options)
    assert "\n" not in str(error.value)


def test_a_package_that_is_missing_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(vectors(), tmp_path / "x.h5")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ValueError, match=r"x\.h5 needs h5py: pip install 'vaelab\[arrays\]', or save the array as \.npy"):
        array(file, "train")


def test_new_examples_are_all_rows_of_a_file(tmp_path: Path) -> None:
    """What generate, inpaint and detect_anomalies are given with input=."""
    values = RNG.normal(size=(7, 5))
    found = all_of(Path(save(values, tmp_path / "x.npy")), axes="NT")
    np.testing.assert_array_equal(found.x.numpy(), values[:, None])
    assert list(found.names) == [f"row {i}" for i in range(7)]
    file = Path(save(values, tmp_path / "x.npz", other=values + 1, third=values + 2))
    for key, plus in (("third", 2), ("absent", 0), (None, 0)):
        np.testing.assert_array_equal(all_of(file, key).x.numpy(), values + plus)
    np.savez(tmp_path / "two.npz", a=values, b=values)
    with pytest.raises(ValueError, match=r"two.npz holds several arrays \(a, b\): call the one that is meant x"):
        all_of(tmp_path / "two.npz")
    file = Path(save(values, tmp_path / "x.parquet", third=np.arange(7.0)))
    for columns in (["x0", "x1"], ["x0", "absent"], "absent", None):
        found = all_of(file, columns)
        assert found.x.shape == (7, 2 if columns == ["x0", "x1"] else 6)


@pytest.mark.parametrize("axes", ["N", "ND", "NT", "NTC", "NCT", "NHW", "NHWC", "NCHW", None])
def test_what_is_written_is_read_as_the_same_examples(axes: str | None, tmp_path: Path) -> None:
    values = RNG.normal(size=(7, 5, 3, 2)[: len(axes or "NTC")])
    x = all_of(Path(save(values, tmp_path / "x.npy")), axes=axes).x.numpy()
    np.testing.assert_array_equal(as_read(x, modality_of(x.shape[1:]), axes), values)


def test_what_was_found_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = save(np.zeros((30, 128, 3), np.float32), tmp_path / "x.npy")
    data = DataModule(partial(array, file), [3, 128], val_size=5)
    data.setup("fit")
    data.setup("test")
    assert capsys.readouterr().out == "array: x.npy, float32: 30 series of 128 times and 3 channels (data.axes=NTC)\n"
