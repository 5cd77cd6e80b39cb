"""The posterior of the hyperspherical VAE (Davidson et al., 2018, https://arxiv.org/abs/1804.00891)."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from vaelab import distributions
from vaelab.conditional import Conditional, NetworkFactory


class VonMisesFisher(Conditional):
    """q(z | x) = vMF(z; mu(x), kappa(x)) on the unit sphere of R^m, with one kappa for each x.

    The network gives mu up to its length, and m numbers whose mean is kappa's: kappa = 1 + softplus, as in the paper's code, which
    keeps q from becoming the uniform distribution, where mu has no gradient.

    Args:
        network, in_shape, event_shape, num_classes: see `Conditional`; the event is a vector of at least 2 numbers.

    Raises:
        ValueError: if it is not.
    """

    num_params = 2

    def __init__(self, network: NetworkFactory, in_shape: Sequence[int], event_shape: Sequence[int], num_classes: int = 0) -> None:
        if len(event_shape) != 1 or event_shape[0] < 2:
            raise ValueError(f"a sphere needs a vector z of at least 2 numbers, but z_shape={list(event_shape)}: set latent_dim")
        super().__init__(network, in_shape, event_shape, num_classes)

    def distribution(self, loc: Float[Tensor, "... m"], concentration: Float[Tensor, "... m"]) -> distributions.VonMisesFisher:
        direction = loc / loc.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return distributions.VonMisesFisher(direction, 1 + softplus(concentration.mean(-1)), validate_args=False)
