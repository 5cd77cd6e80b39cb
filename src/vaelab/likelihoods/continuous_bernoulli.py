"""Grey pixels (Loaiza-Ganem & Cunningham, 2019, https://arxiv.org/abs/1907.06845).

The binary cross-entropy of a grey pixel is not the logarithm of a density. This is what it becomes when it is divided by its integral.
"""

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent

from vaelab import distributions
from vaelab.conditional import Conditional


class ContinuousBernoulli(Conditional):
    """p(x | z) = prod_i C(lambda_i) lambda_i^x_i (1 - lambda_i)^(1 - x_i) for x in [0, 1]; the network gives the logits of lambda(z)."""

    num_params = 1

    def distribution(self, logits: Float[Tensor, "..."]) -> Independent:
        return Independent(distributions.ContinuousBernoulli(logits, validate_args=False), self.event_ndim, validate_args=False)
