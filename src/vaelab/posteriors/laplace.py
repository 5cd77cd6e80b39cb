"""The Laplace posterior."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent

from vaelab.conditional import Conditional
from vaelab.distributions import soft_limit


class Laplace(Conditional):
    """q(z | x) = prod_i Laplace(z_i; mu_i(x), b_i(x)), where the network gives mu and log b, see `vaelab.distributions.soft_limit`."""

    num_params = 2

    def distribution(self, loc: Float[Tensor, "..."], log_scale: Float[Tensor, "..."]) -> Independent:
        laplace = torch.distributions.Laplace(loc, soft_limit(log_scale).exp(), validate_args=False)
        return Independent(laplace, self.event_ndim, validate_args=False)
