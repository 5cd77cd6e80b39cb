"""Values strictly between 0 and 1, such as proportions, or 8-bit pixels after `vaelab.data.Dequantize`."""

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent
from torch.nn.functional import softplus

from vaelab import distributions
from vaelab.conditional import Conditional

MIN_CONCENTRATION = 1e-3  # below it, float32 cannot tell the samples from 0 and 1


class Beta(Conditional):
    """p(x | z) = prod_i Beta(x_i; a_i(z), b_i(z)) for x in (0, 1), where the network gives a and b before a softplus."""

    num_params = 2

    def distribution(self, a: Float[Tensor, "..."], b: Float[Tensor, "..."]) -> Independent:
        concentrations = softplus(a) + MIN_CONCENTRATION, softplus(b) + MIN_CONCENTRATION
        return Independent(distributions.Beta(*concentrations, validate_args=False), self.event_ndim, validate_args=False)
