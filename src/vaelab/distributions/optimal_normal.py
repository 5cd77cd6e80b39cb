"""A Gaussian that chooses its sigma (Rybkin et al., 2021, https://arxiv.org/abs/2006.13202)."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from vaelab.collectives import all_mean

NUM_STEPS = 20  # of expectation and maximisation, on one number for each sample


def running_sigma(variance: Float[Tensor, ""], min_sigma: float) -> Float[Tensor, ""]:
    """The sigma of a running variance; 1 before anything was seen, which a negative variance says."""
    return torch.where(variance < 0, 1.0, variance.clamp(min=0).sqrt()).clamp(min=min_sigma)


class OptimalSigmaNormal(Normal):
    """N(mu, sigma^2) whose sigma is the maximum-likelihood one for the data that are scored.

    While training, log_prob sets sigma^2 = mean (x - mu)^2 over samples, the batch of all processes, and the event (Rybkin et al., 2021,
    eq. 6) and moves the running `variance` towards it; a bound that weighs samples calls `weigh` before, so that the mean is weighted.
    The gradient with respect to sigma vanishes at the optimum, so sigma is a constant here.
    Evaluation scores with the running variance: a density may not look at the datum that it scores.
    """

    pooled = True  # every value that is scored counts for the scale of all

    def __init__(self, loc: Float[Tensor, "..."], variance: Float[Tensor, ""], min_sigma: float, momentum: float) -> None:
        super().__init__(loc, running_sigma(variance, min_sigma), validate_args=False)
        self.variance_, self.min_sigma, self.momentum, self.seen = variance, min_sigma, momentum, False
        self.optimal: Tensor | None = None

    def weigh(self, value: Float[Tensor, "b ..."], weights: Callable[[Tensor], Tensor | None]) -> None:
        """Sets sigma^2 = sum_kb w_kb mean (x_b - mu_kb)^2 / sum_kb w_kb, where the weights follow from sigma in their turn.

        With w_kb the derivative of a bound by log p(x_b | z_kb), the derivative of the bound by sigma is zero there. Weights and sigma in
        turn lead to it: for the IWAE that is expectation and maximisation, which never lowers the bound.

        Args:
            value: x.
            weights: function of log p(x_b | z_kb) (K, B) without gradients; None: all alike, and sigma is as without a call.
        """
        squares = (value - self.loc.detach()).square().flatten(2)
        errors, size = squares.mean(2), squares.shape[2]
        floor = self.min_sigma**2
        optimal = torch.where(self.variance_ < 0, all_mean(errors.mean()), self.variance_).clamp(min=floor)
        for _ in range(NUM_STEPS):
            found = weights(-size / 2 * (errors / optimal + (2 * math.pi * optimal).log()))
            if found is None:
                return
            optimal = (all_mean((found * errors).mean()) / all_mean(found.mean())).clamp(min=floor)
        self.optimal = optimal

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        optimal = all_mean((value - self.loc).detach().square().mean()) if self.optimal is None else self.optimal
        if not self.seen:  # once for each distribution, however often it scores
            # the first variance replaces the initial one: an average that starts at 1 would take hundreds of steps to forget it
            self.variance_.copy_(torch.where(self.variance_ < 0, optimal, torch.lerp(self.variance_, optimal, self.momentum)))
            self.seen = True
        return Normal(self.loc, optimal.sqrt().clamp(min=self.min_sigma), validate_args=False).log_prob(value)
