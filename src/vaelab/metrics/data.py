"""What metrics ask of a data module."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Data(Protocol):
    """Batches (x, y) of the splits "train", "val" and "test".

    A split, once it has been set up, has a dataset, a transform, and a modality that scales stored x and says whether they are viewable.
    """

    @property
    def splits(self) -> Mapping[str, Any]: ...

    def setup(self, stage: str) -> None: ...

    def batches(self, split: str, device: torch.device | str = "cpu") -> Iterator[tuple[Tensor, Tensor]]: ...


def device_of(model: nn.Module) -> torch.device:
    """Where the parameters of a model are."""
    return next(model.parameters(), torch.empty(0)).device
