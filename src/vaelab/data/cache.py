"""Values in a file that is read as memory, for data that are too large for it."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

Fill = Callable[[Tensor], dict[int, str]]


def cached(path: Path, shape: Sequence[int], fill: Fill) -> tuple[UInt8[Tensor, "n ..."], dict[int, str]]:
    """8-bit values of a shape, and what `fill` returned when it wrote them: now, or another time, or in another process.

    The file is mapped into memory: what is used of it is held by the system, as long as there is room.

    Args:
        path: of the file; its folder is made. Beside it, in a file that ends in ".json", is what `fill` returned.
        shape: of the values.
        fill: writes the values into zeros, and returns messages by the places of examples that it could not write.

    Raises:
        OSError: if the file cannot be written or read.
    """
    notes, size = path.with_suffix(".json"), torch.Size(shape).numel()
    broken = read_notes(notes)
    if broken is None or not path.is_file() or path.stat().st_size != size:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")  # of this process: others may write theirs
        try:
            with part.open("wb") as file:
                allocate(file.fileno(), size)
            broken = fill(mapped(part, shape, shared=True))
            part.replace(path)
            part.write_text(json.dumps(broken))
            part.replace(notes)
        finally:
            part.unlink(missing_ok=True)
    return mapped(path, shape), broken


def read_notes(path: Path) -> dict[int, str] | None:
    """The messages beside a file of values; None if they are not there, or damaged."""
    try:
        return {int(place): str(message) for place, message in json.loads(path.read_text()).items()}
    except (FileNotFoundError, ValueError, AttributeError):
        return None


def allocate(file: int, size: int) -> None:
    """Makes a file as long as it will be: on a full disk that is an error now, and later the end of the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)


def mapped(path: Path, shape: Sequence[int], shared: bool = False) -> UInt8[Tensor, "n ..."]:
    """A file as a tensor; what is written into it reaches the file only if it is shared."""
    return torch.from_file(str(path), shared=shared, size=torch.Size(shape).numel(), dtype=torch.uint8).reshape(tuple(shape))
