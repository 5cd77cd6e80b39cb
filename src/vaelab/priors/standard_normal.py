"""The prior of Kingma & Welling (2014)."""

from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.distributions import Independent

from vaelab import distributions


class StandardNormal(nn.Module):
    """p(z) = N(0, I) over events of shape z_shape, the same for every y."""

    loc: Tensor
    scale: Tensor

    def __init__(self, z_shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(tuple(z_shape)), persistent=False)
        self.register_buffer("scale", torch.ones(tuple(z_shape)), persistent=False)

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> Independent:
        return Independent(distributions.StandardNormal(self.loc, self.scale, validate_args=False), self.loc.ndim, validate_args=False)
