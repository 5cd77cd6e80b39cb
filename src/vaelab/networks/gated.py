"""Hidden layers. A gated one is h(x) sigmoid(g(x)), with two linear maps h and g (Dauphin et al., 2017, https://arxiv.org/abs/1612.08083)."""

from collections.abc import Callable, Sequence
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


def dense(widths: Sequence[int], activation: Callable[[], nn.Module], parts: int = 1) -> list[nn.Module]:
    """Linear layers from each width to the next, each followed by the activation, which makes `parts` outputs one."""
    pairs = zip(widths[:-1], widths[1:], strict=True)
    return [layer for fan_in, fan_out in pairs for layer in (nn.Linear(fan_in, parts * fan_out), activation())]
