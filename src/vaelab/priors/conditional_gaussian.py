"""A Gaussian for each class: the prior of a conditional VAE (Sohn et al., 2015)."""

from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from vaelab.conditional import check_labels
from vaelab.distributions import soft_limit


class ConditionalGaussian(nn.Module):
    """p(z | y) = N(z; mu_y, diag sigma_y^2), with mu and sigma learned for every class; all start as N(0, I).

    Args:
        z_shape: of the latent variable.
        num_classes: how many classes y may name.

    Raises:
        ValueError: if there is no class, or y is missing or names none.
    """

    def __init__(self, z_shape: Sequence[int], num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"prior=conditional_gaussian has a Gaussian for each class, but num_classes={num_classes}: set num_classes")
        self.num_classes = num_classes
        self.loc = nn.Parameter(torch.zeros(num_classes, *z_shape))
        self.log_scale = nn.Parameter(torch.zeros(num_classes, *z_shape))

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> Independent:
        label = check_labels(type(self).__name__, y, self.num_classes)
        normal = Normal(self.loc[label], soft_limit(self.log_scale[label]).exp(), validate_args=False)
        return Independent(normal, self.loc.ndim - 1, validate_args=False)
