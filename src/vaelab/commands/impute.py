"""Missing cells of a table, filled in by a model that was trained on such tables: what `vaelab impute` does."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig
from rich.progress import track

from vaelab import rng
from vaelab.applications import Completion, importance_resampling
from vaelab.commands.common import check_counts, check_given, chosen_device, chosen_run, prepare_process, shorter
from vaelab.commands.errors import report_errors
from vaelab.data import Table
from vaelab.data.columns import CODED, Column
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
    spread: float
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
    if source.absolute() == target.absolute():
        raise ValueError(f"output={target} is the input: choose another name")
    run, device = chosen_run(config), chosen_device(config)
    trained, columns = run.datamodule.dataset, [Column.of_dict(each) for each in run.datamodule.recorded.get("columns", [])]
    if not isinstance(trained, Table) or not columns:
        raise ValueError("impute fills in tables, and this run was not trained on one: for pictures there is vaelab inpaint")
    if not run.model.missing:
        raise ValueError("this run was trained on complete rows, and has not learned what a row with holes means: train with missing=true")
    if run.model.num_classes:
        raise ValueError(f"this run is conditional on y={trained.y}: train with num_classes=0, or without data.y, to fill in tables")
    table = Table(str(source), na=trained.na, header=trained.header)
    x = torch.from_numpy(table.values(columns)).float()
    run.model.to(device)
    with rng.fork(config.seed):
        found = list(filled(run.model, x, list(table.read), columns, max(config.num, NUM_DRAWS), config.num_samples))
    target.parent.mkdir(parents=True, exist_ok=True)
    paths = [target, *(target.with_stem(f"{target.stem}_{number + 1}") for number in range(config.num))]
    for number, path in enumerate(paths):
        write(path, source, table, {(cell.row, cell.place): cell.draws[number - 1] if number else cell.guess for cell in found})
    spread = target.with_name(f"{target.stem}_spread.csv")
    with spread.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "column", "guess", "spread"])
        writer.writerows([cell.row + 1, cell.column.name, cell.guess, f"{cell.spread:.4g}"] for cell in found)
    left = sum(int((table.read[name] == "").sum()) for name in table.read) - len(found)
    tell(f"{len(found)} cells are filled in" + f"; {left} stay empty, of columns that the model does not know" * bool(left))
    tell("\n".join(str(shorter(path)) for path in [*paths, spread]))


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
    for batch in track(list(rows.split(BATCH)), f"filling in {len(rows)} rows", transient=True):
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
    return Filled(row, place, column, text, spread, column.cells(draws))


def write(path: Path, source: Path, table: Table, cells: dict[tuple[int, int], str]) -> None:
    """The source with some cells filled in; all others are what they were, character by character."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix.lower() == ".tsv" else table.content.separator, lineterminator="\n")
        for row, line in enumerate(table.content.lines, start=-int(table.content.has_header)):
            writer.writerow([cells.get((row, place), cell) for place, cell in enumerate(line)])
