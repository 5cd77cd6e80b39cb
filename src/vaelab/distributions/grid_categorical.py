"""Any distribution over the grey levels of a picture."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Categorical, constraints

from vaelab.distributions.supports import Grid


class GridCategorical(Categorical):
    """p(x = k / (n - 1)) = softmax(logits)_k for k = 0, ..., n - 1, where n is the last size of logits."""

    arg_constraints: ClassVar = {"logits": constraints.real_vector}  # type: ignore[misc]

    def __init__(self, logits: Float[Tensor, "*batch n"], validate_args: bool | None = None) -> None:
        self.grid = Grid(logits.shape[-1])
        super().__init__(logits=logits, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return self.grid

    @property
    def mean(self) -> Float[Tensor, "*batch"]:
        return (self.probs * self.grid.values(self.probs)).sum(-1)  # not @, which autocast takes to half precision

    @property
    def mode(self) -> Float[Tensor, "*batch"]:
        return self.grid.value(self.logits.argmax(-1).to(self.logits.dtype))

    @property
    def variance(self) -> Float[Tensor, "*batch"]:
        values = self.grid.values(self.probs)
        return (self.probs * (values - self.mean.unsqueeze(-1)).square()).sum(-1)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        level, log_p = torch.broadcast_tensors(self.grid.level(value).long().unsqueeze(-1), self.logits)
        return log_p.gather(-1, level[..., :1]).squeeze(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Size | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        return self.grid.value(super().sample(torch.Size(sample_shape)).to(self.logits.dtype))
