"""Disentanglement, completeness and informativeness (Eastwood & Williams, 2018, https://openreview.net/forum?id=By-7dz-AZ).

With boosted trees, as Locatello et al. (2019, https://arxiv.org/abs/1811.12359) compute them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from vaelab.metrics.disentanglement.boosting import boosted_trees
from vaelab.metrics.disentanglement.samples import Codes, Factors, paired_codes, split_labels
from vaelab.metrics.progress import progress


@dataclass(frozen=True)
class DCI:
    """Importances and accuracies of classifiers of each factor from all codes."""

    importance: Float[np.ndarray, "d f"]  # of each code for each factor
    correct: Bool[np.ndarray, "m f"]  # which test examples they get right

    @property
    def disentanglement(self) -> float:
        """A score of whether each code is important for one factor alone; see `dci_disentanglement`."""
        return dci_disentanglement(self.importance)

    @property
    def completeness(self) -> float:
        """A score of whether one code alone is important for each factor; see `dci_completeness`."""
        return dci_completeness(self.importance)

    @property
    def informativeness(self) -> float:
        """The test accuracy, a mean over the factors."""
        return float(self.correct.mean())


def dci(codes: Codes, factors: Factors, test_codes: Codes, test_factors: Factors) -> DCI:
    """Boosted trees for each factor, from all codes: those of scikit-learn's GradientBoostingClassifier by default.

    Args:
        codes: that the trees learn from, (N, D).
        factors: their factors, (N, F).
        test_codes: that they are tested on, (M, D).
        test_factors: their factors, (M, F).

    Raises:
        ValueError: see `vaelab.metrics.disentanglement.samples.paired`.
    """
    (z, v), (test_z, test_v) = paired_codes(codes, factors), paired_codes(test_codes, test_factors)
    y, test_y = split_labels(v, test_v)
    rng = np.random.default_rng(int(torch.randint(2**31 - 1, ())))
    importance, prediction = zip(*(boosted_trees(z, labels, test_z, rng) for labels in progress("trees of DCI", y.T)), strict=True)
    return DCI(np.stack(importance, axis=1), np.stack(prediction, axis=1) == test_y)


def dci_disentanglement(importance: Float[np.ndarray, "d f"]) -> float:
    """sum_j rho_j (1 - H_F(R_j)), R_j the importances of code j for the F factors, H_F their entropy in base F, rho_j their share of all.

    0 if no code is important for anything.
    """
    return _concentration(importance)


def dci_completeness(importance: Float[np.ndarray, "d f"]) -> float:
    """sum_k rho_k (1 - H_D(R_k)), R_k the importances of the D codes for factor k, H_D their entropy in base D, rho_k their share of all.

    0 if no code is important for anything.
    """
    return _concentration(importance.T)


def _concentration(rows: Float[np.ndarray, "r c"]) -> float:
    if not rows.any():
        return 0.0
    p = (rows + 1e-11) / (rows + 1e-11).sum(1, keepdims=True)
    concentration = 1 + (p * np.log(p)).sum(1) / np.log(rows.shape[1])
    return float(concentration @ rows.sum(1) / rows.sum())
