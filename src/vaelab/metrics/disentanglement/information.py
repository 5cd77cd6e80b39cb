"""Mutual information of codes and factors, and the two scores that are made of it.

Mutual information gap: Chen et al. (2018, https://arxiv.org/abs/1802.04942). Modularity: Ridgeway & Mozer (2018,
https://arxiv.org/abs/1802.05312). Both by the protocol of Locatello et al. (2019, https://arxiv.org/abs/1811.12359), in which a code
is a number for each example, counted in 20 bins. Chen et al. draw codes from q(z | x) instead, bin nothing and leave out the shape of
dSprites: their values are not comparable.
"""

import numpy as np
from jaxtyping import Float, Int

from vaelab.metrics.disentanglement.samples import Codes, Factors, paired_codes, value_indices


def discretize(values: Float[np.ndarray, "n d"], num_bins: int = 20) -> Int[np.ndarray, "n d"]:
    """The number of the bin, from 0, of each value of a column, in bins of equal width from its smallest to its largest value."""
    return np.stack([np.digitize(column, np.histogram(column, num_bins)[1][1:-1]) for column in values.T], axis=1)


def entropy(of: Int[np.ndarray, "n"]) -> float:
    """-sum p log p of the frequencies p of labels, in nats."""
    counts = np.bincount(of)
    p = counts[counts > 0] / len(of)
    return float(-(p * np.log(p)).sum())


def mutual_information(codes: Codes, factors: Factors, num_bins: int = 20) -> tuple[Float[np.ndarray, "d f"], Float[np.ndarray, "f"]]:
    """I(z_j; v_k) in nats of each code, in bins, and each factor, and the entropies H(v_k), both from counts.

    Counting is biased upwards: codes and factors that are independent have about (bins - 1) (values - 1) / 2N nats.

    Raises:
        ValueError: see `vaelab.metrics.disentanglement.samples.paired`.
    """
    z, v = paired_codes(codes, factors)
    bins, values = discretize(z, num_bins), value_indices(v)
    h_bins, h_values = np.array([entropy(b) for b in bins.T]), np.array([entropy(k) for k in values.T])
    joint = np.array([[entropy(b * (k.max() + 1) + k) for k in values.T] for b in bins.T])
    return np.maximum(h_bins[:, None] + h_values - joint, 0), h_values


def top_two_gap(scores: Float[np.ndarray, "d f"]) -> Float[np.ndarray, "f"]:
    """The gap between the best code of each factor and the second best."""
    ranked = np.sort(scores, axis=0)
    return ranked[-1] - ranked[-2]


def information_gap(information: Float[np.ndarray, "d f"], entropies: Float[np.ndarray, "f"]) -> float:
    """mean_k (I(z_j1; v_k) - I(z_j2; v_k)) / H(v_k), of the codes j1 and j2 that know most of v_k."""
    return float((top_two_gap(information) / entropies).mean())


def information_modularity(information: Float[np.ndarray, "d f"]) -> float:
    """mean_j 1 - sum_{k != k*} I(z_j; v_k)^2 / ((F - 1) I(z_j; v_k*)^2), k* the factor that code j knows most of; 0 if it knows none."""
    squares = information**2
    best = squares.max(1)
    others = (squares.sum(1) - best) / (squares.shape[1] - 1)
    return float(np.where(best > 0, 1 - others / np.where(best > 0, best, 1), 0).mean())


def mig(codes: Codes, factors: Factors, num_bins: int = 20) -> float:
    """The mutual information gap, 0 to 1: whether each factor is in one code alone.

    A perfect code does not reach 1 where a factor has more values than there are bins: 32 values in 20 bins keep 85 % of their entropy.

    Raises:
        ValueError: see `vaelab.metrics.disentanglement.samples.paired`.
    """
    return information_gap(*mutual_information(codes, factors, num_bins))


def modularity(codes: Codes, factors: Factors, num_bins: int = 20) -> float:
    """Modularity, 0 to 1: whether each code is of one factor alone. The mean is over all codes, also those that know nothing.

    Raises:
        ValueError: see `vaelab.metrics.disentanglement.samples.paired`.
    """
    return information_modularity(mutual_information(codes, factors, num_bins)[0])
