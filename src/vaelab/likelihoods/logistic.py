"""8-bit pixels, as probabilities of grey levels (Kingma et al., 2016; Salimans et al., 2017); see `vaelab.distributions.logistic`."""

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vaelab import distributions
from vaelab.checks import check_at_least, check_positive
from vaelab.conditional import Conditional, NetworkFactory
from vaelab.likelihoods.location_scale import LocationScale


class DiscretizedLogistic(LocationScale):
    """p(x | z) = prod_i (sigmoid((x_i + h - mu_i(z)) / s) - sigmoid((x_i - h - mu_i(z)) / s)), for x in {0, 1/255, ..., 1}.

    Args:
        network, in_shape, event_shape, num_classes, scale: see `LocationScale`.
        min_scale: here a limit of precision only, since a probability cannot exceed 1.
        num_bins: how many values a pixel can have.

    Raises:
        ValueError: as for `LocationScale`, or if there are fewer than two bins.
    """

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        num_classes: int = 0,
        scale: float | str = "per_pixel",
        min_scale: float = 1e-4,
        num_bins: int = 256,
    ) -> None:
        super().__init__(network, in_shape, event_shape, num_classes, scale, min_scale)
        self.num_bins = distributions.Grid(num_bins).num_bins

    def family(self, loc: Float[Tensor, "..."], scale: Float[Tensor, "..."]) -> Distribution:
        return distributions.DiscretizedLogistic(loc, scale, self.num_bins, validate_args=False)


class MixtureOfLogistics(Conditional):
    """p(x | z): M logistics for each pixel; the channels of a picture share the component, and green is conditioned on red, blue on both.

    With C channels the network gives M (1 + 2 C + C (C - 1) / 2) numbers for each pixel: M logits, C M locations, C M logarithms of
    scales, and the coefficients, whose hyperbolic tangent is taken. An event that is a vector has one channel.

    Args:
        network, in_shape, event_shape, num_classes: see `Conditional`.
        num_mixtures: M.
        min_scale: a limit of precision, in units of x.
        num_bins: how many values a pixel can have.

    Raises:
        ValueError: if there is no component, the floor of the scale is not positive, or there are fewer than two bins.
    """

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        num_classes: int = 0,
        num_mixtures: int = 10,
        min_scale: float = 1e-4,
        num_bins: int = 256,
    ) -> None:
        check_at_least(1, num_mixtures=num_mixtures)
        check_positive(min_scale=min_scale)
        channels = event_shape[0] if len(event_shape) > 1 else 1
        sizes = [1, channels, channels, channels * (channels - 1) // 2]
        self.num_params = -(-num_mixtures * sum(sizes) // channels)  # in rows of C numbers a pixel; the last one may be longer than needed
        super().__init__(network, in_shape, event_shape, num_classes)
        self.num_mixtures, self.min_scale, self.num_bins = num_mixtures, min_scale, distributions.Grid(num_bins).num_bins
        self.sizes, self.num_pixels = sizes, prod(event_shape) // channels

    def distribution(self, *params: Float[Tensor, "..."]) -> Distribution:
        batch_ndim = params[0].ndim - self.event_ndim
        batch, event_shape = params[0].shape[:batch_ndim], params[0].shape[batch_ndim:]
        rows = torch.stack(params, batch_ndim).reshape(*batch, len(params) * self.sizes[1], self.num_pixels)
        each = rows[..., : self.num_mixtures * sum(self.sizes), :].unflatten(-2, (self.num_mixtures, sum(self.sizes)))
        logits, loc, log_scale, coefficients = each.split(self.sizes, -2)
        scale = distributions.soft_limit(log_scale).exp() + self.min_scale
        return distributions.MixtureOfLogistics(
            logits.squeeze(-2), loc, scale, coefficients.tanh(), event_shape, self.num_bins, validate_args=False
        )
