"""A mixture of Gaussians whose weights, means and variances are learned."""

from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, Normal

from vaelab.checks import check_at_least
from vaelab.distributions import GaussianMixture, soft_limit


class Mixture(nn.Module):
    """p(z) = sum_c pi_c N(z; mu_c, diag sigma_c^2), the same for every y.

    Args:
        z_shape: of the latent variable.
        num_components: C. The means start as draws from N(0, I), all sigmas at 1.
    """

    def __init__(self, z_shape: Sequence[int], num_components: int = 10) -> None:
        super().__init__()
        check_at_least(1, num_components=num_components)
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.loc = nn.Parameter(torch.randn(num_components, *z_shape))
        self.log_scale = nn.Parameter(torch.zeros(num_components, *z_shape))

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> GaussianMixture:
        normal = Normal(self.loc, soft_limit(self.log_scale).exp(), validate_args=False)
        components = Independent(normal, self.loc.ndim - 1, validate_args=False)
        return GaussianMixture(Categorical(logits=self.logits, validate_args=False), components, validate_args=False)
