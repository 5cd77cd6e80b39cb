"""8-bit pixels, each with a probability of its own for every grey level (van den Oord et al., 2016, https://arxiv.org/abs/1601.06759)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent

from vaelab import distributions
from vaelab.conditional import Conditional, NetworkFactory


class Categorical(Conditional):
    """p(x | z) = prod_i softmax(f_i(z))_k for x_i = k / 255; the network gives 256 logits for each value of x.

    Args:
        network, in_shape, event_shape, num_classes: see `Conditional`.
        num_bins: how many values a pixel can have.

    Raises:
        ValueError: if there are fewer than two bins.
    """

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        num_classes: int = 0,
        num_bins: int = 256,
    ) -> None:
        self.num_params = distributions.Grid(num_bins).num_bins
        super().__init__(network, in_shape, event_shape, num_classes)

    def distribution(self, *logits: Float[Tensor, "..."]) -> Independent:
        base = distributions.GridCategorical(torch.stack(logits, -1), validate_args=False)
        return Independent(base, self.event_ndim, validate_args=False)
