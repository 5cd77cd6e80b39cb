"""Gated layers: h(x) sigmoid(g(x)), of two linear maps h and g (Dauphin et al., 2017, https://arxiv.org/abs/1612.08083)."""

from collections.abc import Callable
from functools import partial

from torch import nn

from vaelab.checks import check_flag


def gate(gated: bool, activation: Callable[[], nn.Module]) -> tuple[Callable[[], nn.Module], int]:
    """The activation after a hidden layer, and how many outputs of the layer become one.

    These are the given activation and 1; where layers are gated, one half of the outputs times the sigmoid of the other half, and 2.

    Raises:
        ValueError: if gated is neither true nor false, or there is an activation besides the gate: any but ReLU, the default.
    """
    check_flag(gated=gated)
    if not gated:
        return activation, 1
    chosen = activation.func if isinstance(activation, partial) else activation
    if chosen is not nn.ReLU:
        name = getattr(chosen, "__name__", chosen)
        raise ValueError(f"activation={name} would not be used, because a gated layer has none: leave it out, or set gated=false")
    return partial(nn.GLU, dim=1), 2
