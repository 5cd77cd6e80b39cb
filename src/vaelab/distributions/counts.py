"""Counts, by the logarithms of their parameters: a rate that underflows still has its logarithm."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, distributions
from torch.distributions import constraints
from torch.nn.functional import logsigmoid


class Poisson(distributions.Poisson):
    """p(x) = lambda^x e^-lambda / x! with log lambda = log_rate."""

    arg_constraints: ClassVar = {"log_rate": constraints.real}  # type: ignore[misc]

    def __init__(self, log_rate: Float[Tensor, "..."], validate_args: bool | None = None) -> None:
        self.log_rate = log_rate
        super().__init__(log_rate.exp(), validate_args=validate_args)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return value * self.log_rate - self.rate - (value + 1).lgamma()


class NegativeBinomial(distributions.NegativeBinomial):
    """p(x) = Gamma(x + theta) / (x! Gamma(theta)) (theta / (theta + mu))^theta (mu / (theta + mu))^x, with total_count = theta.

    logits = log mu - log theta. Its variance is mu + mu^2 / theta: a Poisson where the inverse dispersion theta is infinite.
    """

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """log p(x), with log Gamma(x + theta) / Gamma(theta) at once: its two terms are large where the family is almost a Poisson."""
        log_success = self.total_count * logsigmoid(-self.logits) + value * logsigmoid(self.logits)
        return log_success + log_rising(self.total_count, value) - (value + 1).lgamma()


def log_rising(theta: Float[Tensor, "..."], x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """log Gamma(theta + x) - log Gamma(theta): the difference of two Stirling series from theta = 10 on, where float32 has them."""
    is_large = theta > 10
    small, large = theta.where(~is_large, 1.0), theta.where(is_large, 10.0)
    both = large + x

    def remainder(t: Tensor) -> Tensor:
        return (1 / 12 - (1 / 360 - 1 / (1260 * t.square())) / t.square()) / t

    stirling = (both - 0.5) * torch.log1p(x / large) + x * large.log() - x + remainder(both) - remainder(large)
    return torch.where(is_large, stirling, (small + x).lgamma() - small.lgamma())
