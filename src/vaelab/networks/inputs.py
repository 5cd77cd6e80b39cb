"""Functions of an input that a network applies before its first layer. The values that a likelihood scores stay as they are."""

from collections.abc import Callable, Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.checks import check_choice
from vaelab.networks.columns import Columns


class Log1p(nn.Module):
    """sign(x) log(1 + |x|): counts from 0 to 1,000 become numbers from 0 to 7 (as in scVI; Lopez et al., 2018, Nature Methods 15)."""

    def forward(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        return x.sign() * x.abs().log1p()


class Standardize(nn.Module):
    """(x - mean) / sd with the mean and standard deviation that each value of x has in the first training batch, as ActNorm has it.

    They are kept in checkpoints (Kingma & Dhariwal, 2018, https://arxiv.org/abs/1807.03039, section 3.1). A value that is the same in the
    whole batch has sd = 1.
    """

    mean: Tensor
    sd: Tensor
    is_known: Tensor

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(in_shape))
        self.register_buffer("sd", torch.ones(in_shape))
        self.register_buffer("is_known", torch.zeros((), dtype=torch.bool))

    def forward(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        if self.training and len(x) > 1 and not self.is_known:
            sd, mean = torch.std_mean(x.detach(), dim=0)
            self.mean.copy_(mean)
            self.sd.copy_(sd.where(sd > 0, 1.0))
            self.is_known.fill_(True)
        return (x - self.mean) / self.sd


INPUTS: dict[str, Callable[[tuple[int, ...]], nn.Module]] = {
    "none": lambda in_shape: nn.Identity(),
    "log1p": lambda in_shape: Log1p(),
    "standardize": Standardize,
}


def input_layer(name: str | Sequence, in_shape: Sequence[int]) -> nn.Module:
    """The module of this name for inputs (B, *in_shape), or the one for columns of these kinds.

    Raises:
        ValueError: if there is none of this name.
    """
    if not isinstance(name, str):
        return Columns(in_shape, name)
    check_choice(INPUTS, input=name)
    return INPUTS[name](tuple(in_shape))


def width_after(layer: nn.Module, in_shape: Sequence[int]) -> int:
    """Number of values that a module of `input_layer` gives for each input."""
    return layer.width if isinstance(layer, Columns) else prod(in_shape)
