"""Priors over categorical latent variables of shape (N, C): N variables of C classes each."""

from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.distributions import Independent

from vaelab.checks import check_positive
from vaelab.distributions import ExpConcrete, OneHot


class UniformCategorical(nn.Module):
    """p(z) = C^-N for every z of N one-hot codes."""

    logits: Tensor

    def __init__(self, z_shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("logits", torch.zeros(tuple(z_shape)), persistent=False)

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> Independent:
        return Independent(OneHot(self.logits, validate_args=False), self.logits.ndim - 1, validate_args=False)


class RelaxedCategorical(nn.Module):
    """The same while evaluating, and its relaxation while training, so that a relaxed code has a density under it.

    Maddison et al. (2017, https://arxiv.org/abs/1611.00712, section 3.3), where the prior's temperature is not that of the posterior.

    Args:
        z_shape: (N, C).
        temperature: of the relaxation.

    Raises:
        ValueError: if the temperature is not positive.
    """

    logits: Tensor

    def __init__(self, z_shape: Sequence[int], temperature: float = 0.5) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        self.temperature = temperature
        self.register_buffer("logits", torch.zeros(tuple(z_shape)), persistent=False)

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> Independent:
        base = (
            ExpConcrete(self.logits, self.temperature, validate_args=False) if self.training else OneHot(self.logits, validate_args=False)
        )
        return Independent(base, self.logits.ndim - 1, validate_args=False)
