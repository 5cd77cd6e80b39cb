"""Mixtures of diagonal Gaussians, scored by matrix products."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import MixtureSameFamily


class GaussianMixture(MixtureSameFamily):
    """p(z) = sum_c pi_c N(z; mu_c, diag sigma_c^2) for C components over the same event.

    sum_d (z_d - mu_cd)^2 / sigma_cd^2 is expanded into two matrix products, of B C numbers in place of B C D; in double precision, because
    the expansion cancels where sigma is small. A thousand components cost little then.

    Args:
        mixture: weights, over C.
        components: independent Gaussians with batch shape (C,).
    """

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        exact = value.dtype if value.device.type == "mps" else torch.float64  # which Apple's devices lack
        components: Any = self.component_distribution
        ndim = len(self.event_shape)
        loc, scale = (
            each.reshape(*components.batch_shape, -1).to(exact) for each in (components.base_dist.loc, components.base_dist.scale)
        )
        z = value.reshape(*value.shape[: value.ndim - ndim], -1).to(exact)
        if len(components.batch_shape) == 1:
            precision = scale.pow(-2)
            squares = z.square() @ precision.T - 2 * z @ (loc * precision).T + (loc.square() * precision).sum(1)
        else:  # expanded over a batch
            squares = ((z[..., None, :] - loc) / scale).square().sum(-1)
        log_component = -squares / 2 - scale.log().sum(-1) - z.shape[-1] / 2 * math.log(2 * math.pi)
        return (log_component + self.mixture_distribution.logits.to(exact)).logsumexp(-1).to(value.dtype)
