"""Files of rows, written a batch at a time, so that memory does not grow with their number; only .npz is written at once."""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vaelab.build import OpenedRun
from vaelab.data.array_files import package

SEPARATORS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (*SEPARATORS, ".npz", ".parquet")
ADVICE = "pip install 'vaelab[tables]', or write a csv file"
Columns = Mapping[str, np.ndarray]  # of a batch, by name: text, or numbers (B,); of .npz, also arrays (B, ...)


def check_ending(target: Path, endings: Sequence[str] = ENDINGS) -> None:
    """Check that a file of this name can be written.

    Raises:
        ValueError: if its ending is none of those, or what a parquet file needs is not installed.
    """
    if target.suffix.lower() not in endings:
        raise ValueError(f"output={target} must end in {', '.join(endings)}")
    if target.suffix.lower() == ".parquet":
        package("pyarrow", target, ADVICE)


def check_not_read(output: str | Path, targets: Iterable[Path], run: OpenedRun, source: Any) -> None:
    """Check that no file which will be written is the input of a command, or the data of its run.

    Raises:
        ValueError: if one is.
    """
    for target in targets:
        for words, path in (("the input", source), ("the data of the run", run.config.data.get("file"))):
            if path and target.exists() and Path(path).exists() and target.samefile(path):
                which = "" if target == Path(output) else f" writes {target.name} too, which"
                raise ValueError(f"output={output}{which} is {words}: choose another name")


@contextmanager
def in_place_of(target: Path) -> Iterator[Path]:
    """Path of a part file, which becomes the target when all is written; of a file that cannot be finished nothing is left.

    Raises:
        ValueError: if the target lies in what is no folder.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"output={target} lies in {error.filename}, which is no folder") from error
    part = target.with_name(f".{target.name}.part{target.suffix.lower()}")
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def write_rows(target: Path, batches: Iterable[Columns]) -> None:
    """Write batches of columns in the format of the ending: csv, tsv, npz or parquet.

    Raises:
        ValueError: if what a parquet file needs is not installed.
    """
    with in_place_of(target) as part:
        if part.suffix == ".npz":
            found = list(batches)
            np.savez(part, **{name: np.concatenate([each[name] for each in found]) for name in found[0]})  # type: ignore[arg-type]
        elif part.suffix == ".parquet":
            write_parquet(part, batches)
        else:
            write_lines(part, batches)


def write_lines(path: Path, batches: Iterable[Columns]) -> None:
    """Write batches of columns as lines of text."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=SEPARATORS[path.suffix], lineterminator="\n")
        for number, batch in enumerate(batches):
            if not number:
                writer.writerow(batch)
            writer.writerows(zip(*map(cells, batch.values()), strict=True))


def cells(values: np.ndarray) -> list[str]:
    """The text of values: nine digits, which tell any two numbers of 32 bits apart."""
    return [f"{value:.9g}" for value in values.tolist()] if values.dtype.kind == "f" else list(map(str, values.tolist()))


def write_parquet(path: Path, batches: Iterable[Columns]) -> None:
    """Write batches of columns as groups of rows."""
    pyarrow, parquet = package("pyarrow", path, ADVICE), package("pyarrow.parquet", path, ADVICE)
    with ExitStack() as stack:
        writer: Any = None
        for batch in batches:
            table = pyarrow.table({name: pyarrow.array(values) for name, values in batch.items()})
            writer = writer or stack.enter_context(parquet.ParquetWriter(path, table.schema))
            writer.write_table(table)


def write_array(target: Path, batches: Iterable[np.ndarray], num_rows: int) -> None:
    """Write batches (B, ...) as one array (num_rows, ...), a .npy file that is mapped into memory."""
    with in_place_of(target) as part:
        array, start = None, 0
        for batch in batches:
            if array is None:
                array = np.lib.format.open_memmap(part, "w+", batch.dtype, (num_rows, *batch.shape[1:]))
            array[start : start + len(batch)] = batch
            start += len(batch)


def check_new_folder(folder: Path) -> None:
    """Check that files can be written into a folder without being mixed with others.

    Raises:
        ValueError: if the folder holds files already, or is a file.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"output={folder} holds files already: give the name of a new folder, or remove it")


def write_pictures(folder: Path, pictures: Iterable[tuple[str, Image.Image]]) -> None:
    """Write pictures (name, picture) as png files, named by their number and by that name.

    Raises:
        ValueError: as `check_new_folder`.
    """
    check_new_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, picture) in enumerate(pictures):
        words = "_".join(filter(None, [f"{number:06}", re.sub(r"[^\w.+-]+", "_", name)]))
        picture.save(folder / f"{words}.png")
