"""Sums and means over all processes that train one model.

DistributedDataParallel trains with the mean of the processes' gradients. Where a loss is a mean over examples, that is the gradient of the
mean over the examples of all processes; where it couples the examples of a batch, it is so only if each process looks at all of them.
"""

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable


def world() -> tuple[int, int]:
    """The rank of this process, and how many there are: (0, 1) where there is one."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


class _Gather(torch.autograd.Function):
    """Backwards, what all processes ask of an example is added up: the mean of their gradients is then that of the mean of their losses."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, x)
        return torch.stack(parts, 1).flatten(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        rank, size = world()
        total = gradient.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total.unflatten(0, (-1, size))[:, rank]


def all_gather(x: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "n ..."]:
    """x of all processes, whose batches must be of one size: row i of rank r becomes row i W + r of W processes.

    That is the order in which the data module deals examples out, so it is the batch that one process would have. To be called by all
    processes alike. If each takes its loss of this, their mean has the right gradient; the loss may be the same for all, or of its own
    rows compared with all.
    """
    return x if world()[1] == 1 else _Gather.apply(x.contiguous())


def all_mean(x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """The mean of x over the processes."""
    return all_gather(x[None]).mean(0)
