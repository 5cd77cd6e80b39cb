"""Lines of how far a long computation is, for the logger "vaelab.metrics", which the commands show and keep in train.log."""

import logging
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")
FIRST, EVERY = 5.0, 30.0  # seconds until the first line, which says what the whole will cost, and between the others
_LOG = logging.getLogger("vaelab.metrics")


def stage(text: str) -> None:
    """Log what is computed next."""
    _LOG.info(f"{text} ...")


def progress(what: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
    """The items; meanwhile lines such as "annealing: 30 of 300, 45 s left" are logged, if they take more than a few seconds.

    >>> list(progress("squares", [1, 4, 9]))
    [1, 4, 9]

    Args:
        what: is computed.
        items: that are worked on one after the other.
        total: their number, if they have no length.
    """
    count = len(items) if isinstance(items, Sized) else total
    started = time.monotonic()
    said = started + FIRST - EVERY
    for i, item in enumerate(items):
        now = time.monotonic()
        if i and now - said >= EVERY:
            said = now
            left = "" if count is None else f" of {count}, {duration((now - started) / i * (count - i))} left"
            _LOG.info(f"{what}: {i}{left}")
        yield item


def duration(seconds: float) -> str:
    """Text such as "45 s", "12 min" or "3 h 20 min".

    >>> [duration(seconds) for seconds in (45, 89.6, 720, 12_000)]
    ['45 s', '1 min', '12 min', '3 h 20 min']
    """
    minutes = round(seconds / 60)
    if seconds < 89.5:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
