"""Distributions on the unit sphere of R^m: von Mises-Fisher and uniform (Davidson et al., 2018, https://arxiv.org/abs/1804.00891).

The density exp(kappa mu . z) / C has the Bessel function I_(m/2-1)(kappa) in C. No Bessel function is needed here: the angle theta between
z and mu has the density

    f(theta) / Z,    f(theta) = exp(kappa (cos theta - 1)) sin(theta)^(m-2),    0 < theta < pi,

and C = |S^(m-2)| Z e^kappa, E[mu . z] = E[cos theta], samples and their gradients are all integrals of f, along one dimension, for which
Gauss-Legendre quadrature serves at any m and kappa. Samples need no rejection: theta is the inverse of its distribution function F at a
uniform u, and d theta / d kappa = -(dF / d kappa) / (f / Z) (Figurnov et al., 2018, https://arxiv.org/abs/1805.08498).
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Size, Tensor
from torch.distributions import Distribution, constraints, register_kl
from torch.distributions.utils import lazy_property
from torch.nn.functional import normalize

NUM_PIECES, NUM_NODES = 64, 6  # of the quadrature; its error is below 1e-11
NUM_STEPS = 5  # of Newton's method; theta is then within 1e-10, relatively


@cache
def quadrature(dtype: torch.dtype, device: torch.device) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """Nodes and weights on [0, 1], copied to a device once and not at every step."""
    nodes, weights = np.polynomial.legendre.leggauss(NUM_NODES)
    return torch.as_tensor((nodes + 1) / 2, dtype=dtype, device=device), torch.as_tensor(weights / 2, dtype=dtype, device=device)


class _UnitSphere(constraints.Constraint):
    """{z: |z| = 1}, up to rounding."""

    event_dim = 1

    def check(self, value: Float[Tensor, "... m"]) -> Bool[Tensor, "..."]:
        return (value.norm(dim=-1) - 1).abs() < 1e-5

    def __repr__(self) -> str:
        return "points of a sphere"


unit_sphere = _UnitSphere()


def log_area(dimension: int) -> float:
    """log |S^(m-1)| = log(2 pi^(m/2) / Gamma(m/2)), of the unit sphere of R^m."""
    return math.log(2) + dimension / 2 * math.log(math.pi) - math.lgamma(dimension / 2)


class Angle:
    """theta ~ f / Z; see above.

    f has one peak. The interval of 16 of its widths to either side, which holds all but 1e-11 of Z, is cut into pieces; an integral is the
    sum over pieces. All in double precision: it is a few hundred numbers for each kappa, whatever the number of samples.

    With v = 1 - cos theta, d log Z / d kappa = -E[v] and d E[v] / d kappa = -Var[v]. They are integrals, too, so that no gradient is
    taken through the quadrature, which would cost more than the networks of a small VAE. There are no second derivatives.

    Args:
        concentration: kappa > 0, of the batch shape.
        dimension: m >= 2.
    """

    def __init__(self, concentration: Float[Tensor, "*batch"], dimension: int) -> None:
        exact = concentration.dtype if concentration.device.type == "mps" else torch.float64  # which Apple's devices lack
        self.nodes, self.weights = quadrature(exact, concentration.device)
        moving = concentration.to(exact).unsqueeze(-1)
        self.kappa, self.power = moving.detach(), dimension - 2
        self.zero = moving - self.kappa  # whose derivative by kappa is 1
        with torch.no_grad():
            ratio = (self.power + (self.power**2 + 4 * self.kappa.square()).sqrt()) / 2  # kappa / cos of the mode
            cosine = (self.kappa / ratio).clamp(max=1)
            mode, reach = cosine.acos(), 16 * (self.kappa * cosine + ratio).rsqrt()
            low, high = (mode - reach).clamp(min=0), (mode + reach).clamp(max=math.pi)
            self.edges = torch.lerp(low, high, torch.linspace(0, 1, NUM_PIECES + 1, dtype=exact, device=concentration.device))
            self.log_peak = torch.zeros_like(mode)
            self.log_peak = self.log_f(mode)[0]
            v, mass = self.masses(self.edges[..., :-1], self.edges[..., 1:])
            self.pieces, self.versed_pieces = mass.sum(-1), (v * mass).sum(-1)
            self.total = self.pieces.sum(-1, keepdim=True)
            self.mean = self.versed_pieces.sum(-1, keepdim=True) / self.total
            self.variance = ((v - self.mean.unsqueeze(-1)).square() * mass).sum((-2, -1)).unsqueeze(-1) / self.total

    def log_f(self, theta: Float[Tensor, "*batch n"]) -> tuple[Float[Tensor, "*batch n"], Float[Tensor, "*batch n"]]:
        """log f, less its maximum, and v."""
        v = 2 * (theta / 2).sin().square()
        return torch.xlogy(self.power, theta.sin()) - self.kappa * v - self.log_peak, v

    def masses(
        self, start: Float[Tensor, "*batch n"], end: Float[Tensor, "*batch n"]
    ) -> tuple[Float[Tensor, "*batch n k"], Float[Tensor, "*batch n k"]]:
        """v at the nodes of intervals of up to a piece, and what each node adds to the integral of f from start to end."""
        theta = torch.lerp(start.unsqueeze(-1), end.unsqueeze(-1), self.nodes)
        log_f, v = self.log_f(theta.flatten(-2))
        return v.view_as(theta), log_f.exp().view_as(theta) * self.weights * (end - start).unsqueeze(-1)

    @property
    def log_normalizer(self) -> Float[Tensor, "*batch"]:
        """log Z."""
        return (self.total.log() + self.log_peak - self.mean * self.zero).squeeze(-1)

    @property
    def versed_mean(self) -> Float[Tensor, "*batch"]:
        """E[v], which is near zero where kappa is large."""
        return (self.mean - self.variance * self.zero).squeeze(-1)

    def rsample(self, num_samples: int) -> Float[Tensor, "*batch n"]:
        """The solution of F(theta) = u for uniform u, and its derivative."""
        with torch.no_grad():
            before, versed = (pieces.cumsum(-1) - pieces for pieces in (self.pieces, self.versed_pieces))  # of all before each piece
            u = torch.rand(*self.edges.shape[:-1], num_samples, dtype=self.edges.dtype, device=self.edges.device) * self.total
            piece = torch.searchsorted(before[..., 1:].contiguous(), u, right=True)
            start, end = self.edges.gather(-1, piece), self.edges.gather(-1, piece + 1)
            low, high, wanted = start, end, u - before.gather(-1, piece)
            theta = torch.lerp(start, end, wanted / self.pieces.gather(-1, piece))
            for _ in range(NUM_STEPS):
                found = self.masses(start, theta)[1].sum(-1)
                low, high = torch.where(found < wanted, theta, low), torch.where(found < wanted, high, theta)
                # Newton's step for log mass by log distance, which is one step where the mass is a power of the distance
                exponent = found / (self.log_f(theta)[0].exp() * (theta - start))
                step = start + (theta - start) * (wanted / found) ** exponent
                theta = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
            v, mass = self.masses(start, theta)
            # Z dF / d kappa = E[v] (f up to theta) - (v f up to theta)
            slope = versed.gather(-1, piece) + (v * mass).sum(-1) - self.mean * (before.gather(-1, piece) + mass.sum(-1))
            slope = slope / self.log_f(theta)[0].exp()
        return theta + slope * self.zero


class VonMisesFisher(Distribution):
    """q(z) = exp(kappa mu . z) / C on the unit sphere of R^m; the more concentrated around mu, the larger kappa.

    Densities, entropy and samples have first derivatives by kappa, and no second ones: autograd would give wrong numbers.

    Args:
        loc: mu, (*batch, m), of length 1.
        concentration: kappa > 0, (*batch).
    """

    arg_constraints: ClassVar = {"loc": unit_sphere, "concentration": constraints.positive}
    support = unit_sphere
    has_rsample = True

    def __init__(self, loc: Float[Tensor, "*batch m"], concentration: Float[Tensor, "*batch"], validate_args: bool | None = None) -> None:
        self.loc, self.concentration, self.dimension = loc, concentration, loc.shape[-1]
        super().__init__(concentration.shape, loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Size | Sequence[int], _instance: Distribution | None = None) -> "VonMisesFisher":
        batch_shape = Size(batch_shape)
        return VonMisesFisher(
            self.loc.expand(*batch_shape, self.dimension), self.concentration.expand(batch_shape), validate_args=self._validate_args
        )

    @lazy_property
    def angle(self) -> Angle:
        """The angle between a sample and mu."""
        return Angle(self.concentration, self.dimension)

    @property
    def mean(self) -> Float[Tensor, "*batch m"]:
        """A mu, with A = E[mu . z] = I_(m/2)(kappa) / I_(m/2-1)(kappa)."""
        return (1 - self.angle.versed_mean).to(self.loc.dtype).unsqueeze(-1) * self.loc

    @property
    def mode(self) -> Float[Tensor, "*batch m"]:
        return self.loc

    @property
    def variance(self) -> Float[Tensor, "*batch m"]:
        """The diagonal of E[z z^T] - A^2 mu mu^T, where E[z z^T] = (A / kappa) (I - m mu mu^T) + mu mu^T."""
        cosine = 1 - self.angle.versed_mean
        around = cosine / self.concentration
        along = 1 - self.dimension * around - cosine.square()
        return around.unsqueeze(-1).to(self.loc.dtype) + along.unsqueeze(-1).to(self.loc.dtype) * self.loc.square()

    def log_prob(self, value: Float[Tensor, "... m"]) -> Float[Tensor, "..."]:
        """log p(z), with mu . z - 1 as -|z - mu|^2 / 2, which keeps its digits where kappa is large."""
        log_c = self.angle.log_normalizer.to(self.loc.dtype) + log_area(self.dimension - 1)
        return -self.concentration * (value - self.loc).square().sum(-1) / 2 - log_c

    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Float[Tensor, "... m"]:
        """cos(theta) mu + sin(theta) v, with v uniform among the directions at right angles to mu; when mu turns, v turns with it."""
        sample_shape = Size(sample_shape)
        shape = self._extended_shape(sample_shape)
        with torch.no_grad():
            noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
            v = normalize(noise - (noise * self.loc).sum(-1, keepdim=True) * self.loc, dim=-1)
        v = v - (v * self.loc).sum(-1, keepdim=True) * self.loc  # which is v, but for rounding; its derivative turns v
        theta = self.angle.rsample(sample_shape.numel()).movedim(-1, 0).reshape(shape[:-1]).unsqueeze(-1)
        return theta.cos().to(self.loc.dtype) * self.loc + theta.sin().to(self.loc.dtype) * v

    def entropy(self) -> Float[Tensor, "*batch"]:
        """log C - kappa A."""
        return self.exact_entropy().to(self.loc.dtype)

    def exact_entropy(self) -> Float[Tensor, "*batch"]:
        """The entropy in double precision."""
        return self.angle.log_normalizer + log_area(self.dimension - 1) + self.concentration * self.angle.versed_mean


class HypersphericalUniform(Distribution):
    """p(z) = 1 / |S^(m-1)| on the unit sphere of R^m.

    Args:
        like: (*batch, m), whose numbers do not matter, but for their precision and device.
    """

    arg_constraints: ClassVar = {"like": constraints.real_vector}
    support = unit_sphere
    has_rsample = True

    def __init__(self, like: Float[Tensor, "*batch m"], validate_args: bool | None = None) -> None:
        self.like = like
        super().__init__(like.shape[:-1], like.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Size | Sequence[int], _instance: Distribution | None = None) -> "HypersphericalUniform":
        return HypersphericalUniform(self.like.expand(*batch_shape, *self.event_shape), validate_args=self._validate_args)

    @property
    def mean(self) -> Float[Tensor, "*batch m"]:
        return torch.zeros_like(self.like)

    @property
    def variance(self) -> Float[Tensor, "*batch m"]:
        return torch.full_like(self.like, 1 / self.event_shape[0])

    def log_prob(self, value: Float[Tensor, "... m"]) -> Float[Tensor, "..."]:
        shape = torch.broadcast_shapes(value.shape, self.like.shape)
        return torch.full(shape[:-1], -log_area(shape[-1]), dtype=self.like.dtype, device=self.like.device)

    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Float[Tensor, "... m"]:
        shape = self._extended_shape(Size(sample_shape))
        return normalize(torch.randn(shape, dtype=self.like.dtype, device=self.like.device), dim=-1)

    def entropy(self) -> Float[Tensor, "*batch"]:
        return torch.full_like(self.like[..., 0], log_area(self.event_shape[0]))


def kl_von_mises_fisher_uniform(q: VonMisesFisher, p: HypersphericalUniform) -> Float[Tensor, "..."]:
    """The uniform distribution has the largest entropy, and KL is what q has less.

    The difference is taken in double precision: for m = 1,000 both entropies are about -2,032, and the KL may be .001.
    """
    assert q.event_shape == p.event_shape
    return (log_area(q.dimension) - q.exact_entropy()).to(q.loc.dtype)


register_kl(VonMisesFisher, HypersphericalUniform)(kl_von_mises_fisher_uniform)
