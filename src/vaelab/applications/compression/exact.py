"""Arithmetic that all machines do alike: once the outputs of a network are rounded, additions, products and quotients of IEEE 754 alone.

Two machines, or two numbers of threads, differ in the last bits of a network's outputs, and a difference in the last bit of one probability
is enough to decode nothing. Rounding makes their outputs equal, unless one lies within 1e-13 of the middle of a step. Exponentials of
two machines differ in the last bit as well, so this module has its own.
"""

from decimal import Decimal
from functools import cache

import numpy as np
from jaxtyping import Float
from torch import Tensor

STEPS = 2**12  # of the outputs of a network in 1
LEAST = -40.0  # below, an exponential counts as e^-40: no probability of 24 bits is as small


def rounded(x: Tensor) -> Float[np.ndarray, "..."]:
    """The multiples of 2^-12 that are nearest to x.

    Raises:
        ValueError: if a number is infinite or NaN.
    """
    found = np.rint(x.detach().cpu().numpy().astype(np.float64) * STEPS) / STEPS
    if not np.isfinite(found).all():
        raise ValueError("the model gives parameters that are infinite or no numbers, by which nothing can be coded: train it again")
    return found


@cache
def table() -> Float[np.ndarray, "n"]:
    """e^(-k / 2^12) for k = 0, ..., 40 2^12, from decimal numbers of 28 digits."""
    whole = np.array([float(Decimal(-k).exp()) for k in range(int(-LEAST) + 1)])
    parts = np.array([float((Decimal(-k) / STEPS).exp()) for k in range(STEPS)])
    return np.outer(whole, parts).ravel()


def exp(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """e^x with a relative error below 1e-15, and e^-40 for smaller x: |x| must be at most 40 where x is positive."""
    size = np.minimum(np.abs(x), -LEAST)
    steps = (size * STEPS).astype(np.int64)
    rest = size - steps / STEPS  # below 2^-12: the next term of the series is below 2^-52
    found = table()[steps] * (1 - rest * (1 - rest / 2 * (1 - rest / 3)))
    return np.where(x > 0, 1 / found, found)


def sigmoid(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """1 / (1 + e^-x)."""
    small = exp(-np.abs(x))
    return np.where(x < 0, small, 1.0) / (1 + small)
