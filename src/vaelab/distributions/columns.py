"""Families of single columns of a table, over whole batches of columns: codes of categories, ordered codes, and amounts that may be 0."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Size, Tensor
from torch.distributions import Categorical, Distribution, LogNormal, constraints
from torch.nn.functional import logsigmoid

from vaelab.distributions.grid_categorical import GridCategorical
from vaelab.distributions.supports import Grid

Shape = Size | Sequence[int]


class CodeGrid(Grid):
    """{0, 1, ..., C_j - 1} for column j, with sizes C (n,): the last dimension of a value is over columns."""

    def __init__(self, sizes: Int[Tensor, "n"], num_bins: int) -> None:
        super().__init__(num_bins)
        self.sizes = sizes

    def check(self, value: Float[Tensor, "*batch n"]) -> Bool[Tensor, "*batch n"]:
        return (value >= 0) & (value < self.sizes) & (value == value.round())

    def level(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The code itself; what is no code at all counts as the nearest of the longest column's."""
        return value.round().clamp(0, self.num_bins - 1)

    def value(self, level: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The level itself."""
        return level

    def __repr__(self) -> str:
        return "the codes 0, 1, ... of its categories"


class Codes(GridCategorical):
    """p(x_j = k) = softmax(logits_j)_k for k = 0, ..., C_j - 1, where columns may have different numbers of categories C_j.

    Args:
        logits: (*batch, n, C) with C = max C_j; those of k >= C_j are not looked at.
        sizes: C_j, (n,).
    """

    def __init__(self, logits: Float[Tensor, "*batch n c"], sizes: Int[Tensor, "n"], validate_args: bool | None = None) -> None:
        size = logits.shape[-1]
        inside = torch.arange(size, device=logits.device) < sizes.unsqueeze(-1)
        Categorical.__init__(self, logits=logits.masked_fill(~inside, -torch.inf), validate_args=validate_args)
        self.grid, self.sizes = CodeGrid(sizes, size), sizes

    def expand(self, batch_shape: Shape, _instance: None = None) -> "Codes":
        return Codes(self.logits.expand(*batch_shape, -1), self.sizes, validate_args=False)


def ordinal_logits(
    loc: Float[Tensor, "*batch n"], first: Float[Tensor, "n"], gaps: Float[Tensor, "n c"], sizes: Int[Tensor, "n"]
) -> Float[Tensor, "*batch n k"]:
    """log P(x = k) for k = 0, ..., C - 1 with C = c + 2, of the proportional odds model P(x <= k) = sigmoid(theta_k - loc).

    theta_0 = first, theta_k = theta_(k-1) + gaps_k with gaps > 0 (McCullagh, 1980, J. R. Stat. Soc. B 42). P(x = k) is a difference of
    two sigmoids, sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - e^(a-b)), whose logarithm needs no difference of close numbers.

    Args:
        sizes: C_j of each column; gaps beyond its own C_j - 2 are not looked at.
    """
    theta = torch.cat([first.unsqueeze(-1), gaps], -1).cumsum(-1) - loc.unsqueeze(-1)
    level, last = torch.arange(theta.shape[-1], device=theta.device), sizes.unsqueeze(-1) - 2  # the last threshold of each column
    below = logsigmoid(theta).where(level <= last, 0.0)  # log sigmoid(theta_k)
    above = logsigmoid(-theta).where(level <= last, 0.0)
    between = (-torch.expm1(-gaps)).log().where(level[1:] <= last, 0.0)
    nothing = torch.zeros_like(theta[..., :1])
    return (
        torch.cat([below, nothing], -1)
        + torch.cat([nothing, above], -1)
        + torch.cat([nothing, between.expand(*theta.shape[:-1], -1), nothing], -1)
    )


class PositiveLogNormal(LogNormal):
    """log x ~ N(loc, scale^2), x > 0: p(x) = N(log x; loc, scale^2) / x. Numbers that are not positive count as the smallest that is."""

    support = constraints.positive

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        log_x = value.clamp(min=torch.finfo(value.dtype).tiny).log()  # what stands in for a missing value is 0
        return self.base_dist.log_prob(log_x) - log_x


class ZeroOrLogNormal(Distribution):
    """x = 0 with probability sigmoid(zero), else log x ~ N(loc, scale^2): amounts such as rain (Aitchison, 1955, J. Am. Stat. Assoc. 50).

    log p(0) is that of a probability, log p(x) for x > 0 that of a density: p sums and integrates to one together.
    """

    arg_constraints: ClassVar = {"zero": constraints.real, "loc": constraints.real, "scale": constraints.positive}
    support = constraints.nonnegative

    def __init__(
        self,
        zero: Float[Tensor, "..."],
        loc: Float[Tensor, "..."],
        scale: Float[Tensor, "..."],
        validate_args: bool | None = None,
    ) -> None:
        self.zero, self.loc, self.scale = torch.broadcast_tensors(zero, loc, scale)
        self.positive = PositiveLogNormal(self.loc, self.scale, validate_args=False)
        super().__init__(self.zero.shape, validate_args=validate_args)

    def expand(self, batch_shape: Shape, _instance: None = None) -> "ZeroOrLogNormal":
        shape = Size(batch_shape)
        return ZeroOrLogNormal(self.zero.expand(shape), self.loc.expand(shape), self.scale.expand(shape), validate_args=False)

    @property
    def mean(self) -> Float[Tensor, "..."]:
        return (-self.zero).sigmoid() * self.positive.mean

    @property
    def mode(self) -> Float[Tensor, "..."]:
        """0 where that has at least half of the probability, else the mode of the rest."""
        return self.positive.mode.where(self.zero < 0, 0.0)

    @property
    def variance(self) -> Float[Tensor, "..."]:
        share = (-self.zero).sigmoid()
        return share * self.positive.variance + share * self.zero.sigmoid() * self.positive.mean.square()

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        is_zero = value == 0
        positive = self.positive.log_prob(value.where(~is_zero, 1.0))
        return torch.where(is_zero, logsigmoid(self.zero), logsigmoid(-self.zero) + positive)

    @torch.no_grad()
    def sample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        x = self.positive.sample(Size(sample_shape))
        return x.masked_fill(torch.rand_like(x) < self.zero.sigmoid(), 0.0)
