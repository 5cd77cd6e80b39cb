"""Examples as whole numbers, which are coded, and back to what they were, bit for bit."""

import numpy as np
from jaxtyping import Int, Shaped
from torch import Tensor

from vaelab.applications.compression.values import Alphabet

MOST_COUNTED = 2**31  # counts are smaller
TOLERANCE = 0.01  # of a level, because k / 255 is rounded


def levels_of(x: Shaped[Tensor, "b ..."], alphabet: Alphabet, start: int = 0) -> Int[np.ndarray, "b ..."]:
    """The levels of x as models see them, of which the first is number `start` of all.

    Raises:
        ValueError: if a value is none of the likelihood's, with its place.
    """
    exact = x.numpy().astype(np.float64) * alphabet.unit
    levels = np.rint(exact)
    most = (alphabet.num or MOST_COUNTED) - 1
    wrong = ~((np.abs(exact - levels) < TOLERANCE) & (levels >= 0) & (levels <= most))
    if wrong.any():
        first = tuple(np.argwhere(wrong)[0])
        place = (first[0] + start, *first[1:])
        some = {None: f"0, 1, ..., {most:,}", 2: "0 and 1"}.get(alphabet.num, f"k / {alphabet.unit} for k = 0, ..., {most}")
        raise ValueError(
            f"x[{', '.join(map(str, place))}]={exact[first] / alphabet.unit:g} is none of the values that p(x | z) has, {some}: compress"
            " such data as the run was trained on"
        )
    return levels.astype(np.int64)


def values_of(levels: Int[np.ndarray, "n ..."], alphabet: Alphabet, dtype: str) -> Shaped[np.ndarray, "n ..."]:
    """The values of levels: of dtype uint8 those of 8-bit pictures, whose 255 is x = 1; of others x itself."""
    if dtype == "uint8":
        return (levels.astype(np.int64) * 255 // alphabet.unit).astype(np.uint8)
    kind = np.dtype(dtype)
    found = levels.astype(kind)
    return found / kind.type(alphabet.unit) if alphabet.unit > 1 and kind.kind == "f" else found


def smallest(num_levels: int) -> np.dtype:
    """The type of the fewest bytes that holds so many levels."""
    return np.min_scalar_type(num_levels - 1)
