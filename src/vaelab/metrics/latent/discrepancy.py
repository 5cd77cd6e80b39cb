"""Distances between the laws of two sets of samples."""

from collections.abc import Sequence
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vaelab.checks import check_at_least, check_choice, check_positive

KERNELS = ("imq", "rbf")
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def mmd_squared(
    z: Float[Tensor, "n d"], u: Float[Tensor, "m e"], kernel: str = "imq", scales: Sequence[float] = SCALES, chunk_size: int = 100
) -> tuple[float, float]:
    """MMD^2 = E k(z, z') - 2 E k(z, u) + E k(u, u'), unbiased, and its standard error (Gretton et al., 2012, lemma 6).

    https://jmlr.org/papers/v13/gretton12a.html. In the mean it is 0 where the two laws are equal, so that it may be negative. The kernel
    is that of the objectives: sum_s k_s(a, b) with C = 2 D s, rbf exp(-|a - b|^2 / C) or inverse multiquadratic C / (C + |a - b|^2)
    (Tolstikhin et al., 2018, https://arxiv.org/abs/1711.01558); 2 D is the mean squared distance of two draws from N(0, I). The standard
    error is that of the jackknife over pairs (z_n, u_n), which is about sqrt(2) too large where the laws are equal.

    Args:
        z, u: as many samples of each law.
        kernel: "imq" or "rbf".
        scales: s.
        chunk_size: rows of the kernel matrix that are in memory at a time.

    Raises:
        ValueError: if the kernel is unknown, a scale is not positive, or there are not as many of each and at least 2.
    """
    check_choice(KERNELS, kernel=kernel)
    check_positive(scales=scales)
    check_equally_many(z, u)
    n, widths = len(z), [2 * z.shape[1] * scale for scale in scales]
    terms = []  # whose mean is the estimate, one for each pair
    for a, b in zip(z.split(chunk_size), u.split(chunk_size), strict=True):
        within = row_sums(a, z, kernel, widths) + row_sums(b, u, kernel, widths) - 2 * len(scales)  # without k(a, a) = 1
        across = row_sums(a, u, kernel, widths) + row_sums(b, z, kernel, widths)
        terms.append(within / (n - 1) - across / n)
    values = torch.cat(terms)
    return values.mean().item(), 2 * standard_error(values)


def row_sums(a: Float[Tensor, "m d"], b: Float[Tensor, "n d"], kernel: str, widths: Sequence[float]) -> Float[Tensor, "m"]:
    """sum_j sum_C k_C(a_i, b_j), in double precision."""
    squares = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()  # matrix products would cancel
    total = torch.zeros_like(squares)
    for c in widths:
        total += torch.exp(-squares / c) if kernel == "rbf" else c / (c + squares)
    return total.sum(1).cpu().double()


def sliced_wasserstein(z: Float[Tensor, "n d"], u: Float[Tensor, "m e"], num_projections: int = 500) -> tuple[float, float | None]:
    """sqrt(E_w W_2(w z, w u)^2) over directions w, |w| = 1, and its standard error over the directions drawn (Rabin et al., 2011).

    https://doi.org/10.1007/978-3-642-24785-9_37. W_2 of two sets of N numbers is the root mean square of what the sorted numbers differ
    by. It is in the unit of z, and above 0 for any two sets of samples, those of one law too.

    Args:
        z, u: as many samples of each law.
        num_projections: directions that are drawn; there is no standard error of one.

    Raises:
        ValueError: if there are not as many of each and at least 2, or there is no direction.
    """
    check_at_least(1, num_projections=num_projections)
    check_equally_many(z, u)
    directions = normalize(torch.randn(z.shape[1], num_projections, dtype=z.dtype, device=z.device), dim=0)
    squares = ((z @ directions).sort(0).values - (u @ directions).sort(0).values).square().mean(0).cpu().double()
    distance = squares.mean().sqrt().item()
    known = num_projections > 1 and distance > 0
    return distance, standard_error(squares) / (2 * distance) if known else None


def check_equally_many(z: Float[Tensor, "n d"], u: Float[Tensor, "m e"]) -> None:
    """Two laws are compared by as many samples of each.

    Raises:
        ValueError: if there are not, or fewer than 2.
    """
    if z.shape != u.shape or len(z) < 2:
        raise ValueError(
            f"as many samples of each law are needed, at least 2, but they are of shapes {tuple(z.shape)} and {tuple(u.shape)}"
        )


def standard_error(values: Float[Tensor, "n"]) -> float:
    """The standard error of the mean of n values."""
    return values.std().item() / sqrt(len(values))
