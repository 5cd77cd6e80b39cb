"""Some examples of a dataset."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.utils.data import Dataset

from vaelab.data.memory import Examples, InMemory, as_example
from vaelab.data.modality import Modality, to_float
from vaelab.data.scaling import LEAST_OF_LOG1P
from vaelab.data.transforms import Transform

MOST_KEPT = 2**28  # bytes of draws in memory
Transformation = Transform | Callable[..., Tensor]  # of (x, generator=None)


class Split(Dataset):
    """Some examples of a dataset, asked for a batch at a time.

    With a transform and a seed, each example carries the same random draw whenever and wherever it is asked for: the draw depends
    on its index alone, not on batch size, process or epoch. Of data in memory it is made once and kept, as bytes if it is black and white.
    """

    def __init__(
        self,
        dataset: Examples,
        indices: Int[Tensor, "n"],
        modality: Modality,
        transform: Transformation | None = None,
        seed: int = 0,
        missing: bool = False,
    ) -> None:
        self.dataset, self.indices, self.modality, self.transform, self.seed = dataset, indices, modality, transform, seed
        self.missing = missing
        self._placed = indices  # on the device where batches are asked for
        self._kept: Tensor | None = None  # what the transform made of the examples that are known
        self._known, self._all_known = torch.zeros(len(indices), dtype=torch.bool), False

    def name(self, place: int) -> str:
        """The name of an example, such as the file that it was read from, or "row 17" of the dataset.

        Args:
            place: of the example in this split.
        """
        return name_of(self.dataset, int(self.indices[place]))

    @property
    def y_names(self) -> tuple[str, ...]:
        """Names of the classes, or of the factors; none if the dataset has none."""
        return tuple(getattr(self.dataset, "y_names", ()))

    @property
    def y_values(self) -> dict[str, Sequence[str]]:
        """Names of the values of some factors."""
        return dict(getattr(self.dataset, "y_values", {}))

    @property
    def y_cyclic(self) -> tuple[str, ...]:
        """Names of the factors whose last value is next to the first."""
        return tuple(getattr(self.dataset, "y_cyclic", ()))

    @property
    def num_levels(self) -> int | None:
        """The levels that x have been dequantised of; None if they have not been."""
        return self.transform.num_levels if isinstance(self.transform, Transform) else None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, batch: Int[Tensor, "b"]) -> tuple[Tensor, Tensor]:
        if self._placed.device != batch.device:
            self._placed = self.indices.to(batch.device)
        indices = self._placed[batch]
        if isinstance(self.dataset, InMemory):
            x, y = self.dataset[indices]
        else:
            chosen = indices.tolist() or self.indices[:1].tolist()  # an empty batch has a shape too
            examples = (as_example(self.dataset[i], self.y_names) for i in chosen)
            x, y = (torch.stack(parts)[: len(indices)] for parts in zip(*examples, strict=True))
            logarithm = self.modality.scaling is not None and self.modality.scaling.has_log
            check_finite(x, self.missing, lambda row: f"{name_of(self.dataset, chosen[row])} of the data", logarithm)
        if self.transform is None:
            return x, y
        if self._kept is not None and (self._all_known or self._known[batch.cpu()].all()):
            return self._kept[batch.to(self._kept.device)].float(), y
        drawn, generator = to_float(x).cpu(), torch.Generator()
        for row, i in enumerate(indices.tolist()):
            drawn[row] = self.transform(drawn[row], generator=generator.manual_seed(1_000_003 * self.seed + i))
        drawn = drawn.to(x.device)
        if isinstance(self.dataset, InMemory) and drawn.dtype == torch.float32:
            self._keep(batch, drawn)
        return drawn, y

    def _keep(self, batch: Int[Tensor, "b"], drawn: Float[Tensor, "b ..."]) -> None:
        """Remember the draws of a batch, unless those of all examples would need more than `MOST_KEPT` bytes."""
        dtype = torch.uint8 if bool(((drawn == 0) | (drawn == 1)).all()) else drawn.dtype
        if self._kept is not None:
            dtype = torch.promote_types(dtype, self._kept.dtype)
        if len(self) * drawn[:1].numel() * dtype.itemsize > MOST_KEPT:
            self._kept = None
            return
        if self._kept is None:
            self._kept = torch.empty(len(self), *drawn.shape[1:], dtype=dtype, device=drawn.device)
            self._known.zero_()
        self._kept = self._kept.to(dtype)
        self._kept[batch.to(drawn.device)], self._known[batch.cpu()] = drawn.to(dtype), True
        self._all_known = bool(self._known.all())

    def scaled(self, batch: Int[Tensor, "b"], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """A batch as models see it."""
        x, y = self[batch]
        return self.modality.scale(x.to(device)), y.to(device)

    def untransformed(self) -> "Split":
        """The same examples as they are before a transform, and before values were hidden."""
        truth, dataset = getattr(self.dataset, "truth", None), self.dataset
        if isinstance(dataset, InMemory) and truth is not None:
            dataset = dataset.replaced(truth, dataset.y)
        return Split(dataset, self.indices, self.modality, missing=self.missing)


def name_of(dataset: Examples, index: int) -> str:
    """The name of an example of a dataset, or "row 17"."""
    names = getattr(dataset, "names", ())
    return str(names[index]) if len(names) else f"row {index}"


def check_finite(x: Shaped[Tensor, "n ..."], missing: bool, name: Callable[[int], str], logarithm: bool = False) -> None:
    """Raise if values of x are infinite or too large for 32 bits, or NaN where NaN is no missing value.

    Args:
        x: examples.
        missing: whether NaN is a missing value.
        name: of an example.
        logarithm: whether log(1 + x) is taken of them, and values of -1 or less are wrong too.

    Raises:
        ValueError: if there are such values, with the first of them and its place.
    """

    def are_wrong(part: Tensor) -> Tensor:
        small = part.to(torch.float32)
        wrong = small.isinf() if missing else ~small.isfinite()
        return wrong | (part <= LEAST_OF_LOG1P) if logarithm else wrong

    if not x.is_floating_point() and not logarithm:
        return
    wrong = torch.cat([are_wrong(part).reshape(len(part), -1).any(1) for part in x.split(4096)])
    if not wrong.any():
        return
    rows = wrong.nonzero().flatten()
    first = x[rows[0]]
    place = are_wrong(first).nonzero()[0].tolist()
    value = float(first[tuple(place)])
    at = f"[{', '.join(map(str, place))}]" if place else ""
    also = f" ({len(rows)} of {len(x)} examples have such values)" if len(rows) > 1 else ""
    raise ValueError(f"{name(int(rows[0]))} has x{at}={value}{also}: {advice_on(value)}")


def advice_on(value: float) -> str:
    """Advice about a value that a model cannot be shown."""
    if abs(value) > torch.finfo(torch.float32).max and math.isfinite(value):
        return "32 bits hold no such number: divide the data, or leave the example out"
    if math.isfinite(value):
        return "data.scale=log1p takes values above -1: choose another scale, or leave the example out"
    return "replace it, or leave the example out" + "; if it is a missing value, set missing=true" * math.isnan(value)
