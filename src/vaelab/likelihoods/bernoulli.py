"""Binary pixels."""

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent

from vaelab import distributions
from vaelab.conditional import Conditional


class Bernoulli(Conditional):
    """p(x | z) = prod_i Bernoulli(x_i; sigmoid f_i(z)), for x in {0, 1}; the network gives the logits f(z).

    log p(x | z) in nats is minus the binary cross-entropy, summed over the event (Kingma & Welling, 2014, appendix C.1).
    """

    num_params = 1

    def distribution(self, logits: Float[Tensor, "..."]) -> Independent:
        return Independent(distributions.Bernoulli(logits=logits, validate_args=False), self.event_ndim, validate_args=False)
