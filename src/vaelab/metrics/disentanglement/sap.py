"""Separated attribute predictability (Kumar et al., 2018, https://arxiv.org/abs/1711.00848), as Locatello et al. (2019) compute it."""

import numpy as np
import torch
from jaxtyping import Bool

from vaelab.metrics.disentanglement.information import top_two_gap
from vaelab.metrics.disentanglement.samples import Codes, Factors, paired_codes, split_labels


def sap(codes: Codes, factors: Factors, test_codes: Codes, test_factors: Factors) -> float:
    """mean_k (A_j1k - A_j2k), A_jk the test accuracy of a linear classifier of factor k from code j alone, j1 and j2 its best two codes.

    The classifiers are support vector machines, one against the rest, with C = 0.01 and balanced classes. On a line they can tell
    apart little more than the two ends of a factor that has many values, so a perfect code has 1 only where the factors are binary.

    Raises:
        ValueError: see `vaelab.metrics.disentanglement.samples.paired`.
    """
    return sap_of(predicted(codes, factors, test_codes, test_factors))


def sap_of(correct: Bool[np.ndarray, "m d f"]) -> float:
    """The score of predictions that are correct or not, of each test example from each code of each factor."""
    return float(top_two_gap(correct.mean(0)).mean())


def predicted(codes: Codes, factors: Factors, test_codes: Codes, test_factors: Factors) -> Bool[np.ndarray, "m d f"]:
    """True for the test examples that a linear classifier from one code gets right."""
    from sklearn.svm import LinearSVC  # not at the top: training imports this room, and need not wait for it

    (z, v), (test_z, test_v) = paired_codes(codes, factors), paired_codes(test_codes, test_factors)
    y, test_y = split_labels(v, test_v)
    seed = int(torch.randint(2**31 - 1, ()))

    def correct(j: int, k: int) -> Bool[np.ndarray, "m"]:
        classifier = LinearSVC(C=0.01, class_weight="balanced", random_state=seed).fit(z[:, [j]], y[:, k])
        return classifier.predict(test_z[:, [j]]) == test_y[:, k]

    return np.stack([np.stack([correct(j, k) for k in range(y.shape[1])], axis=1) for j in range(z.shape[1])], axis=1)


def sap_continuous(codes: Codes, factors: Factors) -> float:
    """The score of factors that are numbers rather than classes: A_jk is the squared correlation, 0 of a code of variance below 1e-12.

    Raises:
        ValueError: see `vaelab.metrics.disentanglement.samples.paired`.
    """
    z, v = paired_codes(codes, factors)
    z, v = z - z.mean(0), v - v.mean(0)
    covariance, variances = z.T @ v / (len(z) - 1), z.var(0, ddof=1)[:, None]
    squared = covariance**2 / (np.where(variances > 1e-12, variances, np.inf) * v.var(0, ddof=1))
    return float(top_two_gap(squared).mean())
