"""An interval for the mean of n values.

With the mean m and the standard deviation s = sqrt(sum_i (v_i - m)^2 / (n - 1)), the interval is m ± t s / sqrt(n), where P(|T| < t) = 0.95
for Student's T with n - 1 degrees of freedom (Student, 1908, https://doi.org/10.1093/biomet/6.1.1). It holds the mean of the distribution
that the values come from in 95 % of all cases, if they are independent and that distribution is normal.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import stdtrit

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """Statistics of n values; NaN where there is none, such as the standard deviation of one."""

    mean: float
    std: float
    half_width: float  # of the interval
    num_values: int


def student_interval(values: Sequence[float]) -> Interval:
    """m, s, t s / sqrt(n) and n. A value that is not finite is not left out: it makes the first three NaN.

    Raises:
        ValueError: if there is no value.
    """
    n = len(values)
    if n == 0:
        raise ValueError("there is no mean of no values")
    if not all(math.isfinite(value) for value in values):
        return Interval(math.nan, math.nan, math.nan, n)
    if n == 1:
        return Interval(float(values[0]), math.nan, math.nan, n)
    std, t = statistics.stdev(values), float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    return Interval(statistics.fmean(values), std, t * std / math.sqrt(n), n)
