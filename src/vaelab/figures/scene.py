"""The things that figures of a model look at: its examples, their labels and names, and the order of its dimensions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Shaped
from PIL import Image
from torch import Tensor

from vaelab.applications import by_rate
from vaelab.applications.exploration import Order
from vaelab.data import DataModule
from vaelab.data.modality import Modality
from vaelab.data.record import SPLITS
from vaelab.distributions import is_euclidean
from vaelab.figures.tiles import GAP, captioned
from vaelab.models import Model

NUM_DIMS = 10  # that are walked along
MOST_OF_NAME = 16  # letters of the name of a file, below a picture
NUM_LOOKED_AT = 64  # examples, of which the traversals show the clearest


@dataclass(frozen=True)
class Scene:
    """A model, and examples of one split of its data.

    Args:
        model: in evaluation mode.
        datamodule: of the examples.
        x, y: the examples; as many as there are speak for the dimensions of z.
        split: that they are of.
        num_images: to a row.
    """

    model: Model
    datamodule: DataModule
    x: Float[Tensor, "n ..."]
    y: Shaped[Tensor, "n ..."]
    split: str
    num_images: int = 8

    @property
    def modality(self) -> Modality:
        """The kind of x."""
        return self.datamodule.modality

    @property
    def is_new(self) -> bool:
        """True if the examples are of one's own, and not of the run's data."""
        return self.split not in SPLITS

    @cached_property
    def levels(self) -> tuple[float, float]:
        """Black and white."""
        return self.modality.levels(self.modality.unscale(self.x))

    @cached_property
    def order(self) -> Order | None:
        """The dimensions of z by what they carry; None where z has no dimensions that could be walked along."""
        return by_rate(self.model, self.x, self.y) if is_euclidean(self.model.encode(self.x[:1], self.y[:1])) else None

    @cached_property
    def clear(self) -> slice:
        """The place of an example that shows something: of the first ones, that whose values differ most from each other."""
        place = int(self.x[:NUM_LOOKED_AT].flatten(1).nan_to_num().std(1, correction=0).argmax())
        return slice(place, place + 1)

    @property
    def y_names(self) -> tuple[str, ...]:
        """Names of the classes, or of the factors."""
        return self.datamodule.splits[self.split].y_names

    def labels(self, y: Shaped[Tensor, "n ..."]) -> list[str]:
        """The names of these labels if the model is conditional on them, else nothing."""
        if not self.model.num_classes:
            return [""] * len(y)
        names = self.y_names
        return [names[label] if 0 <= label < len(names) else str(label) if label >= 0 else "?" for label in y.tolist()]

    def name(self, split: str, place: int) -> str:
        """The name of an example, such as the file that it was read from; of a long one, the end."""
        return self.datamodule.splits[split].name(place)[-MOST_OF_NAME:]

    def like(self, count: int) -> Shaped[Tensor, "count ..."]:
        """Labels for so many samples: those of the examples, over and over."""
        return self.y.repeat(-(-count // len(self.y)), *[1] * (self.y.ndim - 1))[:count]

    def captioned(
        self,
        x: Float[Tensor, "rows columns ..."],
        rows: Sequence[str] = (),
        cells: Sequence[Sequence[str]] = (),
        title: str = "",
        width: int = 1200,
        gap: int = GAP,
    ) -> Image.Image:
        """Pictures of x with words around them: see `vaelab.figures.tiles.captioned`."""
        return captioned(self.modality.pictures(self.modality.unscale(x)), self.levels, rows, cells, title, width, gap)


def dimensions(scene: Scene) -> list[str]:
    """The number of each dimension that is walked along, and what it carries; the indices of a latent variable with several axes."""
    assert scene.order is not None
    shape = scene.model.encode(scene.x[:1], scene.y[:1]).event_shape
    words = []
    for dim, value in zip(scene.order.dims[:NUM_DIMS].cpu(), scene.order.values[:NUM_DIMS].tolist(), strict=True):
        indices = ",".join(str(int(i)) for i in torch.unravel_index(dim, shape))
        words.append(f"z[{indices}]\n" + (f"{value:.2f} nats" if scene.order.measure == "rate" else f"variance {value:.2g}"))
    return words


def walked(scene: Scene) -> str:
    """Title of the traversals: what is moved, and how many dimensions there are."""
    assert scene.order is not None
    total = len(scene.order.dims)
    which = f"{NUM_DIMS} of {total} dimensions of z, those that carry most" if total > NUM_DIMS else f"all {total} dimensions of z"
    return with_label(scene, f"one {scene.split} {scene.modality.noun}, {which}, one moved at a time", scene.clear)


def with_label(scene: Scene, words: str = "", place: slice = slice(1)) -> str:
    """The words, and the label of the example at a place if the model is conditional."""
    label = scene.labels(scene.y[place])[0]
    return ", ".join(part for part in (words, f"y = {label}" if label else "") if part)


def in_rows(words: list[str], columns: int) -> list[list[str]]:
    """The words in rows of so many."""
    return [words[i : i + columns] for i in range(0, len(words), columns)]


def untransformed(scene: Scene, name: str, count: int) -> Iterator[Float[Tensor, "_ ..."]]:
    """The first examples of a split without the noise of a transform, whose mean is what a decoder learns."""
    plain = scene.datamodule.splits[name].untransformed()
    for batch in torch.arange(count).split(500):
        yield plain.scaled(batch, scene.x.device)[0]
