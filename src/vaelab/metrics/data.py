"""The data that metrics look at: what they ask of a data module."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

Batches = Iterable[tuple[Tensor, Tensor]]


@runtime_checkable
class Data(Protocol):
    """Batches (x, y) of the splits "train", "val" and "test".

    A split, once it has been set up, has a dataset, a transform, and a modality that scales stored x and says whether they are viewable.
    """

    @property
    def splits(self) -> Mapping[str, Any]: ...

    def setup(self, stage: str) -> None: ...

    def batches(self, split: str, device: torch.device | str = "cpu") -> Iterator[tuple[Tensor, Tensor]]: ...


def first(batches: Batches, num_examples: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The first examples of these batches."""
    left = num_examples
    for x, y in batches:
        if left <= 0:
            return
        yield x[:left], y[:left]
        left -= len(x)


def first_as_one(batches: Batches, num_examples: int) -> tuple[Float[Tensor, "n ..."], Shaped[Tensor, "n ..."]]:
    """The first examples of these batches, or as many as there are, as one batch.

    Raises:
        ValueError: if there is none.
    """
    found = list(first(batches, num_examples))
    if not found:
        raise ValueError("there is nothing to evaluate: the data have no batch")
    x, y = zip(*found, strict=True)
    return torch.cat(x), torch.cat(y)


def labelled(y: Shaped[Tensor, "n ..."]) -> Bool[Tensor, "n"]:
    """True for each y that is known: not below 0, where they are whole numbers."""
    known = y.isfinite() if y.is_floating_point() else y >= 0
    return known.reshape(len(y), -1).all(1)


def with_labels(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Their examples whose y is known."""
    for x, y in batches:
        known = labelled(y)
        if bool(known.any()):
            yield x[known], y[known]
