"""Operations on distributions and on log-probabilities."""

import math

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution


def log_mean_exp(x: Float[Tensor, "k ..."], dim: int = 0) -> Float[Tensor, "..."]:
    """log (1/K) sum_k exp x_k, without overflow."""
    return x.logsumexp(dim) - math.log(x.shape[dim])


def rsample_and_log_prob(q: Distribution, num_samples: int) -> tuple[Float[Tensor, "k ..."], Float[Tensor, "k ..."]]:
    """K samples of q and their log-density: z (K, *batch, *event), log q(z) (K, *batch).

    Reparameterised where q is (Kingma & Welling, 2014; Rezende et al., 2014), else plain samples. A distribution that knows its
    density only along its own samples, as a flow without an inverse does, brings a method `rsample_and_log_prob(shape)`.
    """
    along_the_sample = getattr(q, "rsample_and_log_prob", None)
    if along_the_sample is not None:
        return along_the_sample((num_samples,))
    z = q.rsample((num_samples,)) if q.has_rsample else q.sample((num_samples,))
    return z, q.log_prob(z)
