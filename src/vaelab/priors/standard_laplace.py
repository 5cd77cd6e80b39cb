"""The standard Laplace prior: axes that mean something, because its density is not the same in all directions."""

from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.distributions import Independent, Laplace


class StandardLaplace(nn.Module):
    """p(z) = prod_i exp(-|z_i|) / 2 over events of shape z_shape, the same for every y."""

    loc: Tensor
    scale: Tensor

    def __init__(self, z_shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(tuple(z_shape)), persistent=False)
        self.register_buffer("scale", torch.ones(tuple(z_shape)), persistent=False)

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> Independent:
        return Independent(Laplace(self.loc, self.scale, validate_args=False), self.loc.ndim, validate_args=False)
