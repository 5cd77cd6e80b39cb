"""Interventional robustness score (Suter et al., 2019, https://arxiv.org/abs/1811.00007)."""

import numpy as np
from jaxtyping import Float, Int

from vaelab.metrics.disentanglement.information import discretize
from vaelab.metrics.disentanglement.samples import Codes, Factors, paired_codes, varying


def irs(codes: Codes, factors: Factors, num_bins: int = 20, quantile: float = 0.99) -> float:
    """A score of whether a code stays where it is when all factors but its own are changed, 0 to 1.

    sum_j d_j max_k (1 - m_jk / d_j) / sum_j d_j, with d_j = max |z_j - E[z_j]| the largest deviation of code j, and m_jk that deviation
    where v_k is known: the quantile of |z_j - E[z_j | v_k]| over the examples of each value of v_k, averaged over its values. As
    Locatello et al. (2019) compute it from samples of the factors: a quantile where the paper has the maximum, factors in 20 bins of
    equal width, codes that never change left out. 0 if none changes.

    Raises:
        ValueError: see `vaelab.metrics.disentanglement.samples.paired`.
    """
    z, v = paired_codes(codes, factors)
    z = varying(z)
    if not z.shape[1]:
        return 0.0
    deviation = np.abs(z - z.mean(0)).max(0)
    within = np.stack([_deviation_within(z, groups, quantile) for groups in discretize(v.astype(np.float64), num_bins).T], axis=1)
    return float((deviation - within.min(1)).sum() / deviation.sum())


def _deviation_within(codes: Float[np.ndarray, "n d"], groups: Int[np.ndarray, "n"], quantile: float) -> Float[np.ndarray, "d"]:
    members = [codes[groups == group] for group in np.unique(groups)]
    return np.mean([np.quantile(np.abs(z - z.mean(0)), quantile, axis=0) for z in members], axis=0)
