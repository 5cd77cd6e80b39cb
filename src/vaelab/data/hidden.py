"""Cells of a table that are hidden on purpose, so that what is filled in can be held against what they are."""

import csv
from pathlib import Path

import numpy as np
from jaxtyping import Bool


def read_hidden(path: Path, shape: tuple[int, int]) -> Bool[np.ndarray, "n d"]:
    """The cells that a file hides, one a line: its row and its column, counted from 1, without a line of names (as those of HI-VAE).

    Args:
        path: of a csv file.
        shape: rows and columns of the table, those among them that no model is shown.

    Raises:
        ValueError: if the file cannot be read, or names a cell that the table does not have.
    """
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"data.hidden={path} cannot be read ({error}): it must hold the row and column of each cell, as csv") from error
    hidden = np.zeros(shape, dtype=bool)
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            row, column = map(int, line)
        except ValueError as error:
            raise ValueError(f"data.hidden={path}, line {number}: {','.join(line)!r} must be a row and a column, such as 17,3") from error
        if not (1 <= row <= shape[0] and 1 <= column <= shape[1]):
            raise ValueError(f"data.hidden={path}, line {number}: no row {row}, column {column} in {shape[0]} rows and {shape[1]} columns")
        hidden[row - 1, column - 1] = True
    return hidden
