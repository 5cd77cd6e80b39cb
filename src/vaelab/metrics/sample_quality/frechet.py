"""The Frechet distance of features (Heusel et al., 2017, https://arxiv.org/abs/1706.08500)."""

import torch
from jaxtyping import Float
from torch import Tensor


def frechet_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """|m_1 - m_2|^2 + tr(S_1 + S_2 - 2 (S_1^{1/2} S_2 S_1^{1/2})^{1/2}), with the means m and the covariances S of two sets of features.

    It is the squared 2-Wasserstein distance of the normal laws with these moments (Dowson & Landau, 1982,
    https://doi.org/10.1016/0047-259X(82)90077-X). With S_i = R_i^T R_i, the trace of the square root is the sum of the singular values of
    R_1 R_2^T; R_i comes from the features without S_i, so that singular covariances cost no precision.

    It is not unbiased: of finitely many features of one law it is above 0, less so the more there are. Only distances of equally many can
    be compared.

    Raises:
        ValueError: if there are fewer than 2 of either.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a covariance needs at least 2 examples, but there are {len(a)} and {len(b)}")
    a, b = a.double(), b.double()
    first, second = root(a), root(b)
    overlap = torch.linalg.svdvals(first @ second.T).sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + first.square().sum() + second.square().sum() - 2 * overlap
    return max(0.0, distance.item())


def root(points: Float[Tensor, "n d"]) -> Float[Tensor, "r d"]:
    """R with R^T R = S, the unbiased covariance."""
    centred = points - points.mean(0)
    return torch.linalg.qr(centred, mode="r").R / (len(points) - 1) ** 0.5
