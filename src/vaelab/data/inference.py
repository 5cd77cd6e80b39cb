"""The kinds of columns of tables, inferred from all of their cells, which are looked at once and not kept."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from vaelab.checks import KINDS, check_choice
from vaelab.data.columns import ALIASES, CODED, Column, plain, shortened, to_number

MOST_WORDS = 20_000  # different cells of a column that are remembered
MOST_CATEGORIES = 100  # of text; more are free text
MOST_LEVELS = 10  # of whole numbers that are taken for an order
MOST_COUNTED = 1000  # whole numbers beyond are amounts rather than counts
MOST_MISTAKES = 5  # different words among numbers that are taken for mistakes
DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([ T]\d{1,2}:\d{2}.*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}( \d{1,2}:\d{2}.*)?")
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+")


class Summary:
    """All that is remembered of the cells of a column: the different ones, and of each row which it has.

    Of a column with more than MOST_WORDS different cells, such as real numbers, the first ones, and of the others how large they are.
    """

    def __init__(self) -> None:
        self.num = 0  # cells
        self.is_numbered = {0, 1}  # whether cells are 0, 1, 2, ... or 1, 2, 3, ...
        self._code_of: dict[str, int] = {"": 0}  # the empty one is remembered, wherever it comes first
        self._first: list[int] = [0]  # row of each different cell, from 0
        self._counts: list[int] = []
        self._codes: list[np.ndarray] = []
        self._hashes: list[np.ndarray] | None = []  # of cells, as long as no two are the same; a hash stands for a cell, in 8 bytes
        self.has_more = False  # different cells than are remembered; what follows is of these alone
        self.low, self.high, self.is_whole, self.has_zero, self.has_point = np.inf, -np.inf, True, False, False
        self.odd: dict[str, int] = {}  # the first ones that are no numbers, and their rows
        self.num_odd = 0
        self.comma: tuple[str, int] | None = None  # the first with a comma, and its row

    def add(self, cells: Sequence[str]) -> None:
        """More cells, below those before."""
        for start in tuple(self.is_numbered):
            if cells[0] != str(self.num + start) or list(cells) != [str(self.num + start + row) for row in range(len(cells))]:
                self.is_numbered.discard(start)
        if self._hashes is not None:
            self._hashes.append(np.fromiter(map(hash, cells), np.int64, len(cells)))
            if len(set(cells)) < len(cells):
                self._hashes = None
        if self.has_more:
            self._look_at(cells)
        else:
            for row, cell in enumerate(cells, self.num):
                if cell not in self._code_of:
                    self._code_of[cell] = len(self._first)
                    self._first.append(row)
            self._codes.append(np.fromiter(map(self._code_of.__getitem__, cells), np.uint16, len(cells)))
            if len(self._first) > MOST_WORDS:
                self._counts = np.bincount(np.concatenate(self._codes)).tolist()
                self.has_more, self._codes = True, []
        self.num += len(cells)

    def _look_at(self, cells: Sequence[str]) -> None:
        for row, cell in enumerate(cells, self.num):
            code = self._code_of.get(cell)
            if code is not None:
                self._counts[code] += 1
                continue
            number = to_number(cell, True)
            if np.isnan(number):
                self.num_odd += 1
                if len(self.odd) <= MOST_MISTAKES:
                    self.odd.setdefault(cell, row)
                continue
            self.low, self.high = min(self.low, number), max(self.high, number)
            self.is_whole, self.has_zero = self.is_whole and number.is_integer(), self.has_zero or number == 0
            self.has_point = self.has_point or "." in cell
            if "," in cell and self.comma is None:
                self.comma = cell, row

    @property
    def words(self) -> list[str]:
        """The different cells that are remembered, without the empty one."""
        return [word for word in self._code_of if word]

    @property
    def num_given(self) -> int:
        """The number of cells that are not empty."""
        return self.num - self.count("")

    @property
    def are_different(self) -> bool:
        """True if no cell is empty, and no two are the same."""
        return self._hashes is not None and not self.count("") and len(np.unique(np.concatenate(self._hashes))) == self.num

    def count(self, word: str) -> int:
        """The number of cells with a word that is remembered."""
        code = self._code_of.get(word)
        if code is None:
            return 0
        return self._counts[code] if self.has_more else sum(int((codes == code).sum()) for codes in self._codes)

    def row(self, word: str) -> int:
        """The first row with a word that is remembered, from 1."""
        return self._first[self._code_of[word]] + 1

    def words_of(self, rows: Int[np.ndarray, "n"]) -> list[str]:
        """The different cells of some rows, without the empty one, of a column all of whose cells are remembered."""
        words = list(self._code_of)
        return [words[code] for code in np.unique(np.concatenate(self._codes)[rows]) if words[code]]


def infer(name: str, cells: Summary) -> tuple[str, bool]:
    """The kind of a column, one of LEFT_OUT for those that no model is shown, and whether its numbers have a decimal comma.

    - two values: binary;
    - whole numbers: of at most 10 values, each on average in 10 rows, ordinal; from 0 to 1,000, count;
    - other numbers: positive if all are above 0, nonnegative if some are 0, else real;
    - text: date; id if no row is empty and no two are alike; text, which is free, of more than 100 values or more than half of the rows;
      else categorical.

    Raises:
        ValueError: if decimal points and commas are mixed, or a few cells among numbers are none.
    """
    words = cells.words
    if len(words) < 2:
        return ("constant" if words else "empty"), False
    comma = has_decimal_comma(name, cells)
    numbers = np.array([to_number(word, comma) for word in words])
    odd = np.isnan(numbers)
    if (odd.any() or cells.num_odd) and not (odd.all() and all(word.lower() != "nan" for word in words)):
        check_all_numbers(name, cells, [word for word, is_odd in zip(words, odd, strict=True) if is_odd], comma)
    if odd.any() or cells.num_odd:
        return kind_of_text(cells), False
    distinct, most = len(set(numbers.tolist())), max(float(numbers.max()), cells.high)
    low, whole = min(float(numbers.min()), cells.low), bool((numbers == np.round(numbers)).all()) and cells.is_whole
    if distinct == 2:
        return "binary", comma
    if whole and distinct <= MOST_LEVELS and cells.num_given >= 10 * distinct:
        return "ordinal", comma
    if whole and low >= 0 and most <= MOST_COUNTED:
        return "count", comma
    return ("positive" if low > 0 else "nonnegative" if low == 0 else "real"), comma


def kind_of_text(cells: Summary) -> str:
    """The kind of a column that is not of numbers."""
    words, num = cells.words, cells.num_given
    if all(DATE.fullmatch(word) for word in words[:1000]):
        return "date"
    if len(words) == 2:
        return "binary"
    if num > 2 * MOST_LEVELS and cells.are_different:
        return "id"
    return "text" if len(words) > min(MOST_CATEGORIES, max(num / 2, MOST_LEVELS)) else "categorical"


def has_decimal_comma(name: str, cells: Summary) -> bool:
    """True if the numbers of a column are written with a decimal comma.

    Raises:
        ValueError: if only some are, or it cannot be told from a mark of thousands.
    """
    words = cells.words
    with_comma = [word for word in words if DECIMAL_COMMA.fullmatch(word)]
    if not (with_comma or cells.comma) or cells.num_odd or any(np.isnan(to_number(word, True)) for word in words):
        return False
    word, row = (with_comma[0], cells.row(with_comma[0])) if with_comma else (cells.comma[0], cells.comma[1] + 1)  # type: ignore[index]
    where = f"row {row}, column {name!r}: {word!r}"
    if cells.has_point or any("." in word for word in words):
        raise ValueError(f"{where} has a decimal comma, but other rows have a decimal point: write all numbers with a point")
    if with_comma and all(THOUSANDS.fullmatch(word) for word in with_comma):
        raise ValueError(
            f"{where} may be a decimal comma or a mark of thousands: write the numbers of this column with a point, or without"
        )
    return True


def codes_have_decimal_comma(name: str, cells: Summary) -> bool:
    """True if values that become codes are numbers with a decimal comma, as far as it can be told; else they are words."""
    try:
        return has_decimal_comma(name, cells)
    except ValueError:
        return False


def check_all_numbers(name: str, cells: Summary, odd: Sequence[str], comma: bool) -> None:
    """Raise if a few cells of a column are no numbers, and all others are.

    Raises:
        ValueError: if so, with the first of them.
    """
    num = sum(map(cells.count, odd)) + cells.num_odd
    if num <= 0.05 * cells.num_given and len(odd) + len(cells.odd) <= MOST_MISTAKES:
        rows = {word: cells.row(word) for word in odd} | {word: row + 1 for word, row in cells.odd.items()}
        word, row = min(rows.items(), key=lambda item: item[1])
        raise ValueError(
            f"row {row}, column {name!r}: {word!r} is no number, but almost all of this column are: if it stands for a missing"
            f" value, add it to data.na; else set +data.columns.{name}=categorical"
        )


def build_column(
    name: str,
    cells: Summary,
    kind: str,
    values: Sequence[str] | None = None,
    comma: bool = False,
    rows: Int[np.ndarray, "n"] | None = None,
) -> Column:
    """A column of a kind, with the values of its cells, or those that are given, which keep their order.

    "positive" of a column in which 0 occurs becomes "nonnegative".

    Args:
        rows: whose values are those of the column, if it has two or more there and is not binary; None: all.

    Raises:
        ValueError: if the kind is unknown, or cells cannot be of it.
    """
    kind = ALIASES.get(kind, kind)
    check_choice(KINDS, **{f"data.columns.{name}": kind})
    if kind not in CODED:
        if kind == "positive" and (cells.has_zero or any(to_number(word, comma) == 0 for word in cells.words)):
            kind = "nonnegative"
        return Column(name, kind, comma=comma)
    if cells.has_more:
        raise ValueError(f"column {name!r} cannot be {kind}: it has more than {MOST_WORDS:,} values ({shortened(cells.words)})")
    found = in_order(cells.words, comma)
    if values:
        found = [plain(str(value), to_number(str(value), comma)) for value in values]
        twice = next((value for value in found if found.count(value) > 1), None)
        if twice is not None:
            raise ValueError(f"data.columns.{name}: {kind} has the value {twice!r} twice")
        other = next((word for word in cells.words if plain(word, to_number(word, comma)) not in found), None)
        if other is not None:
            raise ValueError(f"row {cells.row(other)}, column {name!r}: {other!r} is none of its {len(found)} values ({shortened(found)})")
    elif rows is not None and kind != "binary":
        some = in_order(cells.words_of(rows), comma)
        found = some if len(some) >= 2 else found
    most = 2 if kind == "binary" else len(found)
    if len(found) != most or len(found) < 2:
        raise ValueError(f"column {name!r} cannot be {kind}: it has {len(found)} values ({shortened(found)})")
    return Column(name, kind, tuple(found), comma)


def in_order(words: Sequence[str], comma: bool) -> list[str]:
    """Different values of cells: numbers by size, each in one spelling; if one is none, words by the alphabet."""
    numbers = [to_number(word, comma) for word in words]
    if np.isnan(numbers).any():
        return sorted({plain(word, number) for word, number in zip(words, numbers, strict=True)})
    return [f"{number:.15g}" for number in sorted(set(numbers))]
