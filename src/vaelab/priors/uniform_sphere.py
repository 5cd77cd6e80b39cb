"""The prior of the hyperspherical VAE (Davidson et al., 2018, https://arxiv.org/abs/1804.00891)."""

from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from vaelab.distributions import HypersphericalUniform


class UniformSphere(nn.Module):
    """p(z) = 1 / |S^(m-1)| on the unit sphere of R^m, the same for every y.

    Args:
        z_shape: (m,).

    Raises:
        ValueError: if z is no vector of at least 2 numbers.
    """

    like: Tensor

    def __init__(self, z_shape: Sequence[int]) -> None:
        super().__init__()
        if len(z_shape) != 1 or z_shape[0] < 2:
            raise ValueError(f"a sphere needs a vector z of at least 2 numbers, but z_shape={list(z_shape)}: set latent_dim")
        self.register_buffer("like", torch.zeros(tuple(z_shape)), persistent=False)

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> HypersphericalUniform:
        return HypersphericalUniform(self.like, validate_args=False)
