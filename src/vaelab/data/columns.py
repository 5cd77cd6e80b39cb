"""Columns of tables: what kind each is, and its cells as numbers and back. A cell is text, as it stands in the file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from vaelab.checks import KINDS, WITH_CATEGORIES, check_choice

ALIASES = {"pos": "positive", "cat": "categorical", "ord": "ordinal"}  # the words of HI-VAE's files
LEFT_OUT = ("date", "id", "text", "constant", "empty")  # kinds of columns that no model is shown
CODED = (*WITH_CATEGORIES, "binary")
MOST_CATEGORIES = 100  # of text; more are free text
MOST_LEVELS = 10  # of whole numbers that are taken for an order
MOST_COUNTED = 1000  # whole numbers beyond are amounts rather than counts
DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([ T]\d{1,2}:\d{2}.*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}( \d{1,2}:\d{2}.*)?")
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+")


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

    def numbers(self, cells: np.ndarray) -> Float[np.ndarray, "n"]:
        """Numbers of cells, codes where the kind has codes, NaN of empty cells.

        Raises:
            ValueError: if a cell is none that such a column can have, with its row, counted from 1.
        """
        found = to_numbers(cells, self.comma)
        if self.kind in CODED:
            known = {value: code for code, value in enumerate(self.values)}
            words = [plain(cell, number) for cell, number in zip(cells, found, strict=True)]
            codes = np.array([known.get(word, -1) if cell else np.nan for word, cell in zip(words, cells, strict=True)], dtype=float)
            self._check(codes != -1, cells, f"is none of its {len(self.values)} values ({shortened(self.values)})")
            return codes
        empty = cells == ""
        self._check(~np.isnan(found) | empty, cells, "is no number")
        self._check(~np.isinf(found), cells, "is not finite")
        self._check((found > 0) | empty | (self.kind != "positive"), cells, "is not positive, as the values of the column are said to be")
        self._check((found >= 0) | empty | (self.kind not in ("count", "nonnegative")), cells, f"is negative, which no {self.kind} is")
        self._check((found == np.round(found)) | empty | (self.kind != "count"), cells, "is no whole number, as counts are")
        return found

    def cells(self, numbers: Float[np.ndarray, "n"]) -> list[str]:
        """Cells of numbers, as a file would have them."""
        if self.kind in CODED:
            return [self.values[int(np.clip(round(number), 0, len(self.values) - 1))] for number in numbers.tolist()]
        if self.kind == "count":
            return [f"{round(number)}" for number in numbers.tolist()]
        texts = [f"{number:.7g}" for number in numbers.tolist()]
        return [text.replace(".", ",") for text in texts] if self.comma else texts

    def _check(self, right: np.ndarray, cells: np.ndarray, words: str) -> None:
        wrong = np.flatnonzero(~right)
        if len(wrong):
            more = f" (and {len(wrong) - 1} more rows)" if len(wrong) > 1 else ""
            raise ValueError(f"row {wrong[0] + 1}{more}, column {self.name!r}: {cells[wrong[0]]!r} {words}")


def plain(cell: str, number: float) -> str:
    """A cell in the spelling by which equal values are known: 1, 1.0 and 1e0 are one."""
    return cell if np.isnan(number) else f"{number:.15g}"


def shortened(words: Sequence[str], most: int = 6) -> str:
    """The first words of many, in a message."""
    return ", ".join(map(str, words[:most])) + ", ..." * (len(words) > most)


def to_numbers(cells: np.ndarray, comma: bool = False) -> Float[np.ndarray, "n"]:
    """Numbers of cells; NaN of those that are no numbers."""
    unique, inverse = np.unique(cells.astype(str), return_inverse=True)
    return np.array([to_number(cell, comma) for cell in unique.tolist()], dtype=float)[inverse]


def to_number(cell: str, comma: bool = False) -> float:
    """The number that a cell is, NaN if it is none. Python alone takes 1_000 for one."""
    try:
        return float(cell.replace(",", ".") if comma else cell) if "_" not in cell else np.nan
    except ValueError:
        return np.nan


def infer(name: str, cells: np.ndarray) -> tuple[str, bool]:
    """The kind of a column, one of LEFT_OUT for those that no model is shown, and whether its numbers have a decimal comma.

    - two values: binary;
    - whole numbers: of at most 10 values, each on average in 10 rows, ordinal; from 0 to 1,000, count;
    - other numbers: positive if all are above 0, nonnegative if some are 0, else real;
    - text: date; id if no two rows are alike; text, which is free, of more than 100 values or more than half of the rows; else categorical.

    Raises:
        ValueError: if decimal points and commas are mixed, or a few cells among numbers are none.
    """
    given = cells[cells != ""]
    unique = np.unique(given.astype(str))
    if len(unique) < 2:
        return ("constant" if len(unique) else "empty"), False
    comma = has_decimal_comma(name, cells, unique)
    numbers = np.array([to_number(cell, comma) for cell in unique.tolist()])
    if np.isnan(numbers).all() and all(cell.lower() != "nan" for cell in unique):
        return _kind_of_text(len(given), unique), False
    if np.isnan(numbers).any():
        _check_all_numbers(name, cells, unique[np.isnan(numbers)], comma)
        return _kind_of_text(len(given), unique), False
    distinct = len(np.unique(numbers))
    if distinct == 2:
        return "binary", comma
    whole = bool((numbers == np.round(numbers)).all())
    if whole and distinct <= MOST_LEVELS and len(given) >= 10 * distinct:
        return "ordinal", comma
    if whole and numbers.min() >= 0 and numbers.max() <= MOST_COUNTED:
        return "count", comma
    return ("positive" if numbers.min() > 0 else "nonnegative" if numbers.min() == 0 else "real"), comma


def _kind_of_text(num: int, unique: np.ndarray) -> str:
    if all(DATE.fullmatch(cell) for cell in unique[:1000].tolist()):
        return "date"
    if len(unique) == 2:
        return "binary"
    if len(unique) == num and num > 2 * MOST_LEVELS:
        return "id"
    return "text" if len(unique) > min(MOST_CATEGORIES, max(num / 2, MOST_LEVELS)) else "categorical"


def has_decimal_comma(name: str, cells: np.ndarray, unique: np.ndarray) -> bool:
    """True if the numbers of a column are written with a decimal comma.

    Raises:
        ValueError: if only some are, or it cannot be told from a mark of thousands.
    """
    with_comma = [cell for cell in unique.tolist() if DECIMAL_COMMA.fullmatch(cell)]
    if not with_comma or any(np.isnan(to_number(cell, True)) for cell in unique.tolist()):
        return False
    row = int(np.flatnonzero(cells == with_comma[0])[0]) + 1
    where = f"row {row}, column {name!r}: {with_comma[0]!r}"
    if any("." in cell for cell in unique.tolist()):
        raise ValueError(f"{where} has a decimal comma, but other rows have a decimal point: write all numbers with a point")
    if all(THOUSANDS.fullmatch(cell) for cell in with_comma):
        raise ValueError(
            f"{where} may be a decimal comma or a mark of thousands: write the numbers of this column with a point, or without"
        )
    return True


def _check_all_numbers(name: str, cells: np.ndarray, words: np.ndarray, comma: bool) -> None:
    given = int((cells != "").sum())
    is_word = np.isin(cells, words)
    if is_word.sum() <= 0.05 * given and len(words) <= 5:
        row = int(np.flatnonzero(is_word)[0]) + 1
        raise ValueError(
            f"row {row}, column {name!r}: {cells[row - 1]!r} is no number, but almost all of this column are: if it stands for a missing"
            f" value, add it to data.na; else set +data.columns.{name}=categorical"
        )


def build_column(name: str, cells: np.ndarray, kind: str, values: Sequence[str] | None = None, comma: bool = False) -> Column:
    """A column of a kind, with the values that its cells have, or those that are given, which keep their order.

    "positive" of a column in which 0 occurs becomes "nonnegative".

    Raises:
        ValueError: if the kind is unknown, or cells cannot be of it.
    """
    kind = ALIASES.get(kind, kind)
    check_choice(KINDS, **{f"data.columns.{name}": kind})
    if kind not in CODED:
        if kind == "positive" and bool((to_numbers(cells, comma) == 0).any()):
            kind = "nonnegative"
        return Column(name, kind, comma=comma)
    unique = np.unique(cells[cells != ""].astype(str)).tolist()
    numbers = {cell: to_number(cell, comma) for cell in unique}
    words = [str(value) for value in values or ()]
    if words:
        found = [plain(word, to_number(word)) for word in words]
    elif any(np.isnan(number) for number in numbers.values()):
        found = unique
    else:
        found = [f"{number:.15g}" for number in sorted(set(numbers.values()))]
    most = 2 if kind == "binary" else len(found)
    if len(found) != most or len(found) < 2:
        raise ValueError(f"column {name!r} cannot be {kind}: it has {len(found)} values ({shortened(found)})")
    return Column(name, kind, tuple(found), comma)
