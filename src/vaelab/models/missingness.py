"""Models of which values are missing, p(s | x), where that depends on the values themselves (not-MIWAE; Ipsen et al., 2021, 2006.12871).

s_j = 1 where x_j was observed. x is completed with samples of p(x_m | z) whose gradients are taken, so that log p(x_o, s | z) is bounded.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import softplus


class Missingness(nn.Module, ABC):
    """p(s | x) = prod_j sigmoid(f_j(x))^s_j sigmoid(-f_j(x))^(1 - s_j).

    Args:
        shape: of x.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    @abstractmethod
    def logits(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """f of flat x."""

    def forward(self, x: Float[Tensor, "..."], observed: Bool[Tensor, "b ..."]) -> Float[Tensor, "..."]:
        """log p(s | x) in nats, (*batch), of complete x (*batch, *shape) and which of its values were observed."""
        first = -len(self.shape)
        logits = self.logits(x.flatten(first))
        return nn.functional.logsigmoid(torch.where(observed.flatten(first), logits, -logits)).sum(-1)


class SelfMasking(Missingness):
    """f_j(x) = w_j (x_j - b_j): whether a value is missing depends on itself alone.

    Args:
        shape: of x.
        known: whether it is known that large values go missing: w_j = -softplus(v_j) is negative.
    """

    def __init__(self, shape: Sequence[int], known: bool = False) -> None:
        super().__init__(shape)
        self.known = known
        self.weight = nn.Parameter(0.1 * torch.randn(prod(shape)))
        self.bias = nn.Parameter(torch.zeros(prod(shape)))

    def logits(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return (-softplus(self.weight) if self.known else self.weight) * (x - self.bias)


class Agnostic(Missingness):
    """f(x) = W x + b: whether a value is missing may depend on all values."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        self.layer = nn.Linear(prod(shape), prod(shape))

    def logits(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return self.layer(x)
