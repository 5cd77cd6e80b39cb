"""Hamiltonian Monte Carlo (Duane et al., 1987; Neal, 2011, https://arxiv.org/abs/1206.1901) on a path between two densities.

The path is log f_beta(z) = log r(z) + beta log w(z): from r, which can be sampled, at beta = 0 to r w at beta = 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

LogDensity = Callable[[Tensor], Tensor]  # z (K, B, *z_shape) -> (K, B)


@dataclass(frozen=True)
class Path:
    """log f_beta = log r + beta log w."""

    log_r: LogDensity
    log_w: LogDensity

    @torch.enable_grad()
    def at(self, z: Float[Tensor, "k b ..."]) -> "Point":
        """Everything that is asked of the path at z: each of log r and log w once, with its gradient."""
        z = z.detach().requires_grad_()
        log_r, log_w = self.log_r(z), self.log_w(z)
        (grad_r,) = torch.autograd.grad(log_r.sum(), z, retain_graph=True)
        (grad_w,) = torch.autograd.grad(log_w.sum(), z)
        return Point(z.detach(), log_r.detach(), log_w.detach(), grad_r, grad_w)


@dataclass(frozen=True)
class Point:
    """K chains for each of B examples: where they are, and the densities and gradients there."""

    z: Float[Tensor, "k b ..."]
    log_r: Float[Tensor, "k b"]
    log_w: Float[Tensor, "k b"]
    grad_r: Float[Tensor, "k b ..."]
    grad_w: Float[Tensor, "k b ..."]

    def log_density(self, beta: float) -> Float[Tensor, "k b"]:
        """log f_beta(z)."""
        return self.log_r + beta * self.log_w

    def gradient(self, beta: float) -> Float[Tensor, "k b ..."]:
        """d log f_beta(z) / dz."""
        return self.grad_r + beta * self.grad_w


def leapfrog(
    path: Path, point: Point, momentum: Float[Tensor, "k b ..."], beta: float, step_size: Float[Tensor, "b"], num_steps: int
) -> tuple[Point, Float[Tensor, "k b ..."]]:
    """num_steps of: half a step of the momentum along the gradient, a step of z along the momentum, half a step of the momentum."""
    step = over_event(step_size, point.z)
    for _ in range(num_steps):
        half = momentum + step / 2 * point.gradient(beta)
        point = path.at(point.z + step * half)
        momentum = half + step / 2 * point.gradient(beta)
    return point, momentum


def hmc_step(path: Path, point: Point, beta: float, step_size: Float[Tensor, "b"], num_steps: int) -> tuple[Point, Float[Tensor, "k b"]]:
    """One move that leaves f_beta invariant, and the probability with which it was accepted.

    The momentum is drawn from N(0, I), and the end of a trajectory is accepted with probability min(1, exp(-dH)),
    H = -log f_beta(z) + |momentum|^2 / 2. A trajectory that diverges is rejected.
    """
    momentum = torch.randn_like(point.z)
    end, end_momentum = leapfrog(path, point, momentum, beta, step_size, num_steps)
    gain = end.log_density(beta) - point.log_density(beta) + kinetic(momentum) - kinetic(end_momentum)
    probability = gain.clamp(max=0).exp().nan_to_num(0.0)
    accepted = torch.rand_like(probability) < probability
    chosen = (torch.where(over_event(accepted, new), new, old) for new, old in zip(parts(end), parts(point), strict=True))
    return Point(*chosen), probability


def kinetic(momentum: Float[Tensor, "k b ..."]) -> Float[Tensor, "k b"]:
    """|momentum|^2 / 2."""
    return momentum.square().flatten(2).sum(-1) / 2


def over_event(value: Shaped[Tensor, "*batch"], like: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """A value for each chain, (B,) or (K, B), with further dimensions of size 1, as many as `like` has after its first two."""
    return value.reshape(*value.shape, *[1] * (like.ndim - 2))


def parts(point: Point) -> list[Tensor]:
    return [getattr(point, field.name) for field in fields(point)]
