"""The continuous Bernoulli (Loaiza-Ganem & Cunningham, 2019, https://arxiv.org/abs/1907.06845), by its natural parameter.

With l = log(lambda / (1 - lambda)), the density is p(x) = exp(l x - A(l)) on [0, 1], where

    A(l) = log int_0^1 exp(l t) dt = log((e^l - 1) / l)

and the mean and the variance are its derivatives. torch's own distribution goes through lambda, which float32 rounds to 0 or 1 where
|l| is above 16 (its density at l = 30 integrates to 0.53), and whose variance near lambda = 1/2 can be negative.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, constraints


class ContinuousBernoulli(Distribution):
    """p(x) = exp(l x - A(l)) for x in [0, 1], with l = logits.

    Near l = 0 each formula is a difference of large numbers, so there its Taylor series takes over; at |l| = 1/2 the two agree to 1e-11.
    """

    arg_constraints: ClassVar = {"logits": constraints.real}
    support = constraints.unit_interval

    def __init__(self, logits: Float[Tensor, "..."], validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=validate_args)

    @property
    def log_normaliser(self) -> Float[Tensor, "..."]:
        """A(l) = l/2 + l^2/24 - l^4/2880 + ..."""
        near, far = self._near_and_far()
        size, square = far.abs(), near.square()
        series = near / 2 + square * (1 / 24 - square * (1 / 2880 - square * (1 / 181440 - square * (1 / 9676800 - square / 479001600))))
        return torch.where(self._is_near(), series, far.clamp(min=0) + (-torch.expm1(-size)).log() - size.log())

    @property
    def mean(self) -> Float[Tensor, "..."]:
        near, far = self._near_and_far()
        square = near.square()
        series = 0.5 + near * (1 / 12 - square * (1 / 720 - square * (1 / 30240 - square * (1 / 1209600 - square / 47900160))))
        return torch.where(self._is_near(), series, 0.5 + 0.5 / torch.tanh(far / 2) - 1 / far)

    @property
    def variance(self) -> Float[Tensor, "..."]:
        near, far = self._near_and_far()
        square = near.square()
        series = 1 / 12 - square * (1 / 240 - square * (1 / 6048 - square * (1 / 172800 - square / 5322240)))
        return torch.where(self._is_near(), series, 1 / far.square() - 0.25 / torch.sinh(far / 2).square())

    @property
    def mode(self) -> Float[Tensor, "..."]:
        """The density rises or falls all the way: 1 or 0."""
        return (self.logits > 0).to(self.logits.dtype)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self.logits * value - self.log_normaliser

    @torch.no_grad()
    def sample(self, sample_shape: Size | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        """Samples, by the inverse of the distribution function of -|l|, whose exponential does not overflow; then mirrored."""
        shape = self._extended_shape(torch.Size(sample_shape))
        u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        size = self.logits.abs().clamp(min=1e-6)  # at 0 the distribution is uniform, and so it is, to rounding, at 1e-6
        x = (-torch.log1p(u * torch.expm1(-size)) / size).clamp(0, 1)
        return torch.where(self.logits > 0, 1 - x, x)

    def _is_near(self) -> Tensor:
        return self.logits.abs() < 0.5

    def _near_and_far(self) -> tuple[Tensor, Tensor]:
        """l for each branch, with a harmless number where the other one holds: `where` would pass on a NaN of its gradient."""
        is_near = self._is_near()
        return self.logits.where(is_near, 0.0), self.logits.where(~is_near, 1.0)
