"""Counts with a larger variance than a Poisson's, such as those of single-cell RNA (scVI; Lopez et al., 2018, Nature Methods 15)."""

import math

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent

from vaelab import distributions
from vaelab.conditional import Conditional

MIN_DISPERSION = 1e-4  # of theta, which zeros alone would drive to 0, where log Gamma is infinite


class NegativeBinomial(Conditional):
    """p(x | z) = prod_i NB(x_i; mean mu_i(z), inverse dispersion theta_i(z)), for x in {0, 1, 2, ...}; the variance is mu + mu^2 / theta.

    The network gives log mu and log theta: the mean has a parameter of its own, which those of a waiting time (how many failures, and how
    probable) would share. Both are held softly where float32 is safe, see `vaelab.distributions.soft_limit`: the mean below e^20.
    """

    num_params = 2

    def distribution(self, log_mean: Float[Tensor, "..."], log_theta: Float[Tensor, "..."]) -> Independent:
        theta = distributions.soft_limit(log_theta).exp() + MIN_DISPERSION
        log_mean = distributions.soft_limit(log_mean, low=-math.inf, high=20.0)
        base = distributions.NegativeBinomial(theta, logits=log_mean - theta.log(), validate_args=False)
        return Independent(base, self.event_ndim, validate_args=False)
