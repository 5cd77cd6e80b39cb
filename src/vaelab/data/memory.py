"""Data that fit in memory, and what is taken for an example."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.utils.data import Dataset

from vaelab.data.listing import Contents


@runtime_checkable
class Examples(Protocol):
    """Any torch dataset with a length whose items are (x, y), or x: see `as_example`.

    It may have what `InMemory` has of names: names, y_names, y_values and y_cyclic.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> Any: ...


class InMemory(Dataset):
    """x (N, *x_shape) in its natural units (uint8 for 8-bit images) and y, held as tensors that answer a whole batch at once.

    >>> InMemory(torch.zeros(100, 1, 8, 8, dtype=torch.uint8), torch.arange(100) % 10)[[3, 4]][1]
    tensor([3, 4])
    >>> InMemory(torch.zeros(3, 9), ["cat", "dog", "cat"]).y
    tensor([0, 1, 0])

    A step of a VAE on small images is so short that fetching images one by one would cost more than the model.

    Args:
        x: the data.
        y: labels (N,), -1 where unknown, names of classes, or factors (N, F).
        y_names: names of the classes, or of the factors; of classes that y names, in alphabetical order by default.
        y_values: names of the values of a factor, such as {"shape": ["square", "ellipse", "heart"]}.
        y_cyclic: the factors whose last value is next to the first, such as ["orientation"].
        names: of the examples, such as the files that they were read from.

    Raises:
        ValueError: if x, y and names differ in length, or y names a class that y_names does not.
    """

    contents: Contents | None = None  # of the folder of pictures that they were read from
    absent: frozenset[int] = frozenset()  # places of examples that could not be read, and are left out
    note: str = ""  # one line for a person: what was found in a file
    has_val: bool = False  # whether there are validation data of their own
    is_shared: bool = False  # whether every split has these same examples
    truth: Tensor | None = None  # x with the values that were hidden on purpose; None: none were

    def __init__(
        self,
        x: Shaped[Tensor, "n ..."] | Shaped[np.ndarray, "n ..."],
        y: Shaped[Tensor, "m ..."] | Shaped[np.ndarray, "m ..."] | Sequence[Any] | None = None,
        y_names: Sequence[str] = (),
        y_values: Mapping[str, Sequence[str]] | None = None,
        y_cyclic: Sequence[str] = (),
        names: Sequence[str] = (),
    ) -> None:
        y = torch.full((len(x),), -1) if y is None else y
        for noun, count in (("y", len(y)), ("names", len(names) or len(x))):
            if len(x) != count:
                raise ValueError(f"x has {len(x)} examples, but {noun} has {count}")
        if not isinstance(y, Tensor) and len(y) and isinstance(y[0], str):
            y_names = y_names or sorted(set(y))
            numbers = {name: number for number, name in enumerate(y_names)}
            y = [numbers[label] if label in numbers else as_label(label) for label in y]
        self.x, self.y, self.y_names, self.names = as_tensor(x), as_tensor(y), tuple(y_names), names
        self.y_values, self.y_cyclic = dict(y_values or {}), tuple(y_cyclic)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int | list[int] | Int[Tensor, "b"]) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]

    def replaced(self, x: Tensor, y: Tensor) -> "InMemory":
        """The same examples with another x or y."""
        other = InMemory(x, y, self.y_names, self.y_values, self.y_cyclic, self.names)
        other.contents, other.absent, other.note, other.has_val = self.contents, self.absent, self.note, self.has_val
        other.is_shared = self.is_shared
        other.truth = None if self.truth is None else self.truth.to(x.device)
        return other

    def to(self, device: torch.device) -> "InMemory":
        """The same data on a device."""
        return self.replaced(self.x.to(device), self.y.to(device))


def as_tensor(values: Any) -> Tensor:
    """A tensor or numpy array as a tensor of a type that torch can compute with."""
    if isinstance(values, np.ndarray) and values.dtype in (np.uint16, np.uint32, np.uint64):
        values = values.astype(np.int64)
    return torch.as_tensor(values)


def as_label(label: Any, y_names: Sequence[str] = ()) -> Any:
    """The number of a class that may be given by its name.

    Raises:
        ValueError: if it is a name that no class has.
    """
    if not isinstance(label, str):
        return label
    if label not in y_names:
        raise ValueError(f"y={label!r} is text: number the classes, or name them all in y_names of the dataset")
    return list(y_names).index(label)


def as_example(item: Any, y_names: Sequence[str] = ()) -> tuple[Tensor, Tensor]:
    """x and y of what a dataset gives: (x, y), (x,) or x, as tensors or numpy arrays; y may be a number, the name of a class or None.

    Raises:
        ValueError: if it is something else.
    """
    parts = tuple(item) if isinstance(item, tuple | list) else (item,)
    if len(parts) not in (1, 2) or not isinstance(parts[0], Tensor | np.ndarray):
        what = f"{len(parts)} parts, the first of which is" if isinstance(item, tuple | list) else "an object of type"
        kind = type(parts[0] if parts else item).__name__
        raise ValueError(f"an example of the dataset is {what} {kind}: it must be x or (x, y), and x a tensor or numpy array")
    y = parts[1] if len(parts) == 2 else None
    try:
        return as_tensor(parts[0]), as_tensor(-1 if y is None else as_label(y, y_names))
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"an example of the dataset has y={y!r}: it must be a number, numbers, or the name of a class") from error
