"""A prior over real numbers that gives each a density given those before it (Tschannen et al., 2024, https://arxiv.org/abs/2312.02116)."""

from collections.abc import Callable, Sequence
from math import prod

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from vaelab.checks import check_at_least
from vaelab.distributions import AutoregressiveGaussians, soft_limit
from vaelab.networks.transformer import CausalTransformer

SPREAD = 1.5  # of the means of a mixture that has learned nothing, in the units of z


class AutoregressiveMixture(nn.Module):
    """p(z) = prod_i p(z_i | z_1, ..., z_(i-1)), each a mixture of Gaussians, by a network that looks back only.

    The numbers of one place of z (C, *space) follow one another. A space of other than two dimensions is folded into rows along its last.

    Args:
        z_shape: of z.
        channels, num_layers: of the network.
        num_components: of each mixture.
        network: a factory, network(in_shape, out_shape, channels, num_layers): a causal Transformer, or `vaelab.networks.PixelCNN`.

    Raises:
        ValueError: if there are no components, or the network is refused.
    """

    def __init__(
        self,
        z_shape: Sequence[int],
        channels: int = 64,
        num_layers: int = 4,
        num_components: int = 8,
        network: Callable[..., nn.Module] = CausalTransformer,
    ) -> None:
        super().__init__()
        check_at_least(1, num_components=num_components)
        self.z_shape, space = tuple(z_shape), tuple(z_shape[1:])
        self.grid = (prod(space[:-1]), prod(space[-1:]) * prod(self.z_shape[:1]))
        self.network = network((1, *self.grid), (3 * num_components, *self.grid), channels, num_layers)
        self.register_buffer("means", torch.linspace(-SPREAD, SPREAD, num_components)[:, None], persistent=False)

    means: Tensor

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> AutoregressiveGaussians:
        return AutoregressiveGaussians(self.parameters_of, self.means, self.z_shape, validate_args=False)

    def parameters_of(self, numbers: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor, Tensor]:
        """log w, mu and log sigma of each number given those before it, each (n, M, d)."""
        found = self.network(numbers.reshape(len(numbers), 1, *self.grid)).flatten(2)
        found = found.float() if found.dtype in (torch.bfloat16, torch.float16) else found
        logits, shift, log_scale = found.chunk(3, 1)
        return logits.log_softmax(1), self.means + shift, soft_limit(log_scale)
