"""Data that fit in memory."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.utils.data import Dataset


@runtime_checkable
class Examples(Protocol):
    """Any torch dataset with a length whose items are (x, y). It may have what `InMemory` has of names: y_names, y_values and y_cyclic."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> tuple[Tensor, Tensor]: ...


class InMemory(Dataset):
    """x (N, *x_shape) in its natural units (uint8 for 8-bit images) and y, held as tensors that answer a whole batch at once.

    >>> InMemory(torch.zeros(100, 1, 8, 8, dtype=torch.uint8), torch.arange(100) % 10)[[3, 4]][1]
    tensor([3, 4])

    A step of a VAE on small images is so short that fetching images one by one would cost more than the model.

    Args:
        x: the data.
        y: labels (N,), -1 where unknown, or factors (N, F).
        y_names: names of the classes, or of the factors.
        y_values: names of the values of a factor, such as {"shape": ["square", "ellipse", "heart"]}.
        y_cyclic: the factors whose last value is next to the first, such as ["orientation"].

    Raises:
        ValueError: if x and y differ in length.
    """

    def __init__(
        self,
        x: Shaped[Tensor, "n ..."],
        y: Shaped[Tensor, "m ..."] | None = None,
        y_names: Sequence[str] = (),
        y_values: Mapping[str, Sequence[str]] | None = None,
        y_cyclic: Sequence[str] = (),
    ) -> None:
        y = torch.full((len(x),), -1) if y is None else y
        if len(x) != len(y):
            raise ValueError(f"x has {len(x)} examples, but y has {len(y)}")
        self.x, self.y, self.y_names = x, y, tuple(y_names)
        self.y_values, self.y_cyclic = dict(y_values or {}), tuple(y_cyclic)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int | list[int] | Int[Tensor, "b"]) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]

    def to(self, device: torch.device) -> "InMemory":
        """The same data on a device."""
        return InMemory(self.x.to(device), self.y.to(device), self.y_names, self.y_values, self.y_cyclic)
