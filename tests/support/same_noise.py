"""The same random numbers on every device."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


class SameNoise(TorchDispatchMode):
    """Draws all random numbers on the CPU, by its generator, and copies them to where they are asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        tensors = [each for each in args if isinstance(each, Tensor)]
        device = tensors[0].device if tensors else torch.device(kwargs.get("device") or "cpu")

        def on_cpu(value: Any) -> Any:
            if isinstance(value, torch.device):
                return torch.device("cpu")
            return value.cpu() if isinstance(value, Tensor) else value

        drawn = func(*tree_map(on_cpu, args), **tree_map(on_cpu, kwargs))
        if func._schema.is_mutable:  # such as normal_
            return tensors[0].copy_(drawn)
        return tree_map(lambda value: value.to(device) if isinstance(value, Tensor) else value, drawn)
