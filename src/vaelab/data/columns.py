"""Columns of tables, and their cells as numbers and back. A cell is text, as it stands in the file."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vaelab.checks import WITH_CATEGORIES

ALIASES = {"pos": "positive", "cat": "categorical", "ord": "ordinal"}  # the words of HI-VAE's files
LEFT_OUT = ("date", "id", "text", "constant", "empty")  # kinds of columns that no model is shown
CODED = (*WITH_CATEGORIES, "binary")


class Unseen(NamedTuple):
    """A cell that is none of the values of its column.

    Args:
        row: from 1.
        column: its name.
        cell: as in the file.
    """

    row: int
    column: str
    cell: str


@dataclass(frozen=True)
class Column:
    """A column that models see.

    Args:
        name: as in the file.
        kind: one of `vaelab.checks.KINDS`.
        values: cells of the codes 0, 1, ..., of kinds that have codes.
        comma: whether numbers are written with a decimal comma.
    """

    name: str
    kind: str
    values: tuple[str, ...] = ()
    comma: bool = False

    @property
    def for_model(self) -> str | list[str | int]:
        """The kind as likelihoods and networks take it; see `vaelab.checks.check_columns`."""
        return [self.kind, len(self.values)] if self.kind in WITH_CATEGORIES else self.kind

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for a file."""
        return {**asdict(self), "values": list(self.values)}

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> "Column":
        """The column that a file holds."""
        return cls(**{**values, "values": tuple(values["values"])})

    def numbers(self, cells: Sequence[str], start: int = 0, unseen: list[Unseen] | None = None) -> Float[np.ndarray, "n"]:
        """Numbers of cells, codes where the kind has codes, NaN of empty cells.

        Args:
            cells: some of the column.
            start: how many rows there are before them.
            unseen: takes the cells that are none of the values of the column, and then are NaN; None: there must be none.

        Raises:
            ValueError: if a cell is none that such a column can have, with its row, counted from 1.
        """
        if self.kind in CODED:
            known: dict[str, float] = {value: code for code, value in enumerate(self.values)}
            code_of = {cell: known.get(plain(cell, to_number(cell, self.comma)), -1.0) if cell else np.nan for cell in set(cells)}
            codes = np.fromiter(map(code_of.__getitem__, cells), float, len(cells))
            if unseen is None:
                words = f"is none of its {len(self.values)} values ({shortened(self.values)})"
                self._check(
                    codes != -1, cells, f"{words}: leave the row out, or train with missing=true, which takes it for missing", start
                )
            else:
                unseen.extend(Unseen(start + row + 1, self.name, cells[row]) for row in np.flatnonzero(codes == -1).tolist())
            return np.where(codes == -1, np.nan, codes)
        found = to_numbers(cells, self.comma)
        empty = np.fromiter((not cell for cell in cells), bool, len(cells))
        is_amount, is_count = self.kind == "positive", self.kind == "count"
        self._check(~np.isnan(found) | empty, cells, "is no number", start)
        self._check(~np.isinf(found), cells, "is not finite", start)
        self._check(~(np.abs(found) > np.finfo(np.float32).max), cells, "is too large for 32 bits: divide the column", start)
        lost = (found != 0) & (found.astype(np.float32) == 0)
        self._check(~lost | (not is_amount), cells, "is too small for 32 bits: multiply the column", start)
        self._check((found > 0) | empty | (not is_amount), cells, "is not positive, as the values of the column are said to be", start)
        may_be_negative = self.kind not in ("count", "nonnegative")
        self._check((found >= 0) | empty | may_be_negative, cells, f"is negative, which no {self.kind} is", start)
        self._check((found == np.round(found)) | empty | (not is_count), cells, "is no whole number, as counts are", start)
        return found

    def codes(self, numbers: Float[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        """The codes that are nearest to numbers, which some likelihoods do not know to be codes."""
        return np.clip(np.round(numbers), 0, len(self.values) - 1).astype(int)

    def cells(self, numbers: Float[np.ndarray, "n"]) -> list[str]:
        """Cells of numbers, as a file would have them."""
        if self.kind in CODED:
            texts = [self.values[code] for code in self.codes(numbers).tolist()]
        elif self.kind == "count":
            texts = [f"{round(number)}" for number in numbers.tolist()]
        else:
            texts = [f"{number:.7g}" for number in numbers.tolist()]
        return [with_comma(text, self.comma) for text in texts]

    def _check(self, right: np.ndarray, cells: Sequence[str], words: str, start: int) -> None:
        wrong = np.flatnonzero(~right)
        if len(wrong):
            more = f" (and {len(wrong) - 1} more rows)" if len(wrong) > 1 else ""
            raise ValueError(f"row {start + wrong[0] + 1}{more}, column {self.name!r}: {cells[wrong[0]]!r} {words}")


def with_comma(number: str, comma: bool) -> str:
    """A number with a decimal comma in place of its point, if it is to have one."""
    return number.replace(".", ",") if comma else number


def plain(cell: str, number: float) -> str:
    """A cell in the spelling by which equal values are known: 1, 1.0 and 1e0 are one."""
    return cell if np.isnan(number) else f"{number:.15g}"


def shortened(words: Sequence[str], most: int = 6) -> str:
    """The first words of many, in a message."""
    return ", ".join(map(str, words[:most])) + ", ..." * (len(words) > most)


def to_numbers(cells: Sequence[str], comma: bool = False) -> Float[np.ndarray, "n"]:
    """Numbers of cells; NaN of those that are no numbers."""
    known = {cell: to_number(cell, comma) for cell in set(cells)}
    return np.fromiter(map(known.__getitem__, cells), float, len(cells))


def to_number(cell: str, comma: bool = False) -> float:
    """The number that a cell is, NaN if it is none. Python alone takes 1_000 for one."""
    try:
        return float(cell.replace(",", ".") if comma else cell) if "_" not in cell else np.nan
    except ValueError:
        return np.nan
