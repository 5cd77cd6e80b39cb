"""KL(q || p) of a latent variable, in closed form or from its samples.

With r = p(z) / q(z) and z ~ q, Schulman's estimators (http://joschu.net/blog/kl-approx.html) are

    k1 = -log r              unbiased; may be negative
    k2 = (log r)^2 / 2       biased, small in variance when q is near p; never negative
    k3 = (r - 1) - log r     unbiased where p's support lies inside q's; never negative

k3 takes the exponential of log r: its variance is infinite for Gaussians with sigma_q < sigma_p / sqrt(2), which is what posteriors
of a standard normal prior usually are. As losses they differ: the reparameterised gradients of k1 and k3 are unbiased for that of
the KL, and k2's is not. Where q and p both factorise over the dimensions of z, k2 and k3 are taken per dimension and then summed (for k1
that changes nothing), which has less variance; otherwise they are taken of the joint density. A categorical variable, one-hot over its
classes, counts as one dimension.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from vaelab.checks import check_choice
from vaelab.draw import Draw, Latent, check_same_space

ESTIMATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "k1": lambda log_ratio: log_ratio,
    "k2": lambda log_ratio: log_ratio.square() / 2,
    "k3": lambda log_ratio: torch.expm1(-log_ratio) + log_ratio,
}


def kl(latent: Latent, estimator: str = "analytic") -> Float[Tensor, "k b"]:
    """KL(q || p) in nats for each sample; the closed form is the same for every sample.

    Args:
        latent: z ~ q with its two distributions.
        estimator: "analytic", "k1", "k2" or "k3".

    Raises:
        ValueError: if the estimator is unknown, or there is no closed form.
    """
    if factorised(latent):
        return kl_per_dimension(latent, estimator).reshape(*latent.shape, -1).sum(-1)
    if estimator == "analytic":
        return _analytic(latent.q, latent.p).expand(latent.shape)
    return _monte_carlo(estimator)(latent.log_q - latent.log_p)


def mean_rate(draw: Draw, estimator: str = "analytic") -> Float[Tensor, ""]:
    """KL(q || p) of all latent variables together, the mean over samples and examples, in nats.

    Raises:
        ValueError: as `kl`.
    """
    first, *others = [kl(latent, estimator).mean() for latent in draw.latents]
    return sum(others, first)


def kl_per_dimension(latent: Latent, estimator: str = "analytic") -> Float[Tensor, "k b ..."]:
    """The KL of each dimension of z, in nats; their sum is `kl`. Of N categorical variables, (K, B, N).

    Raises:
        ValueError: if q or p does not factorise over the dimensions of z, or as for `kl`.
    """
    q, p = latent.q, latent.p
    if not (isinstance(q, Independent) and isinstance(p, Independent) and factorised(latent)):
        raise ValueError(
            f"the KL has no dimensions to report: {_name(q)} or {_name(p)} does not factorise over z; free bits can be those"
            " of each latent variable: set objective.free_bits_of=latent"
        )
    if estimator == "analytic":
        return _analytic(q.base_dist, p.base_dist).expand(latent.shape + q.base_dist.batch_shape[len(q.batch_shape) :])
    check_same_space(q, p)
    return _monte_carlo(estimator)(q.base_dist.log_prob(latent.z) - p.base_dist.log_prob(latent.z))


def factorised(latent: Latent) -> bool:
    """True if q and p are both products over the dimensions of z, or over the same variables that z is made of."""
    q, p = latent.q, latent.p
    return isinstance(q, Independent) and isinstance(p, Independent) and q.base_dist.event_shape == p.base_dist.event_shape


def is_product(distribution: Distribution) -> bool:
    """True if it is a product over the dimensions of its event."""
    return isinstance(distribution, Independent) and not distribution.base_dist.event_shape


def _analytic(q: Distribution, p: Distribution) -> Tensor:
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        check_same_space(q, p)
        raise ValueError(
            f"no closed-form KL between {_name(q)} and {_name(p)}: set objective.kl=k1 (Monte Carlo); objective.elbo.kl=k1 if the"
            " objective is a sum"
        ) from None


def _monte_carlo(estimator: str) -> Callable[[Tensor], Tensor]:
    check_choice(("analytic", *ESTIMATORS), estimator=estimator)
    return ESTIMATORS[estimator]


def _name(distribution: Distribution) -> str:
    return _name(distribution.base_dist) if isinstance(distribution, Independent) else type(distribution).__name__
