"""Distances between two samples of one value of x."""

import numpy as np
from jaxtyping import Float
from scipy.stats import wasserstein_distance


def wasserstein(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "m"]) -> float:
    """int |F_a(t) - F_b(t)| dt, divided by the standard deviation of a: the Wasserstein-1 distance, in standard deviations of the data.

    A shift by d is d away. NaN is left out; of nothing, the distance is NaN, and a constant a has the standard deviation 1.
    """
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if not len(a) or not len(b):
        return float("nan")
    return float(wasserstein_distance(a, b)) / (float(a.std()) or 1.0)


def total_variation(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "m"]) -> float:
    """sum_k |P_a(k) - P_b(k)| / 2 of the shares of codes k: from 0, of equal shares, to 1, of codes that never are the same.

    Other numbers are rounded, NaN is left out; of nothing, the distance is NaN.
    """
    a, b = np.round(a[~np.isnan(a)]).astype(int), np.round(b[~np.isnan(b)]).astype(int)
    if not len(a) or not len(b):
        return float("nan")
    least = min(int(a.min()), int(b.min()))
    a, b = a - least, b - least
    most = max(int(a.max()), int(b.max())) + 1
    return float(np.abs(np.bincount(a, minlength=most) / len(a) - np.bincount(b, minlength=most) / len(b)).sum() / 2)
