"""Logistic distributions cut into the grey levels of a picture, and mixtures of them.

A pixel at level k = 0, ..., n - 1, which is x = k / (n - 1), has all the mass that a logistic density has from k - 1/2 to k + 1/2
(Kingma et al., 2016, https://arxiv.org/abs/1606.04934); the first and the last level also have the tails, so that the sum
is 1 wherever mu is (PixelCNN++; Salimans et al., 2017, https://arxiv.org/abs/1701.05517, eq. 2).
"""

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Categorical, Distribution, constraints
from torch.nn.functional import logsigmoid

from vaelab.distributions.supports import Grid


class DiscretizedLogistic(Distribution):
    """p(x) = sigmoid((x + h - mu) / s) - sigmoid((x - h - mu) / s) with h = 1 / (2 (n - 1)), for x in {0, 1/(n-1), ..., 1}.

    Args:
        loc: mu, in units of x.
        scale: s, in units of x.
        num_bins: n.

    Raises:
        ValueError: if there are fewer than two bins.
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(
        self, loc: Float[Tensor, "..."], scale: Float[Tensor, "..."], num_bins: int = 256, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.grid = Grid(num_bins)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return self.grid

    @property
    def mean(self) -> Float[Tensor, "..."]:
        """E[k] = sum_(k > 0) P(level >= k), level by level: n copies of a batch of pictures would not fit into memory."""
        loc, scale = self._in_levels()
        total = torch.zeros_like(loc)
        for level in range(1, self.grid.num_bins):
            total = total + torch.sigmoid((loc - (level - 0.5)) / scale)
        return self.grid.value(total)

    @property
    def mode(self) -> Float[Tensor, "..."]:
        """The level nearest to mu, or an end with its tail."""
        nearest = self.loc.clamp(0, 1)
        candidates = torch.stack([nearest, torch.zeros_like(nearest), torch.ones_like(nearest)])
        best = self.log_prob(candidates).argmax(0, keepdim=True)
        return self.grid.value(self.grid.level(candidates.gather(0, best).squeeze(0)))

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """log(sigmoid(b) - sigmoid(a)) = log sigmoid(b) + log sigmoid(-a) + log(1 - exp(a - b)): a difference only where it is exact.

        In levels, neighbours share their edge to the last bit, and b - a = 1/s.
        """
        loc, scale = self._in_levels()
        level = self.grid.level(value)
        below_upper_edge = logsigmoid((level + 0.5 - loc) / scale)
        above_lower_edge = logsigmoid((loc - (level - 0.5)) / scale)
        inside = below_upper_edge + above_lower_edge + (-torch.expm1(-1 / scale)).log()
        return torch.where(level <= 0, below_upper_edge, torch.where(level >= self.grid.num_bins - 1, above_lower_edge, inside))

    @torch.no_grad()
    def sample(self, sample_shape: Size | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        loc, scale = self._in_levels()
        u = torch.rand(self._extended_shape(torch.Size(sample_shape)), dtype=loc.dtype, device=loc.device)
        return self.grid.value((loc + scale * torch.logit(u)).round().clamp(0, self.grid.num_bins - 1))

    def _in_levels(self) -> tuple[Tensor, Tensor]:
        return self.loc * (self.grid.num_bins - 1), self.scale * (self.grid.num_bins - 1)


class MixtureOfLogistics(Distribution):
    """p(x) = prod_i sum_m pi_im prod_c p(x_ic; mu_imc + sum_(d < c) alpha_imcd x_id, s_imc), over the pixels i of a picture.

    The C channels of a pixel share its component m, and the mean of each moves with those before it (Salimans et al., 2017, eq. 3). The
    mixture has no mode in closed form.

    Args:
        logits: of pi, (*batch, M, pixels).
        loc: mu, (*batch, M, C, pixels).
        scale: s, (*batch, M, C, pixels).
        coefficients: alpha, (*batch, M, C (C - 1) / 2, pixels): of (c, d) = (1, 0), (2, 0), (2, 1), (3, 0), ...
        event_shape: of x, whose C * pixels values are ordered by channel.
        num_bins: how many values a pixel can have.

    Raises:
        ValueError: if there are fewer than two bins.
    """

    arg_constraints: ClassVar = {
        "logits": constraints.real,
        "loc": constraints.real,
        "scale": constraints.positive,
        "coefficients": constraints.real,
    }

    def __init__(
        self,
        logits: Float[Tensor, "*batch m pixels"],
        loc: Float[Tensor, "*batch m c pixels"],
        scale: Float[Tensor, "*batch m c pixels"],
        coefficients: Float[Tensor, "*batch m pairs pixels"],
        event_shape: tuple[int, ...],
        num_bins: int = 256,
        validate_args: bool | None = None,
    ) -> None:
        assert math.prod(event_shape) == loc.shape[-2] * loc.shape[-1]
        self.logits, self.loc, self.scale, self.coefficients = logits, loc, scale, coefficients
        self.grid, self.num_channels = Grid(num_bins), loc.shape[-2]
        super().__init__(logits.shape[:-2], torch.Size(event_shape), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(self.grid, len(self.event_shape))

    @property
    def mean(self) -> Float[Tensor, "..."]:
        """The mean of each component, channel by channel at the means of the channels before.

        Exact for the first channel, and for the others where mu + alpha x stays inside (0, 1), since it is linear; else nearly.
        The exact mean of blue would be a sum over every red, green and blue.
        """
        x: list[Tensor] = []
        for c in range(self.num_channels):
            x.append(self._channel(c, self.loc, self.scale, self.coefficients, x).mean)
        of_components = torch.stack(x, -2)
        mean = (self.logits.softmax(-2).unsqueeze(-2) * of_components).sum(-3)
        return mean.reshape(self.batch_shape + self.event_shape)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        x = value.reshape(*value.shape[: value.ndim - len(self.event_shape)], 1, *self.loc.shape[-2:]).unbind(-2)
        log_joint = self.logits.log_softmax(-2)
        for c in range(self.num_channels):
            log_joint = log_joint + self._channel(c, self.loc, self.scale, self.coefficients, list(x)).log_prob(x[c])
        return log_joint.logsumexp(-2).sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Size | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        """A component for each pixel, then channel by channel."""
        sample_shape = torch.Size(sample_shape)
        component = Categorical(logits=self.logits.transpose(-1, -2), validate_args=False).sample(sample_shape)

        def chosen(parameter: Tensor) -> Tensor:
            rows = component[..., None, None, :].expand(*component.shape[:-1], 1, *parameter.shape[-2:])
            return parameter.expand(sample_shape + parameter.shape).gather(-3, rows).squeeze(-3)

        loc, scale, coefficients = chosen(self.loc), chosen(self.scale), chosen(self.coefficients)
        x: list[Tensor] = []
        for c in range(self.num_channels):
            x.append(self._channel(c, loc, scale, coefficients, x).sample())
        return torch.stack(x, -2).reshape(sample_shape + self.batch_shape + self.event_shape)

    def _channel(self, c: int, loc: Tensor, scale: Tensor, coefficients: Tensor, x: list[Tensor]) -> DiscretizedLogistic:
        """Channel c given those before it."""
        mu = loc[..., c, :]
        for d in range(c):
            mu = mu + coefficients[..., c * (c - 1) // 2 + d, :] * x[d]
        return DiscretizedLogistic(mu, scale[..., c, :], self.grid.num_bins, validate_args=False)
