"""The standard normal distribution, without the arithmetic of a mean of 0 and a scale of 1."""

import math

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal
from torch.distributions.kl import register_kl

LOG_ROOT_TWO_PI = math.log(math.sqrt(2 * math.pi))


class StandardNormal(Normal):
    """N(0, 1): log p(z) = -z^2 / 2 - log sqrt(2 pi), bit for bit as `Normal` has it. Its loc must be 0 and its scale 1."""

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return -0.5 * value.square() - LOG_ROOT_TWO_PI


@register_kl(Normal, StandardNormal)  # type: ignore[untyped-decorator]
def _kl(q: Normal, p: StandardNormal) -> Float[Tensor, "..."]:
    """(sigma^2 + mu^2 - 1 - log sigma^2) / 2 (Kingma & Welling, 2014, appendix B), bit for bit as of two `Normal`."""
    variance = q.scale.square()
    return 0.5 * (variance + q.loc.square() - 1 - variance.log())
