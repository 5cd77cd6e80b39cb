"""Real-valued pixels whose errors are long-tailed: mean absolute error is this likelihood in disguise."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vaelab.likelihoods.location_scale import LocationScale


class Laplace(LocationScale):
    """p(x | z) = prod_i exp(-|x_i - mu_i(z)| / b) / (2 b), where b is the scale."""

    def family(self, loc: Float[Tensor, "..."], scale: Float[Tensor, "..."]) -> Distribution:
        return torch.distributions.Laplace(loc, scale, validate_args=False)
