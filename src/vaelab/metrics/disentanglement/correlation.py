"""The total correlation of the codes, as if they were Gaussian; no factors are needed (Locatello et al., 2019, appendix)."""

import numpy as np
from jaxtyping import Float

from vaelab.metrics.disentanglement.samples import Codes, code_array, varying


def gaussian_total_correlation(codes: Codes) -> float:
    """KL(N(0, S) || N(0, diag S)) = (sum_j log S_jj - log |S|) / 2 in nats, S the covariance of the codes.

    Codes that never change are left out; infinite if one code is a linear function of others.

    Raises:
        ValueError: if a code is not finite, or there are fewer than two examples.
    """
    covariance = _covariance(codes)
    return float(np.log(np.diag(covariance)).sum() - np.linalg.slogdet(covariance)[1]) / 2


def gaussian_wasserstein_correlation(codes: Codes) -> float:
    """The squared 2-Wasserstein distance of N(0, S) and N(0, diag S), 2 tr S - 2 tr (S diag S)^(1/2), in squared units of the codes.

    Raises:
        ValueError: if a code is not finite, or there are fewer than two examples.
    """
    covariance = _covariance(codes)
    deviations = np.sqrt(np.diag(covariance))
    # (diag S)^(1/2) S (diag S)^(1/2) has the eigenvalues of S diag S and is symmetric: they are real, and none is negative but by rounding
    eigenvalues = np.linalg.eigvalsh(covariance * np.outer(deviations, deviations))
    return float(2 * np.trace(covariance) - 2 * np.sqrt(np.maximum(eigenvalues, 0)).sum())


def _covariance(codes: Codes) -> Float[np.ndarray, "c c"]:
    z = code_array(codes)
    if len(z) < 2:
        raise ValueError(f"{len(z)} example has no covariance: take at least two")
    z = varying(z)
    return np.cov(z, rowvar=False).reshape(z.shape[1], z.shape[1])
