"""A Gaussian posterior whose dimensions are correlated given x."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, register_kl

from vaelab.conditional import Conditional, NetworkFactory
from vaelab.distributions import soft_limit


class FullCovarianceGaussian(Conditional):
    """q(z | x) = N(z; mu(x), L(x) L(x)^T), with L lower triangular and exp of its outputs on the diagonal, see
    `vaelab.distributions.soft_limit`.

    The network gives 1 + D numbers for each of D dimensions: mu, and the rows of L, of which half are used.

    Args:
        network, in_shape, event_shape, num_classes: see `Conditional`; the event is a vector.

    Raises:
        ValueError: if z is no vector.
    """

    def __init__(self, network: NetworkFactory, in_shape: Sequence[int], event_shape: Sequence[int], num_classes: int = 0) -> None:
        if len(event_shape) != 1:
            raise ValueError(f"a full covariance needs a vector z, but z_shape={list(event_shape)}: set posterior=gaussian or latent_dim")
        self.num_params = 1 + event_shape[0]
        super().__init__(network, in_shape, event_shape, num_classes)

    def distribution(self, loc: Float[Tensor, "... d"], *rows: Float[Tensor, "... d"]) -> MultivariateNormal:
        matrix = torch.stack(rows, dim=-2)
        scale_tril = matrix.tril(-1) + soft_limit(matrix.diagonal(dim1=-2, dim2=-1)).exp().diag_embed()
        return MultivariateNormal(loc, scale_tril=scale_tril, validate_args=False)


def kl_to_diagonal(q: MultivariateNormal, p: Independent) -> Float[Tensor, "..."]:
    """(tr(S^-1 L L^T) + (mu - m)^T S^-1 (mu - m) - D) / 2 + log det S^(1/2) - log det L, for p = N(m, S) with S diagonal."""
    if not isinstance(p.base_dist, Normal) or p.event_shape != q.event_shape:
        raise NotImplementedError
    scale, tril = p.base_dist.scale, q.scale_tril
    squares = (tril / scale[..., None]).square().sum((-2, -1)) + ((q.loc - p.base_dist.loc) / scale).square().sum(-1)
    log_ratio = scale.log().sum(-1) - tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return (squares - q.event_shape[0]) / 2 + log_ratio


register_kl(MultivariateNormal, Independent)(kl_to_diagonal)
