"""Estimates of log p(x) by annealed importance sampling, for models."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.checks import check_at_least, check_choice
from vaelab.distributions import log_mean_exp
from vaelab.metrics.ais.annealing import Chains, anneal, num_tuning_temperatures, temperatures, tuned_step_sizes
from vaelab.metrics.ais.hmc import Path
from vaelab.metrics.target import Target


@dataclass(frozen=True)
class Estimate:
    """Estimates from K chains for each example, (B,)."""

    log_likelihood: Float[Tensor, "b"]  # log p^(x) in nats
    effective_sample_size: Float[Tensor, "b"]  # (sum W)^2 / sum W^2 of the chains, between 1 and K
    acceptance: Float[Tensor, "b"]  # the mean over moves and chains; NaN if there is no move
    last_step_size: Float[Tensor, "b"]  # of the move that is nearest to p(z | x); NaN if there is none


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Annealed importance sampling from p(z) or q(z | x) to p(x, z), with Hamiltonian Monte Carlo (Wu et al., 2017).

    https://arxiv.org/abs/1611.04273; from q, log f_beta = (1 - beta) log q(z | x) + beta log p(x, z).

    Args:
        num_chains: K of each example.
        num_temperatures: T, of which the last is p(x, z); 1 is importance sampling.
        num_leapfrog_steps: of each move.
        start: "prior" or "encoder".
        schedule: of the temperatures, "sigmoid" or "linear".
        target_acceptance: what step sizes are tuned for.

    Raises:
        ValueError: if an option is out of range.
    """

    num_chains: int = 4
    num_temperatures: int = 300
    num_leapfrog_steps: int = 10
    start: str = "encoder"
    schedule: str = "sigmoid"
    target_acceptance: float = 0.65

    def __post_init__(self) -> None:
        temperatures(self.num_temperatures, self.schedule)
        check_at_least(1, num_chains=self.num_chains, num_leapfrog_steps=self.num_leapfrog_steps)
        check_choice(("prior", "encoder"), start=self.start)
        if not 0 < self.target_acceptance < 1:
            raise ValueError(f"target_acceptance={self.target_acceptance} must be between 0 and 1")

    @property
    def num_decodings(self) -> int:
        """The number of z that are decoded with their gradients: for one example in one direction, and to tune the step sizes."""
        temperatures = self.num_temperatures + num_tuning_temperatures(self.num_temperatures)
        return self.num_chains * (2 + (temperatures - 2) * self.num_leapfrog_steps)

    def forward(self, target: Target) -> Estimate:
        """log p^(x), in the mean a lower bound of log p(x)."""
        path = self.path(target)
        betas, step_sizes = temperatures(self.num_temperatures, self.schedule), self.step_sizes(target, path)
        chains = anneal(path, self.initial(target), betas, step_sizes, self.num_leapfrog_steps)
        return estimate(chains, log_mean_exp(chains.log_weight), step_sizes)

    def reverse(self, target: Target, z: Float[Tensor, "1 b ..."]) -> Estimate:
        """log p^(x), in the mean an upper bound of log p(x), from a sample z of p(z | x) at which all chains start."""
        path = self.path(target)
        betas, step_sizes = temperatures(self.num_temperatures, self.schedule), self.step_sizes(target, path)
        start = z.expand(self.num_chains, *z.shape[1:])
        chains = anneal(path, start, betas[::-1], step_sizes.flip(0), self.num_leapfrog_steps)
        return estimate(chains, -log_mean_exp(chains.log_weight), step_sizes)

    def path(self, target: Target) -> Path:
        """The path from p(z) or q(z | x) to p(x, z).

        Raises:
            ValueError: if q has no density at any z, as a flow's.
        """
        if self.start == "prior":
            return Path(target.prior.log_prob, target.log_px)
        if hasattr(target.posterior, "rsample_and_log_prob"):
            raise ValueError(
                "start=encoder needs the density of q at any z, but a flow knows its own along its samples only: set start=prior"
            )
        return Path(target.posterior.log_prob, lambda z: target.log_joint(z) - target.posterior.log_prob(z))

    def initial(self, target: Target) -> Float[Tensor, "k b ..."]:
        """The z that the chains start from."""
        return target.sample_prior(self.num_chains) if self.start == "prior" else target.posterior.sample((self.num_chains,))

    def step_sizes(self, target: Target, path: Path) -> Float[Tensor, "moves b"]:
        return tuned_step_sizes(
            path, self.initial(target), self.num_temperatures, self.schedule, self.num_leapfrog_steps, self.target_acceptance
        )


def estimate(chains: Chains, log_likelihood: Float[Tensor, "b"], step_sizes: Float[Tensor, "moves b"]) -> Estimate:
    """The estimate, with what tells how far to trust it."""
    log_w = chains.log_weight
    effective = (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()
    last = step_sizes[-1] if len(step_sizes) else torch.full_like(log_likelihood, torch.nan)
    return Estimate(log_likelihood, effective, chains.acceptance.mean(0), last)
