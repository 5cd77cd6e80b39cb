"""How the latent space is used."""

from jaxtyping import Float
from torch import Tensor


def active_units(means: Float[Tensor, "n ..."], threshold: float = 0.01) -> int:
    """The number of dimensions u of z with Var_x(E_q(u | x)[u]) > threshold (Burda et al., 2016, section 5.2).

    Args:
        means: of q(z | x_n), for N examples.
        threshold: the paper's 0.01.
    """
    return int((means.flatten(1).var(0, correction=0) > threshold).sum())
