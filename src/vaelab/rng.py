"""Every random number generator of a process: saved, restored, and set aside."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def snapshot() -> tuple[Any, ...]:
    """The states of Python's, NumPy's and torch's generators, as they are; quicker than `state`."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda


def go_back(saved: tuple[Any, ...]) -> None:
    """Sets every generator to what `snapshot` returned."""
    python, numpy, cpu, cuda = saved
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)


def state() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's generators, of plain types that a checkpoint can be read with weights_only=True."""
    (version, numbers, gauss), (name, keys, *rest), cpu, cuda = snapshot()
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": cpu,
        "cuda": cuda,
    }


def restore(saved: dict[str, Any]) -> None:
    """Sets every generator to a state that `state` returned; those of GPUs only if there are as many as there were."""
    version, numbers, gauss = saved["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = saved["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(saved["torch"].cpu())
    if len(saved["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([cuda.cpu() for cuda in saved["cuda"]])


def of_device(device: torch.device) -> torch.Tensor:
    """The state of torch's generator of a device."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def restore_device(state: torch.Tensor, device: torch.device) -> None:
    """Sets torch's generator of a device."""
    torch.cuda.set_rng_state(state, device) if device.type == "cuda" else torch.set_rng_state(state)


@contextmanager
def fork(seed: int) -> Iterator[None]:
    """Inside, torch draws from generators of this seed; afterwards every generator goes on where it was.

    Evaluation and pictures use it, so that turning them on does not change what training reaches.
    """
    saved = state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        restore(saved)
