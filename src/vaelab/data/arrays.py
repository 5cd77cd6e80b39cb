"""Arrays from files: vectors, series and pictures of .npy, .npz, HDF5 and Parquet, in memory or mapped into it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.utils.data import Dataset

from vaelab.checks import check_choice
from vaelab.data.array_files import Array, as_numbers, first_key, open_array, read_column
from vaelab.data.listing import NAMED
from vaelab.data.memory import Examples, InMemory
from vaelab.data.modality import Modality, Series
from vaelab.data.row_names import RowNames

AXES = {"N": "numbers", "ND": "vectors", "NT": "series", "NTC": "series", "NCT": "series"}
AXES |= {"NHW": "pictures", "NHWC": "pictures", "NCHW": "pictures"}
COLOURS = (1, 3, 4)  # how many channels the last axis of pictures has
NUM_HASHED = 1000  # examples that stand for all of a mapped file in its digest


@dataclass(frozen=True)
class Layout:
    """The axes of an array, and what one example becomes: channels first, as convolutions have them.

    Args:
        axes: of the array, such as "NTC".
        is_8_bit_picture: whether bytes stay bytes, which models see divided by 255; other bytes are numbers.
    """

    axes: str
    is_8_bit_picture: bool = False

    @property
    def kind(self) -> str:
        """The word for the examples, such as "vectors"."""
        return AXES.get(self.axes, "arrays")

    def of(self, rows: Shaped[np.ndarray, "n ..."]) -> Shaped[Tensor, "n ..."]:
        """Rows of the array as a tensor: (n, length), (n, channels, times) or (n, channels, height, width)."""
        if self.axes in ("N", "NT", "NHW"):
            rows = rows[:, None]
        elif self.axes in ("NTC", "NHWC"):
            rows = np.moveaxis(rows, -1, 1)
        return torch.from_numpy(as_numbers(rows, self.is_8_bit_picture))

    def back(self, x: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
        """Rows of the array from examples: the inverse of `of`."""
        if self.axes in ("N", "NT", "NHW"):
            return x[:, 0]
        return np.moveaxis(x, 1, -1) if self.axes in ("NTC", "NHWC") else x

    def words(self, shape: Sequence[int]) -> str:
        """The number of examples and what they are, for a person."""
        sizes = dict(zip(self.axes, shape, strict=False))
        channels = f"{sizes.get('C', 1)} channel{'s' * (sizes.get('C', 1) != 1)}"
        what = {
            "numbers": "numbers",
            "vectors": f"vectors of {sizes.get('D')} values",
            "series": f"series of {sizes.get('T')} times and {channels}",
            "pictures": f"pictures of {sizes.get('H')} x {sizes.get('W')} pixels and {channels}",
        }
        return f"{shape[0]:,} {what.get(self.kind, f'arrays of shape {tuple(shape[1:])}')}"


@dataclass(frozen=True)
class ArrayFile:
    """An array in a file, with y and the split of each example.

    Args:
        array: of all examples.
        layout: of the array.
        y: labels or factors of all examples; None: there are none.
        y_names: of the classes.
        rows: of each split.
        note: one line for a person.
        digest: of what the file holds.
    """

    array: Array
    layout: Layout
    y: Shaped[Tensor, "n ..."] | None
    y_names: tuple[str, ...]
    rows: dict[str, Int[np.ndarray, "_"]]
    note: str
    digest: bytes


class ArrayRows(Dataset):
    """Rows of an array that are read when they are asked for: x and y.

    Args:
        file: that the rows are of.
        split: "train", "val" or "test".
    """

    is_shared: bool = False  # whether every split has these same rows

    def __init__(self, file: ArrayFile, split: str) -> None:
        self.file, self.rows, self.note = file, file.rows[split], file.note
        self.names, self.y_names, self.has_val = RowNames(self.rows), file.y_names, "val" in file.rows
        self.digest = file.digest

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        row = int(self.rows[index])
        y = torch.tensor(-1) if self.file.y is None else self.file.y[row]
        return self.file.layout.of(self.file.array[row : row + 1])[0], y


def array(
    file: str,
    split: str,
    key: str | Sequence[str] | None = None,
    y: str | None = None,
    axes: str | None = None,
    split_by: str | None = None,
    group: str | None = None,
    test_share: float = 0.1,
    val_size: float | None = None,
    split_seed: int = 0,
    max_memory: int = 2**30,
) -> Examples:
    """The examples of a split of an array in a file: .npy, .npz, HDF5 (.h5, .hdf5) or .parquet.

    Args:
        file: its path.
        split: "train" or "test"; or "val", if split_by names one or there are groups.
        key: of the array, where the file holds several; of Parquet, a column or several, by default all that nothing else asks for.
        y: labels or factors: another key of the file, or another file.
        axes: of the array, such as "NTC": see AXES; None: ND, NTC (of bytes NHW) or NHWC, by how many there are.
        split_by: the split of each example, train, val or test (or 0, 1, 2): a key or a file, as y. None: a share of all is the test data.
        group: such as the patient that each example is of: a key or a file, as y; no group is in two splits.
        test_share: of the examples, chosen by split_seed; 0: every split has all examples.
        val_size: of the groups that are validated on: a share of the examples, or a number of them.
        split_seed: of the choice.
        max_memory: in bytes; a larger array in a .npy or HDF5 file stays there, and its rows are read when they are asked for.

    Raises:
        ValueError: if the file is missing or holds no such array, or a column does not fit it.
    """
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"there is no file {path.absolute()}: set data.file to a .npy, .npz, .h5 or .parquet file")
    keys = tuple(key) if key is not None and not isinstance(key, str) else key
    about = path.stat()
    found = _read(path, about.st_mtime_ns, about.st_size, keys, y, axes, split_by, group, test_share, val_size, split_seed, max_memory)
    if split not in found.rows:
        raise ValueError(f"{path.name} has the splits {', '.join(found.rows)}, but not {split!r}: set data.val_size")
    rows = ArrayRows(found, split)
    rows.is_shared = test_share == 0
    if not isinstance(found.array, np.ndarray) or isinstance(found.array, np.memmap):
        return rows
    labels = None if found.y is None else found.y[rows.rows]
    data = InMemory(found.layout.of(found.array[rows.rows]), labels, found.y_names, names=rows.names)
    data.note, data.has_val, data.is_shared = rows.note, rows.has_val, rows.is_shared
    return data


def all_of(file: Path, key: str | Sequence[str] | None = None, axes: str | None = None) -> InMemory:
    """All examples of an array in a file, without labels; their names are their rows.

    Args:
        file: its path.
        key: of the array, if the file has it; else "x", as `vaelab generate` calls it, or all that there is.
        axes: of the array.

    Raises:
        ValueError: as `array`.
    """
    found = first_key(file, (key, "x"))
    values, name = open_array(file, found if isinstance(found, str | None) else tuple(found), (), 2**62)
    layout = layout_of(values, axes, name)
    return InMemory(layout.of(np.asarray(values)), names=RowNames(np.arange(len(values))))


def as_read(x: Shaped[np.ndarray, "n ..."], modality: Modality, axes: str | None = None) -> Shaped[np.ndarray, "n ..."]:
    """Examples as an array that `all_of` reads as the same examples; channels of series are the last axis unless axes says otherwise."""
    return Layout(axes or ("NTC" if isinstance(modality, Series) else "")).back(x)


@lru_cache(maxsize=1)  # the splits are asked for one by one
def _read(
    path: Path,
    modified: int,
    size: int,
    key: str | tuple[str, ...] | None,
    y: str | None,
    axes: str | None,
    split_by: str | None,
    group: str | None,
    test_share: float,
    val_size: float | None,
    split_seed: int,
    max_memory: int,
) -> ArrayFile:
    others = [name for name in (y, split_by, group) if name is not None]
    values, name = open_array(path, key, others, max_memory)
    layout, count = layout_of(values, axes, path.name), len(values)
    labels, y_names = (None, ()) if y is None else labels_of(read_column(path, y, count, "data.y"))
    given = None if split_by is None else read_column(path, split_by, count, "data.split")
    groups = None if group is None else read_column(path, group, count, "data.group")
    rows = rows_of(count, given, groups, test_share, val_size, split_seed)
    mapped = "" if isinstance(values, np.ndarray) and not isinstance(values, np.memmap) else ", read from the file row by row"
    note = f"array: {name}, {values.dtype}: {layout.words(values.shape)} (data.axes={layout.axes}){mapped}"
    return ArrayFile(values, layout, labels, y_names, rows, note, digest_of(values) if mapped else b"")


def layout_of(values: Array, axes: str | None, name: str) -> Layout:
    """The layout of an array, given or by its axes.

    Raises:
        ValueError: if there is none of this name, it does not fit, there are no examples, or an axis is empty.
    """
    shape, is_8_bit = tuple(values.shape), values.dtype == np.uint8
    if not shape or not prod(shape):
        raise ValueError(f"{name} has shape {shape}: there is no example in it")
    if axes is not None:
        check_choice(AXES, **{"data.axes": axes})
        if len(axes) != len(shape):
            raise ValueError(f"data.axes={axes} names {len(axes)} axes, but {name} has shape {shape}")
    elif len(shape) == 3:
        axes = "NHW" if is_8_bit else "NTC"
    elif len(shape) == 4:
        if shape[-1] not in COLOURS and shape[1] not in COLOURS:
            raise ValueError(f"{name} has shape {shape}: say which axis has the channels, with data.axes=NHWC or NCHW")
        axes = "NHWC" if shape[-1] in COLOURS else "NCHW"
    else:
        axes = {1: "N", 2: "ND"}.get(len(shape), f"N and {len(shape) - 1} more")
    return Layout(axes, is_8_bit and AXES.get(axes) == "pictures")


def labels_of(values: Shaped[np.ndarray, "n ..."]) -> tuple[Shaped[Tensor, "n ..."], tuple[str, ...]]:
    """Labels as numbers, and the names of classes that are given by name, in alphabetical order; -1 where a number is NaN."""
    if values.dtype.kind in "OSU":
        names, numbers = np.unique(values.astype(str), return_inverse=True)
        return torch.from_numpy(numbers.reshape(values.shape)), tuple(names.tolist())
    if values.dtype.kind == "f" and bool((np.isnan(values) | (values == np.floor(values))).all()):
        values = np.nan_to_num(values, nan=-1)
    is_whole = values.dtype.kind != "f" or bool((values == np.floor(values)).all())
    return torch.from_numpy(values.astype(np.int64 if is_whole else np.float32)), ()


def rows_of(
    count: int,
    given: Shaped[np.ndarray, "n"] | None,
    groups: Shaped[np.ndarray, "n"] | None,
    test_share: float,
    val_size: float | None,
    seed: int,
) -> dict[str, Int[np.ndarray, "_"]]:
    """The rows of each split, rising.

    Raises:
        ValueError: if a split has no row, is given by another word, or a group is in two of those that are given; or if all rows are to be
            in every split, and a split or group is given.
    """
    if test_share == 0:
        if given is not None or groups is not None:
            raise ValueError("data.test_share=0 puts all examples into every split: leave out data.split and data.group")
        return dict.fromkeys(("train", "val", "test"), np.arange(count))
    if given is not None:
        rows = given_rows(given)
        if groups is not None:
            check_groups(rows, groups)
        if "test" not in rows:
            order = np.random.default_rng(seed).permutation(rows["train"])
            num = max(1, round(test_share * len(order)))
            rows |= {"test": np.sort(order[:num]), "train": np.sort(order[num:])}
    elif groups is not None:
        rows = grouped_rows(groups, {"test": test_share * count, "val": (val_size or 0) * (count if (val_size or 0) < 1 else 1)}, seed)
    else:
        order, num = np.random.default_rng(seed).permutation(count), max(1, round(test_share * count))
        rows = {"train": np.sort(order[num:]), "test": np.sort(order[:num])}
    if not len(rows["train"]):
        raise ValueError(f"the {count} examples are too few to be split: no example is left to train on")
    return rows


def given_rows(given: Shaped[np.ndarray, "n"]) -> dict[str, Int[np.ndarray, "_"]]:
    """The rows of the splits that a column names.

    Raises:
        ValueError: if it holds another word, or no training examples.
    """
    numbers = {"0": "train", "1": "val", "2": "test"} if given.dtype.kind in "iuf" else {"False": "train", "True": "test"}
    words = {word: split for split, names in NAMED.items() for word in names} | numbers
    texts = given.astype(np.int64).astype(str) if given.dtype.kind == "f" else given.astype(str)
    unknown = np.flatnonzero(~np.isin(np.char.lower(texts) if given.dtype.kind not in "b" else texts, list(words)))
    if len(unknown):
        row = int(unknown[0])
        raise ValueError(f"data.split has {str(texts[row])!r} in row {row}: write train, val or test, or 0, 1 or 2")
    chosen = np.array([words[text if given.dtype.kind == "b" else text.lower()] for text in texts.tolist()])
    rows = {split: np.flatnonzero(chosen == split) for split in NAMED}
    if not len(rows["train"]):
        raise ValueError("data.split has no row that is called train, or 0: there is nothing to train on")
    return {split: found for split, found in rows.items() if len(found)}


def check_groups(rows: dict[str, Int[np.ndarray, "_"]], groups: Shaped[np.ndarray, "n"]) -> None:
    """Check that no group is in two splits.

    Raises:
        ValueError: if one is, with two of its rows.
    """
    seen: dict[str, tuple[str, int]] = {}
    for split, found in rows.items():
        for group, row in zip(groups[found].astype(str).tolist(), found.tolist(), strict=True):
            other, first = seen.setdefault(group, (split, row))
            if other != split:
                raise ValueError(f"data.group={group} is in two splits: row {first} is in {other}, and row {row} in {split}")


def grouped_rows(groups: Shaped[np.ndarray, "n"], wanted: dict[str, float], seed: int) -> dict[str, Int[np.ndarray, "_"]]:
    """Rows of splits that share no group: groups in random order, until a split has as many rows as are wanted; the rest trains.

    Raises:
        ValueError: if there are fewer groups than splits.
    """
    names, numbers, counts = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    wanted = {split: num for split, num in wanted.items() if num > 0}
    if len(names) <= len(wanted):
        raise ValueError(f"data.group has {len(names)} groups, too few for {len(wanted) + 1} splits that share none")
    order, rows, start = np.random.default_rng(seed).permutation(len(names)), dict[str, np.ndarray](), 0
    for left, (split, num) in zip(range(len(wanted), 0, -1), wanted.items(), strict=True):
        sizes = counts[order[start:]].cumsum()
        end = start + 1 + int(np.abs(sizes - num)[: len(sizes) - left].argmin())  # the nearest to what is wanted; others need some too
        rows[split] = np.flatnonzero(np.isin(numbers, order[start:end]))
        start = end
    return {"train": np.flatnonzero(np.isin(numbers, order[start:])), **rows}


def digest_of(values: Array) -> bytes:
    """Digest of an array that is too large to be read for one: its shape and type, and a thousand of its rows."""
    found = hashlib.blake2b(f"{values.shape} {values.dtype}".encode(), digest_size=16)
    for row in np.unique(np.linspace(0, len(values) - 1, NUM_HASHED).astype(int)).tolist():
        found.update(np.ascontiguousarray(values[row : row + 1]).tobytes())
    return found.digest()
