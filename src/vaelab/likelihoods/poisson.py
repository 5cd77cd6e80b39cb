"""Counts whose variance is their mean."""

import math

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent

from vaelab import distributions
from vaelab.conditional import Conditional


class Poisson(Conditional):
    """p(x | z) = prod_i Poisson(x_i; exp f_i(z)), for x in {0, 1, 2, ...}.

    The network gives the logarithm of the rate, the natural parameter: counts range over orders of magnitude, and the gradient of
    log p(x | z) is x - rate however small the rate is. It is held softly below e^20, see `vaelab.distributions.soft_limit`.
    """

    num_params = 1

    def distribution(self, log_rate: Float[Tensor, "..."]) -> Independent:
        log_rate = distributions.soft_limit(log_rate, low=-math.inf, high=20.0)
        return Independent(distributions.Poisson(log_rate, validate_args=False), self.event_ndim, validate_args=False)
