"""Checks of arguments: one line where an argument comes in, one sentence for whoever got it wrong.

Each check takes arguments by name, `check_at_least(1, num_samples=num_samples)`, and names the one that is wrong. Of a sequence every
number is checked, and there must be one. `check_at_least(1, **given(num_images=num_images))` allows None.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any


def given(**values: Any) -> dict[str, Any]:
    """Those values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def check_choice(choices: Iterable[Any], **values: Any) -> None:
    """Check that values are among some choices.

    Raises:
        ValueError: if one is not, with the choices.
    """
    known = list(choices)
    for name, value in values.items():
        if value not in known:
            raise ValueError(f"{name}={value} is unknown: choose {listed(known)}")


def check_flag(**values: Any) -> None:
    """Check that values are true or false: words such as no, and numbers, are true for Python.

    Raises:
        ValueError: if one is not.
    """
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value} must be true or false")


def check_at_least(least: float, **values: Any) -> None:
    """Check that numbers are not smaller than another.

    Raises:
        ValueError: if one is, or is NaN.
    """
    check_all(lambda number: number >= least, f"at least {least:g}", values)


def check_positive(**values: Any) -> None:
    """Check that numbers are larger than 0.

    Raises:
        ValueError: if one is not, or is NaN.
    """
    check_all(lambda number: number > 0, "positive", values)


def check_whole(least: int, **values: Any) -> None:
    """Check that values are whole numbers, not smaller than another.

    Raises:
        ValueError: if one is not.
    """
    check_all(lambda number: isinstance(number, Integral) and int(number) >= least, f"a whole number of at least {least}", values)


def check_widths(**values: Sequence[int]) -> None:
    """Check the widths of layers, of which there may be none.

    Raises:
        ValueError: if one is not a whole number of at least 1.
    """
    check_whole(1, **{name: widths for name, widths in values.items() if len(widths)})


def check_all(holds: Callable[[Any], bool], what: str, values: Mapping[str, Any]) -> None:
    """Check that values are numbers, not booleans, for which something holds.

    Args:
        holds: whether it does for a number.
        what: they must be, in words.
        values: by name.

    Raises:
        ValueError: if it does not hold for one.
    """
    for name, value in values.items():
        is_sequence = isinstance(value, Sequence) and not isinstance(value, str)
        numbers = list(value) if is_sequence else [value]
        right = [isinstance(number, Real) and not isinstance(number, bool) and holds(number) for number in numbers]
        if not numbers:
            raise ValueError(f"{name}=[] must hold at least one number")
        if not all(right):
            raise ValueError(f"{name}={numbers if is_sequence else value} must be {what}")


def listed(words: Iterable[Any]) -> str:
    """Words in a sentence: "a, b or c"."""
    *first, last = map(str, words)
    return " or ".join(filter(None, [", ".join(first), last]))


KINDS = ("real", "positive", "nonnegative", "count", "ordinal", "categorical", "binary")
WITH_CATEGORIES = ("ordinal", "categorical")


def check_columns(num: int, columns: Sequence[str | Sequence[Any]]) -> list[tuple[str, int]]:
    """The kind of each column of a table, and its number of categories: 0 where it has none, 2 of "binary".

    Args:
        num: of the columns that there are.
        columns: the kind of each, such as "real"; with its number of categories where it has some: ["categorical", 7].

    Raises:
        ValueError: if there are not as many, a kind is unknown, or categories are not counted.
    """
    if isinstance(columns, str) or not isinstance(columns, Sequence) or len(columns) != num:
        count = 0 if isinstance(columns, str) or not isinstance(columns, Sequence) else len(columns)
        raise ValueError(
            f"columns={columns} must be a list of {num} kinds, one for each value of x, but there are {count}: data=table finds them"
        )
    found: list[tuple[str, int]] = []
    for place, column in enumerate(columns):
        kind, *sizes = [column] if isinstance(column, str) else list(column)
        check_choice(KINDS, **{f"columns[{place}]": kind})
        size = sizes[0] if len(sizes) == 1 else 0
        if (kind in WITH_CATEGORIES) != (len(sizes) == 1) or (kind in WITH_CATEGORIES and not (isinstance(size, int) and size >= 2)):
            raise ValueError(
                f"columns[{place}]={column} must be one of real, positive, nonnegative, count and binary, or a list of ordinal or"
                " categorical and of its number of categories, at least 2: ['categorical', 7]"
            )
        found.append((str(kind), 2 if kind == "binary" else int(size)))
    return found
