"""A watch for what makes a GPU wait, for machines without one."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# what gives Python a value or a shape that depends on one, or makes a tensor of a value of Python's; the last one looks whether a matrix
# could be inverted
ASKS = {"_local_scalar_dense", "nonzero", "equal", "_is_all_true", "masked_select", "_unique2", "bincount", "lift_fresh"}
ASKS |= {"_linalg_check_errors"}
MOVES, INDEXES = {"_to_copy", "copy_"}, {"index", "index_put", "index_put_", "_unsafe_index"}


class Watch(TorchDispatchMode):
    """Notes the operations that make a GPU wait."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out, name = func(*args, **(kwargs or {})), func.overloadpacket.__name__
        tensors = [each for each in tree_leaves((args, kwargs, out)) if isinstance(each, Tensor)]
        moves = name in MOVES and len({each.device for each in tensors}) > 1
        counts = name in INDEXES and any(each.dtype in (torch.bool, torch.uint8) for each in tree_leaves(args[1]) if each is not None)
        checks = name == "multinomial" and args[1] == 1  # whether its weights are none
        if name in ASKS or moves or counts or checks:
            self.found.append(f"{name}{[tuple(each.shape) for each in tree_leaves(args) if isinstance(each, Tensor)]}")
        return out
