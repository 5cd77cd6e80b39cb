"""Names of the rows of files, without an object for each: a million of them fit in memory."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int


class RowNames(Sequence[str]):
    """ "row 17" of a file, for each of some rows."""

    def __init__(self, rows: Int[np.ndarray, "n"]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        return f"row {int(self.rows[place])}"


class Texts(Sequence[str]):
    """Texts, held end to end.

    Args:
        parts: some texts each.
    """

    def __init__(self, parts: Iterable[Sequence[str]]) -> None:
        self._bytes, ends, hashes = bytearray(), list[np.ndarray](), list[np.ndarray]()
        for part in parts:
            encoded = [text.encode() for text in part]
            ends.append(len(self._bytes) + np.cumsum([len(text) for text in encoded]))
            hashes.append(np.fromiter(map(hash, part), np.int64, len(part)))
            self._bytes += b"".join(encoded)
        self._ends, self._hashes = np.concatenate([[0], *ends]), np.concatenate(hashes)

    def __len__(self) -> int:
        return len(self._hashes)

    def __getitem__(self, place: Any) -> Any:
        return self._bytes[self._ends[place] : self._ends[place + 1]].decode()

    def first_repeated(self) -> tuple[int, int] | None:
        """The places of two texts that are the same; None if there are none."""
        order = np.argsort(self._hashes, kind="stable")
        same = np.flatnonzero(np.diff(self._hashes[order]) == 0)
        pairs = ((int(order[place]), int(order[place + 1])) for place in same)
        return min((pair for pair in pairs if self[pair[0]] == self[pair[1]]), default=None, key=lambda pair: pair[1])


class Chosen(Sequence[str]):
    """Some of other names."""

    def __init__(self, names: Sequence[str], places: Int[np.ndarray, "n"]) -> None:
        self.names, self.places = names, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: Any) -> Any:
        return self.names[int(self.places[place])]
