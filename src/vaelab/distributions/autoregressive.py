"""Grids of categorical variables, each given those before it (van den Oord et al., 2016, https://arxiv.org/abs/1601.06759, eq. 1)."""

from collections.abc import Callable
from math import prod
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

Shape = Size | tuple[int, ...]


class Autoregressive(Distribution):
    """p(k) = prod_i softmax(f_i(k_1, ..., k_(i-1)))_(k_i) over grids k of indices in row-major order.

    Args:
        logits: f: indices (n, *space) -> (n, K, *space), where place i depends on the places before i only.
        like: a tensor on the device of f.
        space: of the grid.
    """

    arg_constraints: ClassVar = {}
    support = constraints.nonnegative_integer

    def __init__(
        self, logits: Callable[[Tensor], Tensor], like: Tensor, space: Shape, batch_shape: Shape = (), validate_args: bool | None = None
    ) -> None:
        self.logits, self.like = logits, like
        super().__init__(Size(batch_shape), Size(space), validate_args=validate_args)

    def expand(self, batch_shape: Shape, _instance: None = None) -> "Autoregressive":
        return Autoregressive(self.logits, self.like, self.event_shape, batch_shape, validate_args=False)

    def log_prob(self, value: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        value = value.expand(torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape))
        batch = value.shape[: value.ndim - len(self.event_shape)]
        flat = value.reshape(prod(batch), *self.event_shape)
        log_p = self.logits(flat).log_softmax(1).gather(1, flat.unsqueeze(1))
        return log_p.flatten(1).sum(1).reshape(batch)

    @torch.no_grad()
    def sample(self, sample_shape: Shape = ()) -> Int[Tensor, "..."]:
        """Place by place, each with one pass through the whole of f."""
        shape = self._extended_shape(Size(sample_shape))
        num = prod(shape[: len(shape) - len(self.event_shape)])
        flat = torch.zeros(num, self.event_shape.numel(), dtype=torch.long, device=self.like.device)
        for i in range(flat.shape[1]):
            logits = self.logits(flat.reshape(num, *self.event_shape)).reshape(num, -1, flat.shape[1])
            probs = logits[:, :, i].softmax(-1)
            flat[:, i] = (probs / torch.empty_like(probs).exponential_()).argmax(1)  # as torch.multinomial, which makes a GPU wait
        return flat.reshape(shape)
