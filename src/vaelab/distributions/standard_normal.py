"""The standard normal distribution, without the arithmetic of a mean of 0 and a scale of 1."""

import math

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal
from torch.distributions.kl import register_kl

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class StandardNormal(Normal):
    """N(0, 1): log p(z) = -z^2 / 2 - (log 2 pi) / 2. Its loc must be 0 and its scale 1."""

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return -0.5 * value.square() - HALF_LOG_TWO_PI


@register_kl(Normal, StandardNormal)  # type: ignore[untyped-decorator]
def _kl(q: Normal, p: StandardNormal) -> Float[Tensor, "..."]:
    """(mu^2 + sigma^2 - 1) / 2 - log sigma (Kingma & Welling, 2014, appendix B)."""
    return 0.5 * (q.loc.square() + q.scale.square() - 1) - q.scale.log()
