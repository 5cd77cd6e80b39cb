"""Files that hold arrays, and what can be wrong with them."""

import os
import zipfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

ENDINGS = (".npy", ".npz", ".h5", ".hdf5", ".parquet")
# kinds of numpy's types that are no numbers, and what to do about them
NO_NUMBERS = {
    "c": "complex numbers: store real and imaginary parts as two channels",
    "O": "Python objects, such as series of different lengths: store numbers of one shape, padded with NaN and missing=true",
    "U": "text: number it, or take it as data.y",
    "S": "text: number it, or take it as data.y",
    "M": "dates: store them as numbers",
    "m": "differences of dates: store them as numbers",
    "V": "records of several columns: choose one, or store them as Parquet",
}


class H5Array:
    """A dataset of an HDF5 file, opened anew in each process, whose rows are read when they are asked for."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key, self._opened = path, key, (0, None)
        self.shape, self.dtype = tuple(self._data.shape), self._data.dtype
        self.ndim = len(self.shape)

    @property
    def _data(self) -> Any:
        if self._opened[0] != os.getpid():
            self._opened = os.getpid(), package("h5py", self.path).File(self.path)[self.key]
        return self._opened[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        if isinstance(index, np.ndarray):  # HDF5 takes rising indices alone
            order, back = np.unique(index, return_inverse=True)
            return self._data[order][back]
        return self._data[index]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": (0, None)}


Array = np.ndarray | H5Array


def package(name: str, path: Path, advice: str = "pip install 'vaelab[arrays]', or save the array as .npy") -> Any:
    """A package that a kind of file needs.

    Args:
        name: of the module.
        path: of the file.
        advice: what to do if it is not installed.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ValueError(f"{path.name} needs {name.split('.')[0]}: {advice}") from error


def open_array(path: Path, key: str | tuple[str, ...] | None, others: Sequence[str], max_memory: int) -> tuple[Array, str]:
    """The array of a file, and its name for a person.

    Args:
        path: of the file.
        key: of the array.
        others: keys of the same file that are taken for something else.
        max_memory: in bytes; a larger array is mapped, or read row by row.

    Raises:
        ValueError: if the file cannot be read, or holds no such array or no numbers.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"data.file={path} is of no kind that is known: {', '.join(ENDINGS)}")
    try:
        if ending == ".parquet":
            values: Array = table_columns(path, key, others)
        elif ending == ".npy":
            values = one_array(path, key, max_memory)
        else:
            key = chosen_key(key, keys_of(path), path, others)
            values = read_key(path, key, max_memory)
    except (OSError, EOFError, zipfile.BadZipFile, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as {ending} ({' '.join(str(error).split()) or type(error).__name__})") from error
    name = path.name if key is None else f"{path.name}[{key if isinstance(key, str) else ','.join(key)}]"
    if values.dtype.kind in NO_NUMBERS:
        raise ValueError(f"{name} holds {NO_NUMBERS[values.dtype.kind]}")
    return values, name


def one_array(path: Path, key: Any, max_memory: int) -> np.ndarray:
    """The array of a .npy file, mapped if it is large.

    Raises:
        ValueError: if a key is given, the file is cut, or it holds objects.
    """
    if key is not None:
        raise ValueError(f"data.key={key}: {path.name} holds one array, which has no key")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty: it has 0 bytes")
    try:
        values = np.load(path, mmap_mode="r")
        return values if values.nbytes > max_memory else np.load(path)
    except ValueError as error:
        if "Object arrays" in str(error) or "Python objects" in str(error):
            raise ValueError(f"{path.name} holds {NO_NUMBERS['O']}") from error
        raise ValueError(f"{path} is cut or damaged ({' '.join(str(error).split())})") from error


def keys_of(path: Path) -> list[str]:
    """The names of the arrays of a .npz or HDF5 file, or of the columns of a Parquet file."""
    if path.suffix.lower() == ".parquet":
        return list(package("pyarrow.parquet", path).read_schema(path).names)
    if path.suffix.lower() == ".npz":
        with zipfile.ZipFile(path) as file:
            return [name.removesuffix(".npy") for name in file.namelist()]
    h5py, names = package("h5py", path), list[str]()
    with h5py.File(path) as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def first_key(path: Path, wanted: Sequence[Any]) -> Any:
    """The first of some keys, each one or several, that a file has; None if it has none, or cannot be read, which `open_array` says.

    Raises:
        ValueError: if a .npz or HDF5 file has several arrays, and none of these.
    """
    try:
        keys = [] if path.suffix.lower() == ".npy" else keys_of(path)
    except (OSError, ValueError, zipfile.BadZipFile):
        return None
    found = next((key for key in wanted if key is not None and set([key] if isinstance(key, str) else key) <= set(keys)), None)
    if found is None and len(keys) > 1 and path.suffix.lower() != ".parquet":
        raise ValueError(f"{path} holds several arrays ({', '.join(keys)}): call the one that is meant x")
    return found


def chosen_key(key: str | tuple[str, ...] | None, keys: Sequence[str], path: Path, others: Sequence[str]) -> str:
    """The key of the array: the one that is asked for, or the only one that nothing else is.

    Raises:
        ValueError: if there is none, or several.
    """
    if not isinstance(key, str | None):
        raise ValueError(f"data.key={list(key)} must be one key: {', '.join(keys)}")
    left = [name for name in keys if name not in others]
    if key is None and len(left) != 1:
        raise ValueError(f"{path} holds {len(keys)} arrays: set data.key to one of {', '.join(keys)}")
    if key is not None and key not in keys:
        raise ValueError(f"{path} has no array {key!r}: set data.key to one of {', '.join(keys)}")
    return left[0] if key is None else key


def read_key(path: Path, key: str, max_memory: int | None) -> Array:
    """An array of a .npz or HDF5 file; of HDF5, one that is larger than max_memory bytes stays there.

    Raises:
        ValueError: if it holds objects.
    """
    if path.suffix.lower() == ".npz":
        try:
            with np.load(path) as file:
                return file[key]
        except ValueError as error:
            raise ValueError(f"{path.name}[{key}] holds {NO_NUMBERS['O']}") from error
    values = H5Array(path, key)
    if max_memory is not None and int(np.prod(values.shape)) * values.dtype.itemsize > max_memory:
        return values
    return np.asarray(values._data[()])


def table_columns(path: Path, key: str | tuple[str, ...] | None, others: Sequence[str]) -> np.ndarray:
    """Columns of a Parquet file side by side; a column of lists of one length is an array by itself.

    Raises:
        ValueError: if there is no such column, or one holds no numbers.
    """
    reader = package("pyarrow.parquet", path)
    try:
        table = reader.read_table(path)
    except ValueError as error:  # as Arrow calls it
        raise OSError(str(error)) from error
    keys = [name for name in table.column_names if name not in others] if key is None else [key] if isinstance(key, str) else list(key)
    absent = [name for name in keys if name not in table.column_names]
    if absent:
        raise ValueError(f"{path} has no column {absent[0]!r}: set data.key to one or several of {', '.join(table.column_names)}")
    columns = [column_of(table, name, path) for name in keys]
    return columns[0] if isinstance(key, str) else np.stack(columns, axis=1)


def column_of(table: Any, name: str, path: Path) -> np.ndarray:
    """A column of a Parquet table.

    Raises:
        ValueError: if it holds neither numbers nor lists of numbers of one length.
    """
    values = table[name].to_numpy()
    if values.dtype.kind == "O" and len(values) and isinstance(values[0], np.ndarray):
        lengths = {len(value) for value in values}
        if len(lengths) > 1:
            raise ValueError(
                f"column {name} of {path.name} holds lists of {min(lengths)} to {max(lengths)} values: make them of one length"
            )
        return np.stack(values)
    if values.dtype.kind in NO_NUMBERS and values.dtype.kind != "O":
        raise ValueError(f"column {name} of {path.name} holds {NO_NUMBERS[values.dtype.kind]}")
    if values.dtype.kind == "O":
        raise ValueError(f"column {name} of {path.name} holds text: choose columns with data.key, or take it as data.y")
    return values


def read_column(path: Path, name: str, count: int, option: str) -> np.ndarray:
    """The values that data.y, data.split or data.group names, one for each example: of a key or column of the file, or of a file.

    Raises:
        ValueError: if it is neither, or has another length.
    """
    own = path.suffix.lower() not in (".npy", ".parquet") and name in keys_of(path)
    try:
        if path.suffix.lower() == ".parquet" and not Path(name).is_file():
            values = package("pyarrow.parquet", path).read_table(path, columns=[name])[name].to_numpy()
        elif own:
            values = np.asarray(read_key(path, name, None))
        elif Path(name).is_file():
            values = np.load(name)
        else:
            raise KeyError(name)
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        there = "" if path.suffix.lower() in (".npy", ".parquet") else f" (it holds {', '.join(keys_of(path))})"
        raise ValueError(f"{option}={name} is neither in {path.name}{there} nor a .npy file that can be read") from error
    if not isinstance(values, np.ndarray) or values.ndim == 0 or len(values) != count:
        length = len(values) if np.ndim(values) else "no axis"
        raise ValueError(f"{option}={name} has length {length}, but there are {count} examples")
    return values


def as_numbers(rows: Shaped[np.ndarray, "..."], keep_bytes: bool) -> Shaped[np.ndarray, "..."]:
    """Values in memory of their own, in a type that torch computes with and this machine's order of bytes.

    Raises:
        ValueError: if whole numbers are too large for 64 bits with a sign.
    """
    kind, size = rows.dtype.kind, rows.dtype.itemsize
    if kind == "u" and not (keep_bytes and size == 1):
        if size == 8 and bool((rows > np.iinfo(np.int64).max).any()):
            place = np.argwhere(rows > np.iinfo(np.int64).max)[0].tolist()
            raise ValueError(f"row {place[0]} has x{place[1:]}={rows[tuple(place)]}, too large for 64 bits with a sign: store real numbers")
        return rows.astype(np.int16 if size == 1 else np.int64)
    if kind == "f" and size not in (2, 4, 8):
        return rows.astype(np.float64)
    return np.array(rows, dtype=rows.dtype.newbyteorder("="), order="C")
