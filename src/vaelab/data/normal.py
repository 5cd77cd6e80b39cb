"""Vectors of a normal distribution: the one dataset of which the best linear VAE is known exactly."""

import math
from collections.abc import Sequence
from numbers import Real

import torch

from vaelab.checks import check_whole
from vaelab.data.memory import InMemory


def normal(split: str, variances: Sequence[float], num: int = 1000, seed: int = 0) -> InMemory:
    """Rows with sample mean 0 and sample covariance diag(variances), exact up to rounding.

    All splits are the same rows, so that `ppca_log_likelihood` holds for each split.

    Args:
        split: "train", "val" or "test".
        variances: of the D dimensions.
        num: rows.
        seed: of the sample.

    Raises:
        ValueError: if a variance is not positive, or there are too few rows.
    """
    check_variances(variances)
    check_whole(len(variances) + 1, num=num)
    x = torch.randn(num, len(variances), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x = torch.linalg.qr(x - x.mean(0)).Q * math.sqrt(num)  # columns of length sqrt(num) and at right angles: covariance I
    data = InMemory((x * torch.tensor(variances, dtype=torch.float64).sqrt()).float())
    data.is_shared = True
    return data


def ppca_log_likelihood(variances: Sequence[float], num_components: int) -> float:
    """The mean log p(x), in nats, of probabilistic PCA at its maximum (Tipping & Bishop, 1999, equation 8).

    -(D log 2 pi + sum_{i <= q} log lambda_i + (D - q) log sigma^2 + D) / 2, where lambda_i are the variances of the data along their
    principal axes, the largest first, and sigma^2 is the mean of the D - q smallest. It is the highest ELBO that a linear VAE of q latent
    dimensions has, too (Lucas et al., 2019, https://arxiv.org/abs/1911.02469).

    Args:
        variances: of D dimensions that are not correlated.
        num_components: q, from 1 to D - 1.

    Raises:
        ValueError: if a variance is not positive, or q is out of range.
    """
    check_variances(variances)
    check_whole(1, num_components=num_components)
    if num_components >= len(variances):
        raise ValueError(f"num_components={num_components} must be below the {len(variances)} dimensions of x")
    order = sorted(variances, reverse=True)
    kept, rest = order[:num_components], order[num_components:]
    logs = sum(map(math.log, kept)) + len(rest) * math.log(math.fsum(rest) / len(rest))
    return -(len(order) * (math.log(2 * math.pi) + 1) + logs) / 2


def check_variances(variances: Sequence[float]) -> None:
    """Raise if a variance is not positive.

    Raises:
        ValueError: if one is not, or there are none.
    """
    listed = isinstance(variances, Sequence) and len(variances) > 0
    if not listed or not all(isinstance(each, Real) and 0 < each < math.inf for each in variances):
        raise ValueError(f"variances={variances} must be a list of positive numbers, such as [4, 2, 1]")
