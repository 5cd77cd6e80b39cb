"""Checks of arguments: what passes, and the sentence for what does not."""

import re
from collections.abc import Callable
from math import inf, nan

import pytest

from vaelab.checks import check_at_least, check_choice, check_positive, check_whole, check_widths, given


@pytest.mark.parametrize(
    "check",
    [
        lambda: check_choice(("a", "b"), x="a", y="b"),
        lambda: check_choice({"a": 1}, x="a"),
        lambda: check_at_least(1, x=1, y=[1, 2.5], z=inf),
        lambda: check_at_least(-0.5, x=-0.5),
        lambda: check_at_least(1, **given(x=None)),
        lambda: check_positive(x=1e-30, y=(1, 2)),
        lambda: check_whole(0, x=0, y=[3, 4]),
        lambda: check_widths(x=[], y=[3, 4]),
    ],
)
def test_what_passes(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_choice(("a",), x="b"), "x=b is unknown: choose a"),
        (lambda: check_choice(("a", "b"), x="a", y="c"), "y=c is unknown: choose a or b"),
        (lambda: check_choice({"a": 1, "b": 2, "c": 3}, x=["a"]), "x=['a'] is unknown: choose a, b or c"),
        (lambda: check_choice(("a", "b"), x=None), "x=None is unknown: choose a or b"),
        (lambda: check_at_least(1, x=0), "x=0 must be at least 1"),
        (lambda: check_at_least(0.5, x=1, y=0.25), "y=0.25 must be at least 0.5"),
        (lambda: check_at_least(0, x=nan), "x=nan must be at least 0"),
        (lambda: check_at_least(1, x=(2, 0)), "x=[2, 0] must be at least 1"),
        (lambda: check_at_least(1, x=[]), "x=[] must hold at least one number"),
        (lambda: check_at_least(1, x=None), "x=None must be at least 1"),
        (lambda: check_at_least(1, x="two"), "x=two must be at least 1"),
        (lambda: check_at_least(1, x=True), "x=True must be at least 1"),
        (lambda: check_positive(x=0.0), "x=0.0 must be positive"),
        (lambda: check_positive(x=[1.0, nan]), "x=[1.0, nan] must be positive"),
        (lambda: check_whole(1, x=0), "x=0 must be a whole number of at least 1"),
        (lambda: check_whole(1, x=1.5), "x=1.5 must be a whole number of at least 1"),
        (lambda: check_whole(1, x=True), "x=True must be a whole number of at least 1"),
        (lambda: check_widths(x=[], y=[3, 0]), "y=[3, 0] must be a whole number of at least 1"),
        (lambda: check_whole(1, x="3"), "x=3 must be a whole number of at least 1"),
    ],
)
def test_what_is_said(check: Callable[[], None], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check()
