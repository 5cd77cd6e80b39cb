"""Faster networks that compute the same, up to the rounding of bfloat16."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning import Callback, LightningModule, Trainer
from torch import nn

from vaelab.conditional import Conditional

NETWORK_SETTINGS = ("channels_last", "bf16", "compile")  # of a config's speed: the options of `accelerate`
M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1  # of malloc.h


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next allocation of this process instead of giving it back to the system.

    Every step frees and allocates the same large tensors. By default glibc unmaps and maps them, and the system clears each page again:
    half of the time of a 64 x 64 convolutional VAE on two cores. Nothing else changes; without glibc nothing does.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


# what Lightning calls at each step of everything that it knows
STEP_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)


def leave_out_idle_hooks(trainer: Trainer, module: LightningModule) -> None:
    """Makes Lightning leave out the hooks of a step that do nothing: a dozen callbacks have some sixty of them, and few are overridden.

    Lightning calls what is callable, so that None in place of a hook of a base class is passed over.
    """
    parts = [(module, LightningModule), *((callback, Callback) for callback in trainer.callbacks)]  # type: ignore[attr-defined]
    for part, base in parts:
        for hook in STEP_HOOKS:
            if not is_overridden(part, base, hook):
                setattr(part, hook, None)


def is_overridden(part: object, base: type, hook: str) -> bool:
    """True if a hook does something else than that of its base class, which does nothing."""
    return callable(getattr(part, hook)) and (hook in vars(part) or getattr(type(part), hook) is not getattr(base, hook))


def ask_cuda_cheaply() -> None:
    """Stops torch from looking for GPUs by NVML, which importing Lightning has switched on.

    NVML opens a library each time, and torch's optimizers look for a GPU at each step. It is needed only if a process looks for GPUs
    before it forks others that use them. When a fit begins, its processes have been started.
    """
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)


def accelerate(model: nn.Module, channels_last: bool = False, bf16: bool = False, compile: bool = False) -> None:
    """Changes how the networks of a model run, in place; its parameters, their names and its probabilities stay float32.

    Args:
        model: any module that holds `Conditional`s.
        channels_last: keeps convolution weights in (O, H, W, I) order, which convolutions then also use for their output.
        bf16: runs the networks under autocast to bfloat16.
        compile: runs torch.compile on the networks. It is done in place, so that a checkpoint's keys do not change.
    """
    for part in model.modules():
        if isinstance(part, Conditional):
            if channels_last:
                part.network.to(memory_format=torch.channels_last)
            if bf16:
                part.autocast = torch.bfloat16
            if compile:
                part.network.compile()


@contextmanager
def with_threads(num: int | None) -> Iterator[None]:
    """Inside, torch computes with so many threads of the CPU; None: with those that it has."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if num is None else num)
    try:
        yield
    finally:
        torch.set_num_threads(before)
