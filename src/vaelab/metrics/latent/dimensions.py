"""Numbers that say which dimensions of z are used."""

from jaxtyping import Float
from torch import Tensor

from vaelab.divergences import factorised, kl_per_dimension
from vaelab.draw import Latent


def active_units(means: Float[Tensor, "n ..."], threshold: float = 0.01) -> int:
    """The number of dimensions u of z with Var_x(E_q(u | x)[u]) > threshold (Burda et al., 2016, section 5.2).

    https://arxiv.org/abs/1509.00519

    Args:
        means: of q(z | x_n), for N examples.
        threshold: the paper's 0.01.
    """
    return int((unit_variances(means) > threshold).sum())


def unit_variances(means: Float[Tensor, "n ..."]) -> Float[Tensor, "d"]:
    """Var_x(E_q(u | x)[u]) of each dimension u of z: the mean square over N examples, as in the paper's code."""
    return means.flatten(1).var(0, correction=0)


def rate_per_dimension(latent: Latent) -> Float[Tensor, "b d"] | None:
    """KL(q(z_d | x) || p(z_d)) in nats, or of each one-hot variable; None where q or p does not factorise.

    In closed form where there is one, else the mean of log q(z_d | x) - log p(z_d) over the samples.
    """
    if not factorised(latent):
        return None
    try:
        rates = kl_per_dimension(latent, "analytic")
    except ValueError:
        rates = kl_per_dimension(latent, "k1")
    return rates.mean(0).reshape(latent.shape[1], -1)
