"""Missing cells of a table, filled in by a model that was trained on such tables: what `vaelab impute` does."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import torch
from omegaconf import DictConfig
from rich.progress import track

from vaelab import rng
from vaelab.applications import Completion, importance_resampling
from vaelab.commands.common import check_counts, check_given, chosen_device, chosen_run, prepare_process, shorter
from vaelab.commands.errors import report_errors
from vaelab.commands.pictures import table_columns
from vaelab.commands.writing import check_not_read, in_place_of
from vaelab.data import Table
from vaelab.data.columns import CODED, Column, Unseen, with_comma
from vaelab.data.table import check_columns, noted, numbers_of
from vaelab.data.table_files import BLOCK, Record, TableFile, with_cells
from vaelab.models import Model
from vaelab.runs.log import tell

BATCH = 64  # rows that are filled in at a time
NUM_DRAWS = 100  # of each row, from which codes are guessed


class Filled(NamedTuple):
    """A cell that was missing.

    Args:
        row, place: of the row, and of the column among those of the file, both from 0.
        column: that it is of.
        guess: the mean, or the most frequent code.
        spread: the standard deviation, or the share of draws that are other codes.
        draws: of it.
    """

    row: int
    place: int
    column: Column
    guess: str
    spread: str
    draws: list[str]


@report_errors
def impute(config: DictConfig) -> None:
    """Write the input with its missing cells filled in, and how sure that is.

    Raises:
        ValueError: if the run is not of tables with missing values, or a file cannot be read or written.
    """
    prepare_process()
    check_given(config)
    check_counts(config, num=0, num_samples=1)
    source, target = Path(config.input), Path(config.output)
    for key, path in (("input", source), ("output", target)):
        if path.suffix.lower() not in (".csv", ".tsv"):
            raise ValueError(f"{key}={path} must be a csv or tsv file")
    if not source.is_file():
        raise ValueError(f"input={source} is not there: give a table")
    run, device = chosen_run(config), chosen_device(config)
    trained, columns = run.datamodule.dataset, table_columns(run.datamodule)
    if not isinstance(trained, Table):
        raise ValueError("impute fills in tables, and this run was not trained on one: for pictures there is vaelab inpaint")
    if not run.model.missing:
        raise ValueError("this run was trained on complete rows, and has not learned what a row with holes means: train with missing=true")
    if run.model.num_classes:
        raise ValueError(f"this run is conditional on y={trained.y}: train with num_classes=0, or without data.y, to fill in tables")
    file = TableFile(source, trained.na, trained.header)
    run.model.to(device)
    spread = target.with_name(f"{target.stem}_spread.csv")
    paths = [target, *(target.with_stem(f"{target.stem}_{number + 1}") for number in range(config.num)), spread]
    check_not_read(target, paths, run, source)
    with rng.fork(config.seed), ExitStack() as stack:
        outputs = [Output(stack.enter_context(part_of(path, file.encoding if path != spread else "utf-8")), path, file) for path in paths]
        told = fill(run.model, file, columns, outputs[:-1], outputs[-1], config.num_samples)
    tell(told)
    tell("\n".join(str(shorter(path)) for path in paths))


@contextmanager
def part_of(path: Path, encoding: str) -> Iterator[TextIO]:
    """A file to write to, which has its name when all of it is written; see `in_place_of`."""
    with in_place_of(path) as part, part.open("w", encoding=encoding, newline="") as file:
        yield file


class Output:
    """A table that is written, line by line.

    Args:
        file: to write to.
        path: that it will have.
        source: the table whose lines are written.
    """

    def __init__(self, file: TextIO, path: Path, source: TableFile) -> None:
        was_tsv, is_tsv = (each.suffix.lower() == ".tsv" for each in (source.path, path))
        self.file, self.separator = file, "\t" if is_tsv else "," if was_tsv else source.separator
        self.is_alike = self.separator == source.separator
        self.writer = csv.writer(file, delimiter=self.separator, lineterminator="\n")

    def write(self, record: Record, cells: dict[int, str]) -> None:
        """Write a line with some cells filled in; all else is what it was, character by character, if the separator is the same."""
        if self.is_alike:
            self.file.write(with_cells(record.text, cells, self.separator) if cells else record.text)
        elif record.cells:
            self.writer.writerow([cells.get(place, cell) for place, cell in enumerate(record.cells)])


def fill(model: Model, file: TableFile, columns: Sequence[Column], outputs: Sequence[Output], spread: Output, num_samples: int) -> str:
    """Write the file with its missing cells filled in, BLOCK rows at a time; return how many there were, for a person.

    Args:
        outputs: the first one gets the best guesses, the others draws.
        spread: gets a line for each cell that was missing.

    Raises:
        ValueError: if the file lacks a column, or has a cell that a column cannot have.
    """
    check_columns(columns, file)
    spread.writer.writerow(["row", "column", "guess", "spread"])
    lines, start, num_filled, num_left, unseen = file.records(), 0, 0, 0, list[Unseen]()
    for record in lines if file.has_header else ():
        for output in outputs:
            output.write(record, {})
        if record.cells:
            break
    for part in track(iter(lambda: list(islice(lines, BLOCK)), []), "filling in", transient=True):
        rows = [record for record in part if record.cells]
        block = file.block(list(zip(*(record.cells for record in rows), strict=True)) or [[]] * len(file.names))
        x = torch.from_numpy(numbers_of(block, columns, start, unseen)).float()
        cells: dict[int, list[Filled]] = {}
        for cell in filled(model, x, file.names, columns, max(len(outputs) - 1, NUM_DRAWS), num_samples):
            if not block[cell.column.name][cell.row]:  # else it is a category that the run does not know
                cells.setdefault(cell.row, []).append(cell)
                spread.writer.writerow([start + cell.row + 1, cell.column.name, cell.guess, cell.spread])
        for number, output in enumerate(outputs):
            row = 0
            for record in part:
                mine = cells.get(row, ()) if record.cells else ()
                output.write(record, {cell.place: cell.draws[number - 1] if number else cell.guess for cell in mine})
                row += bool(record.cells)
        new = sum(map(len, cells.values()))
        num_filled, num_left, start = num_filled + new, num_left + sum(cells.count("") for cells in block.values()) - new, start + len(rows)
    left = f"; {num_left} stay empty, of columns that the model does not know" * bool(num_left)
    return "\n".join(filter(None, [f"{num_filled} cells are filled in{left}", noted(unseen)]))


def filled(
    model: Model,
    x: torch.Tensor,
    names: Sequence[str],
    columns: Sequence[Column],
    num_draws: int,
    num_samples: int,
) -> Iterator[Filled]:
    """The missing cells of x, row by row."""
    rows = x.isnan().any(1).nonzero().flatten()
    for batch in rows.split(BATCH) if len(rows) else ():  # split makes an empty part of nothing
        part = x[batch].to(model.device)
        found = importance_resampling(model, part, ~part.isnan(), None, num_draws, num_samples)
        for place, row in enumerate(batch.tolist()):
            for j in x[row].isnan().nonzero().flatten().tolist():
                yield cell_of(row, names.index(columns[j].name), columns[j], found, (place, j))


def cell_of(row: int, place: int, column: Column, found: Completion, where: tuple[int, int]) -> Filled:
    """A cell as it is written."""
    draws = found.x[(slice(None), *where)].double().cpu().numpy()
    guess, spread = float(found.mean[where]), float(found.std[where])
    if column.kind in CODED:
        codes, counts = np.unique(draws, return_counts=True)
        guess, spread = float(codes[counts.argmax()]), 1 - counts.max() / len(draws)
    (text,) = column.cells(np.array([guess]))
    return Filled(row, place, column, text, with_comma(f"{spread:.4g}", column.comma), column.cells(draws))
