"""The diagonal Gaussian posterior: Auto-Encoding Variational Bayes (Kingma & Welling, 2014, https://arxiv.org/abs/1312.6114)."""

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent, Normal

from vaelab.conditional import Conditional
from vaelab.distributions import soft_limit


class Gaussian(Conditional):
    """q(z | x) = N(z; mu(x), diag sigma(x)^2), where the network gives mu and log sigma, see `vaelab.distributions.soft_limit`."""

    num_params = 2

    def distribution(self, loc: Float[Tensor, "..."], log_scale: Float[Tensor, "..."]) -> Independent:
        return Independent(Normal(loc, soft_limit(log_scale).exp(), validate_args=False), self.event_ndim, validate_args=False)
