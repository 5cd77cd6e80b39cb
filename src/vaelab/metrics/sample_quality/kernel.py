"""The kernel distance of features (Binkowski et al., 2018, https://arxiv.org/abs/1801.01401)."""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor


def kernel_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], num_subsets: int = 10) -> tuple[float, float]:
    """MMD^2 with the kernel (x.y / d + 1)^3, and its standard error: the mean over random subsets of the unbiased estimate of each.

    In the mean it is 0 where both are of one law, so that it may be negative. The subsets are disjoint, hence independent, and their
    spread gives the standard error; 10 of 10,000 features have the 1,000 of the paper, whose 100 subsets overlap.

    Raises:
        ValueError: if num_subsets is below 2, or there are not at least 2 of each in every subset.
    """
    if num_subsets < 2 or min(len(a), len(b)) < 2 * num_subsets:
        raise ValueError(
            f"{len(a)} and {len(b)} examples cannot be divided into num_subsets={num_subsets} with at least 2 of each: a standard error"
            " needs 2 subsets or more"
        )
    parts = zip(shuffled(a).tensor_split(num_subsets), shuffled(b).tensor_split(num_subsets), strict=True)
    estimates = torch.stack([unbiased_mmd_squared(x.double(), y.double()) for x, y in parts])
    return estimates.mean().item(), estimates.std().item() / sqrt(num_subsets)


def unbiased_mmd_squared(x: Float[Tensor, "n d"], y: Float[Tensor, "m e"]) -> Float[Tensor, ""]:
    """Mean k(x, x') + mean k(y, y') - 2 mean k(x, y), where no example is compared with itself."""
    return mean_of_pairs(polynomial(x, x)) + mean_of_pairs(polynomial(y, y)) - 2 * polynomial(x, y).mean()


def polynomial(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """(x.y / d + 1)^3 of each x with each y."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def mean_of_pairs(kernel: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """The mean of what is not on the diagonal."""
    return (kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))


def shuffled(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """The rows in a random order."""
    return x[torch.randperm(len(x), device=x.device)]
