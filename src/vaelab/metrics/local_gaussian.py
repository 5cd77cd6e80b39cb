"""The best Gaussian q(z) of each x by itself (stochastic variational inference; Hoffman et al., 2013, https://arxiv.org/abs/1206.7051)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from vaelab.checks import check_at_least
from vaelab.distributions import detach
from vaelab.metrics.ais.hmc import LogDensity

NUM_STEPS_COMPARED = 100  # means over so many steps are compared to tell whether a bound still rises
LEARNING_RATES = (0.01, 0.001)  # of Adam: the second where the first no longer helps


@dataclass(frozen=True)
class LocalGaussian:
    """q(z) = N(mu, L L^T) of each of B examples: L is diagonal if off_diagonal is None, else lower triangular; its diagonal is positive."""

    loc: Float[Tensor, "b ..."]
    log_scale: Float[Tensor, "b ..."]  # of the diagonal of L
    off_diagonal: Float[Tensor, "b d d"] | None = None  # of which what is below the diagonal counts

    @classmethod
    def of(cls, q: Distribution) -> "LocalGaussian":
        """The Gaussian q itself, in its own family.

        Raises:
            ValueError: if q is no Gaussian.
        """
        if isinstance(q, MultivariateNormal):
            return cls(q.loc, q.scale_tril.diagonal(dim1=-2, dim2=-1).log(), q.scale_tril)
        if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
            return cls(q.base_dist.loc, q.base_dist.scale.log())
        family = type(q.base_dist if isinstance(q, Independent) else q).__name__
        raise ValueError(
            f"the amortisation gap is measured with posterior=gaussian or full_gaussian, but q(z | x) is a {family}: for the inference gap"
            " alone, compare elbo and log_likelihood of metrics=[likelihood]"
        )

    def with_covariance(self) -> "LocalGaussian":
        """The same density in the family with any covariance, where z is a vector."""
        if self.off_diagonal is not None:
            return self
        return LocalGaussian(self.loc, self.log_scale, self.loc.new_zeros(*self.loc.shape, self.loc.shape[-1]))

    def parameters(self) -> list[Tensor]:
        return [each for each in (self.loc, self.log_scale, self.off_diagonal) if each is not None]

    def distribution(self) -> Distribution:
        """Batch shape (B,)."""
        if self.off_diagonal is None:
            return Independent(Normal(self.loc, self.log_scale.exp(), validate_args=False), self.loc.ndim - 1, validate_args=False)
        scale_tril = self.off_diagonal.tril(-1) + self.log_scale.exp().diag_embed()
        return MultivariateNormal(self.loc, scale_tril=scale_tril, validate_args=False)


@dataclass(frozen=True)
class Fitted:
    """The best q of each example that was found, and how the search ended."""

    q: LocalGaussian
    num_steps: int
    last_improvement: float  # of the mean bound in nats, between the last two hundreds of steps; noise, if it has converged


def fit(log_joint: LogDensity, q: LocalGaussian, num_samples: int = 10, max_steps: int = 2000, tolerance: float = 0.01) -> Fitted:
    """Maximises L[q] of every example by itself, from q on, by Adam on mu, log diag L and what is below the diagonal.

    The gradient is that of log p(x, z) - log q(z) along z alone, which is unbiased and has no variance where q = p(z | x) (Roeder et al.,
    2017, https://arxiv.org/abs/1703.09194). Adam takes steps of 0.01, and then of 0.001: each until the mean bound over a hundred steps
    is no more than `tolerance` nats above that of the hundred before.

    Args:
        log_joint: z (K, B, *z_shape) -> log p(x, z) (K, B).
        q: where the search starts.
        num_samples: K of each step.
        max_steps: of both sizes together, at most; at least 200, so that there is something to compare.
        tolerance: in nats.

    Raises:
        ValueError: if max_steps is too small.
    """
    check_at_least(2 * NUM_STEPS_COMPARED, max_steps=max_steps)
    local = LocalGaussian(*(each.detach().clone().requires_grad_() for each in q.parameters()))
    num_steps, before, improvement = 0, -float("inf"), float("inf")
    for rate in LEARNING_RATES:
        optimizer, rising = torch.optim.Adam(local.parameters(), lr=rate), True
        while rising and num_steps < max_steps:
            now = sum(ascend(log_joint, local, optimizer, num_samples) for _ in range(NUM_STEPS_COMPARED)) / NUM_STEPS_COMPARED
            improvement, before, num_steps = now - before, now, num_steps + NUM_STEPS_COMPARED
            rising = improvement > tolerance
    return Fitted(LocalGaussian(*(each.detach() for each in local.parameters())), num_steps, improvement)


@torch.enable_grad()
def ascend(log_joint: LogDensity, local: LocalGaussian, optimizer: torch.optim.Optimizer, num_samples: int) -> float:
    """One step; returns the mean over examples of L[q] before it."""
    q = local.distribution()
    z = q.rsample((num_samples,))
    bound = (log_joint(z) - detach(q).log_prob(z)).mean(0)
    gradients = torch.autograd.grad(-bound.sum(), local.parameters())
    for parameter, gradient in zip(local.parameters(), gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    return bound.mean().item()


@torch.no_grad()
def lower_bound(log_joint: LogDensity, q: Distribution, num_samples: int, at_once: int) -> Float[Tensor, "b"]:
    """L[q] = E_q[log p(x, z) - log q(z)] of each example in nats, the mean over num_samples samples, `at_once` of them at a time."""
    total = torch.zeros(q.batch_shape, dtype=torch.float64, device=q.mean.device)
    for start in range(0, num_samples, at_once):
        z = q.sample((min(at_once, num_samples - start),))
        total += (log_joint(z) - q.log_prob(z)).double().sum(0)
    return total / num_samples
