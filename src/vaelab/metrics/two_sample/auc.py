"""The area under the curve of true against false positives, with its variance."""

from math import sqrt
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import norm, rankdata


class Area(NamedTuple):
    """An estimate of an area under a curve.

    Args:
        value: of the area.
        variance: of the estimate.
    """

    value: float
    variance: float

    def interval(self, confidence: float = 0.95) -> list[float]:
        """value +- the quantile of N(0, variance), within [0, 1]."""
        half = float(norm.ppf(0.5 + confidence / 2)) * sqrt(self.variance)
        return [max(0.0, self.value - half), min(1.0, self.value + half)]


def area_under_curve(positive: Float[np.ndarray, "m"], negative: Float[np.ndarray, "n"]) -> Area:
    """P(s > s') + P(s = s') / 2 for scores s of positive and s' of negative examples: 1/2 if they tell nothing, 1 if they tell all.

    The variance is that of DeLong, DeLong & Clarke-Pearson (1988, Biometrics 44), var(V) / m + var(V') / n, where V_i is the share of
    negative scores below positive score i, and V'_j that of positive scores above negative score j; both come from ranks (Sun & Xu, 2014).

    Raises:
        ValueError: if there are fewer than 2 of either.
    """
    m, n = len(positive), len(negative)
    if min(m, n) < 2:
        raise ValueError(f"the area under a curve needs 2 scores of each class, but there are {m} and {n}")
    ranks = rankdata(np.concatenate([positive, negative]))
    below = (ranks[:m] - rankdata(positive)) / n
    above = 1 - (ranks[m:] - rankdata(negative)) / m
    return Area(float(below.mean()), float(below.var(ddof=1) / m + above.var(ddof=1) / n))
