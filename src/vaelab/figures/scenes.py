"""The figures that a run leaves in figures/ and shows in TensorBoard.

Each is a function of a `Scene` that returns a picture, the frames of an animation, or None where it has no meaning. To add one, add it to a
list.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Shaped
from matplotlib.colors import to_rgb
from PIL import Image
from torch import Tensor

from vaelab import rng
from vaelab.applications import Completion, by_rate, interpolate, manifold, nearest, slerp, traverse
from vaelab.applications.exploration import Order
from vaelab.data import DataModule, InMemory
from vaelab.data.modality import Images, Modality
from vaelab.distributions import VonMisesFisher, centre, is_euclidean
from vaelab.figures.charts.colours import SKY_BLUE
from vaelab.figures.charts.latent import latent_scatter
from vaelab.figures.files import rendered, save
from vaelab.figures.tiles import GAP, captioned
from vaelab.models import Model

Picture = Image.Image | list[Image.Image] | None
NUM_DIMS = 10  # that are walked along
NUM_ENCODED = 2000  # test examples that speak for the latent space
MOST_OF_NAME = 16  # letters of the name of a file, below a picture
NUM_COMPARED = 100  # samples, and test images, whose nearest training images are looked for
NUM_READ = 10_000  # training images to look through, if each is a file; of those in memory, all
MAX_COLUMNS = 16  # of classes
NUM_COMPLETIONS = 8  # that are shown of each example
NUM_LOOKED_AT = 64  # examples, of which the traversals show the clearest
EXTENT = 2.5  # of the traversals, to both sides of zero


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


def reconstructions(scene: Scene) -> Picture:
    """Examples and, below each, E[x | z] at the centre of q(z | x)."""
    n = min(scene.num_images, len(scene.x))
    count = n if len(scene.x) < 2 * n else 2 * n
    x, y = scene.x[:count], scene.y[:count]
    pairs = torch.stack([x.unflatten(0, (-1, n)), scene.model.reconstruct(x, y).unflatten(0, (-1, n))], dim=1).flatten(0, 1)
    labels = scene.labels(y)
    cells = [row for i in range(0, count, n) for row in (labels[i : i + n], [])]
    title = f"{scene.split} {scene.modality.noun}s x, and their reconstructions E[x | z] from the centre z of q(z | x)"
    return scene.captioned(pairs, ["x", "E[x | z]"] * (count // n), cells, title)


def samples(scene: Scene) -> Picture:
    """E[x | z] of z ~ p(z); a column for each class of a conditional model."""
    n, classes = scene.num_images, scene.model.num_classes
    columns = classes if 1 < classes <= MAX_COLUMNS else n
    y = torch.arange(columns, device=scene.y.device).repeat(n) if columns == classes else scene.like(n * n)
    x = scene.model.sample(n * columns, y, mean=True).unflatten(0, (n, columns))
    labels = scene.labels(y)
    title = "samples: E[x | z] of z drawn from the prior p(z)"
    return scene.captioned(x, cells=[labels[:columns]] if columns == classes else in_rows(labels, n), title=title)


def traversals(scene: Scene) -> Picture:
    """One example's z with one dimension at a time moved, for the dimensions that carry most, each with its number and its rate."""
    if scene.order is None:
        return None
    dims, steps = scene.order.dims[:NUM_DIMS], 11
    x = traverse(scene.model, scene.x[scene.clear], dims, steps, EXTENT, scene.y[scene.clear])
    places = [f"{z:+.2g}" if z else "0" for z in torch.linspace(-EXTENT, EXTENT, steps).tolist()]
    return scene.captioned(x, dimensions(scene), [places], walked(scene))


def moving_traversals(scene: Scene) -> Picture:
    """The traversals side by side, in time."""
    if scene.order is None:
        return None
    dims, steps = scene.order.dims[:NUM_DIMS], 17
    walks = traverse(scene.model, scene.x[scene.clear], dims, steps, EXTENT, scene.y[scene.clear])
    columns = -(-len(dims) // (2 if len(dims) > 5 else 1))
    walks = torch.cat([walks, walks.new_full((-len(dims) % columns, *walks.shape[1:]), sum(scene.levels) / 2)])
    words = [words.replace("\n", "  ") for words in dimensions(scene)] + [""] * (len(walks) - len(dims))
    frames = [
        scene.captioned(
            walks[:, i].unflatten(0, (-1, columns)), cells=in_rows(words, columns), title=f"{walked(scene)}: now at {z:+.1f}", width=900
        )
        for i, z in enumerate(torch.linspace(-EXTENT, EXTENT, steps).tolist())
    ]
    return frames + frames[-2:0:-1]


def interpolations(scene: Scene) -> Picture:
    """Straight lines between the posterior centres of pairs of examples, of the same class if the model is conditional."""
    return walks_between(scene, torch.lerp, "straight lines") if scene.order is not None else None


def spherical_interpolations(scene: Scene) -> Picture:
    """Great circles between the same pairs, also where z lives on a sphere."""
    on_sphere = isinstance(scene.model.encode(scene.x[:1], scene.y[:1]), VonMisesFisher)
    return walks_between(scene, slerp, "great circles") if on_sphere or scene.order is not None else None


def walks_between(scene: Scene, walk: Callable[[Tensor, Tensor, float], Tensor], name: str) -> Picture:
    """A row for each pair: the one, the walk from its reconstruction to the other's, and the other."""
    n = min(scene.num_images, len(scene.x) // 2)
    if not n:
        return None
    start = torch.arange(n, device=scene.x.device)
    end = start + n
    if scene.model.num_classes:  # both ends of a walk are decoded with one label
        later = torch.arange(len(scene.y), device=start.device)
        alike = (scene.y[:, None] == scene.y[:n]) & (later[:, None] >= n)
        end = torch.where(alike.any(0), alike.int().argmax(0), start)
    x_from, x_to, y = scene.x[start], scene.x[end], scene.y[start]
    steps = interpolate(scene.model, x_from, x_to, steps=8, y=y, walk=walk)
    rows = torch.cat([x_from[:, None], steps, x_to[:, None]], dim=1)
    places = ["x", *[f"{t:.2g}" for t in torch.linspace(0, 1, 8).tolist()], "x'"]
    title = f"E[x | z] along {name} between the centres of q(z | x) of two {scene.split} {scene.modality.noun}s x and x'"
    return scene.captioned(rows, scene.labels(y) if scene.model.num_classes else (), [places], title)


def learned_manifold(scene: Scene) -> Picture:
    """The manifold of a two-dimensional latent space; of one class, if the model is conditional."""
    if scene.order is None or len(scene.order.dims) != 2:
        return None
    return scene.captioned(manifold(scene.model, y=scene.y[:1]), title=with_label(scene, "E[x | z] at the quantiles of N(0, I)"), gap=0)


def latent_space(scene: Scene) -> Picture:
    """The centres of q(z | x) in a plane."""
    pairs = zip(scene.x.split(500), scene.y.split(500), strict=True)
    centres = torch.cat([centre(scene.model.encode(x, y)) for x, y in pairs]).flatten(1)
    rates = None
    if scene.order is not None and scene.order.measure == "rate":
        rates = torch.empty_like(scene.order.values).scatter(0, scene.order.dims, scene.order.values).tolist()
    split = scene.datamodule.splits[scene.split]
    title = f"centres of q(z | x) for {len(centres)} {scene.split} {scene.modality.noun}s"
    return rendered(latent_scatter(centres, scene.y, split.y_names, rates, title, split.y_values, split.y_cyclic))


def nearest_training_images(scene: Scene) -> Picture:
    """Samples with the training images nearest to them: whether the model has memorised its training data.

    Decoded means are blurred, and so nearer to everything: samples are to be compared with the reconstructions of images of the split,
    which are blurred too but of images that the model has not been trained on.
    """
    count = min(NUM_COMPARED, len(scene.x))
    n = min(scene.num_images, count)
    y = scene.like(count)
    drawn, own = scene.model.sample(count, y, mean=True), scene.model.reconstruct(scene.x[:count], scene.y[:count])
    unseen = torch.cat(list(untransformed(scene, scene.split, count)))
    scene.datamodule.setup("fit")
    train, noun = scene.datamodule.splits["train"], f"{scene.modality.noun}s"
    num_train = len(train) if isinstance(train.dataset, InMemory) else min(len(train), NUM_READ)
    found = nearest(torch.cat([drawn, own, unseen]), untransformed(scene, "train", num_train), num_neighbours=3)
    medians = [distances.median().item() for distances in found.distances[:, 0].split(count)]
    title = f"median Euclidean distance to the nearest of {num_train} training {noun}: samples {medians[0]:.2f}"
    title += f", reconstructed {scene.split} {noun} {medians[1]:.2f}, {scene.split} {noun} {medians[2]:.2f}"
    is_new = scene.split not in ("train", "val", "test")  # pictures of one's own, whose neighbours are asked for
    first, pictured = (2 * count, unseen) if is_new else (0, drawn)
    shown = torch.cat([pictured[:n, None], found.x[first : first + n]], dim=1).transpose(0, 1)
    pairs = zip(found.distances[first : first + n].T.tolist(), found.indices[first : first + n].T.tolist(), strict=True)
    distances = [[f"{far:.2f}\n{scene.name('train', i)}" for far, i in zip(*pair, strict=True)] for pair in pairs]
    names = ["x" if is_new else "sample", "nearest", "second", "third"][: len(shown)]
    above = [scene.name(scene.split, i) for i in range(n)] if is_new else scene.labels(y[:n])
    return scene.captioned(shown, names, [above, *distances], title, min(1200, 250 + 150 * n))


WHILE_TRAINING: dict[str, Callable[[Scene], Picture]] = {
    "reconstructions": reconstructions,
    "samples": samples,
    "traversals": traversals,
}
FIGURES = WHILE_TRAINING | {
    "moving_traversals": moving_traversals,
    "interpolations": interpolations,
    "spherical_interpolations": spherical_interpolations,
    "manifold": learned_manifold,
    "latent_space": latent_space,
    "nearest_training_images": nearest_training_images,
}


@torch.no_grad()
def draw_figures(
    model: Model, datamodule: DataModule, folder: Path, device: torch.device, seed: int = 0, num_images: int = 8, split: str = "test"
) -> list[Path]:
    """Draws all of FIGURES, of test data or another split, each with noise of its own from the seed; returns the files.

    There are none of data that have no pictures, and no walks through latent variables that are no vectors of real numbers, such as codes.
    """
    if not datamodule.modality.is_pictured:
        return []
    model.eval()
    scene, paths = Scene(model, datamodule, *datamodule.examples(split, NUM_ENCODED, device), split, num_images), []
    for name, draw in FIGURES.items():
        with rng.fork(seed):
            picture = draw(scene)
        if picture is not None:
            paths.append(folder / f"{name}.{'gif' if isinstance(picture, list) else 'png'}")
            save(picture, paths[-1])
    return paths


def completions(
    scene: Scene, observed: Bool[Tensor, "n ..."], completion: Completion, title: str = "", names: Sequence[str] = ()
) -> Image.Image:
    """A row for each example: x, what was observed of it, completions without the noise of single values, their mean, and their spread.

    Args:
        scene: of the examples.
        observed: which of their values were.
        completion: of them, in the units of the data.
        title: above all of it.
        names: of the examples.
    """
    n, (low, high) = scene.num_images, scene.levels
    x, known, shown, std = scene.modality.unscale(scene.x[:n]), observed[:n], completion.expected[:NUM_COMPLETIONS, :n], completion.std[:n]
    most = max(float(std.max()), 1e-6)
    columns = [x, x.where(known, torch.nan), *shown, completion.mean[:n], low + std / most * (high - low)]
    columns = [scene.modality.pictures(column) for column in columns]
    if isinstance(scene.modality, Images):
        columns = [colour(column) for column in columns]
        tint = columns[1].new_tensor(to_rgb(SKY_BLUE)).reshape(3, 1, 1) * (high - low) + low
        columns[1] = torch.where(columns[1].isnan(), tint, columns[1])
    columns_names = ["x", "observed", *[str(k) for k in range(1, len(shown) + 1)], "mean", f"std\n(white: {most:.2g})"]
    labels = scene.labels(scene.y[:n])
    rows = [" ".join(filter(None, pair)) for pair in zip(names or [""] * n, labels, strict=True)]
    return captioned(torch.stack(columns, dim=1), scene.levels, rows if any(rows) else (), [columns_names], title, width=1600)


# What the figures are made of.


def dimensions(scene: Scene) -> list[str]:
    """The number of each dimension that is walked along, and what it carries; the indices of a latent variable with several axes."""
    assert scene.order is not None
    shape = scene.model.encode(scene.x[:1], scene.y[:1]).event_shape
    words = []
    for dim, value in zip(scene.order.dims[:NUM_DIMS].cpu(), scene.order.values[:NUM_DIMS].tolist(), strict=True):
        indices = ",".join(str(int(i)) for i in torch.unravel_index(dim, shape))
        words.append(f"z[{indices}]\n" + (f"{value:.2f} nats" if scene.order.measure == "rate" else f"variance {value:.2g}"))
    return words


def colour(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 h w"]:
    """The images with three channels."""
    return x if x.shape[1] == 3 else x.mean(1, keepdim=True).expand(-1, 3, -1, -1)


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
