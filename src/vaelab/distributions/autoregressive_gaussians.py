"""Real numbers, each a mixture of Gaussians given those before it (Tschannen et al., 2024, https://arxiv.org/abs/2312.02116)."""

from collections.abc import Callable
from math import log, pi, prod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

Shape = Size | tuple[int, ...]


class AutoregressiveGaussians(Distribution):
    """p(z) = prod_i sum_m w_im N(z_i; mu_im, sigma_im^2), with w, mu, sigma of number i functions of z_1, ..., z_(i-1).

    The order of z (C, *space) is that of the places, row-major, with the C numbers of a place one after the other.

    Args:
        parameters: z in that order, (n, N) -> log w, mu, log sigma, each (n, M, N), where those of i depend on the numbers before i only.
        like: a tensor on the device of `parameters`, with the dtype of z.
        shape: of z.
    """

    arg_constraints: ClassVar = {}
    support = constraints.real

    def __init__(
        self,
        parameters: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]],
        like: Tensor,
        shape: Shape,
        batch_shape: Shape = (),
        validate_args: bool | None = None,
    ) -> None:
        self.parameters, self.like = parameters, like
        super().__init__(Size(batch_shape), Size(shape), validate_args=validate_args)

    def expand(self, batch_shape: Shape, _instance: None = None) -> "AutoregressiveGaussians":
        return AutoregressiveGaussians(self.parameters, self.like, self.event_shape, batch_shape, validate_args=False)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        value = value.expand(torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape))
        batch = value.shape[: value.ndim - len(self.event_shape)]
        flat = value.reshape(prod(batch), *self.event_shape)
        numbers = flat.movedim(1, -1).reshape(len(flat), -1) if len(self.event_shape) > 1 else flat.reshape(len(flat), -1)
        log_w, loc, log_scale = self.parameters(numbers)
        squares = ((numbers.unsqueeze(1) - loc) * (-log_scale).exp()).square()
        log_p = (log_w - squares / 2 - log_scale).logsumexp(1) - log(2 * pi) / 2
        return log_p.sum(1).reshape(batch)

    @torch.no_grad()
    def sample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        """Number by number, each with one pass through the whole of `parameters`."""
        shape = self._extended_shape(Size(sample_shape))
        num = prod(shape[: len(shape) - len(self.event_shape)])
        numbers = self.like.new_zeros(num, self.event_shape.numel())
        for i in range(numbers.shape[1]):
            log_w, loc, log_scale = (part[:, :, i] for part in self.parameters(numbers))
            chosen = (log_w.exp() / torch.empty_like(log_w).exponential_()).argmax(1, keepdim=True)  # as torch.multinomial, without a wait
            noise = torch.randn_like(numbers[:, :1])
            numbers[:, i] = (loc.gather(1, chosen) + log_scale.gather(1, chosen).exp() * noise).squeeze(1)
        if len(self.event_shape) > 1:
            return numbers.reshape(num, *self.event_shape[1:], self.event_shape[0]).movedim(-1, 1).reshape(shape)
        return numbers.reshape(shape)
