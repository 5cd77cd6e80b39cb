"""The figures that a run leaves in figures/ and shows in TensorBoard.

Each is a function of a `Scene` that returns a picture, the frames of an animation, or None where it has no meaning. To add one, add it to a
list.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vaelab import rng
from vaelab.applications import interpolate, manifold, nearest, pairs, slerp, traverse, walk_in
from vaelab.data import DataModule, InMemory, Table
from vaelab.distributions import centre
from vaelab.figures.charts.latent import latent_scatter
from vaelab.figures.curves import families, fans, moving, overlaid, tiled
from vaelab.figures.files import rendered, save
from vaelab.figures.marginals import marginals
from vaelab.figures.scene import NUM_DIMS, Scene, dimensions, in_rows, untransformed, walked, with_label
from vaelab.models import Model

Picture = Image.Image | list[Image.Image] | None
NUM_ENCODED = 2000  # test examples that speak for the latent space
NUM_COMPARED = 100  # samples, and test images, whose nearest training images are looked for
NUM_READ = 10_000  # training images to look through, if each is a file; of those in memory, all
MAX_COLUMNS = 16  # of classes
NUM_IN_FAN = 512  # examples, and samples, whose quantiles are shown as bands
CURVES_ON_A_SIDE = 10  # of the manifold
EXTENT = 2.5  # of the traversals, to both sides of zero


def reconstructions(scene: Scene) -> Picture:
    """Examples and, below each, E[x | z] at the centre of q(z | x)."""
    n = min(scene.num_images, len(scene.x))
    count = n if len(scene.x) < 2 * n else 2 * n
    x, y = scene.x[:count], scene.y[:count]
    if scene.modality.has_curves:
        curves = torch.stack([x, scene.model.reconstruct(x, y)], dim=1)[: count if len(scene.modality.shape) == 1 else n]
        title = f"{scene.split} {scene.modality.noun} x, and E[x | z] at the centre z of q(z | x)"
        return rendered(overlaid(scene.modality, curves, ["x", "E[x | z]"], scene.labels(y)[: len(curves)], title))
    pairs = torch.stack([x.unflatten(0, (-1, n)), scene.model.reconstruct(x, y).unflatten(0, (-1, n))], dim=1).flatten(0, 1)
    labels = scene.labels(y)
    cells = [row for i in range(0, count, n) for row in (labels[i : i + n], [])]
    title = f"{scene.split} {scene.modality.plural} x, and their reconstructions E[x | z] from the centre z of q(z | x)"
    return scene.captioned(pairs, ["x", "E[x | z]"] * (count // n), cells, title)


def samples(scene: Scene) -> Picture:
    """E[x | z] of z ~ p(z); a column for each class of a conditional model."""
    n, classes = scene.num_images, scene.model.num_classes
    if scene.modality.has_curves:
        return sampled_curves(scene)
    columns = classes if 1 < classes <= MAX_COLUMNS and len(scene.y.unique()) > 1 else n
    y = torch.arange(columns, device=scene.y.device).repeat(n) if columns == classes else scene.like(n * n)
    x = scene.model.sample(n * columns, y, mean=True).unflatten(0, (n, columns))
    labels = scene.labels(y)
    title = "samples: E[x | z] of z drawn from the prior p(z)"
    return scene.captioned(x, cells=[labels[:columns]] if columns == classes else in_rows(labels, n), title=title)


def sampled_curves(scene: Scene) -> Picture:
    """Examples, and as many samples: of each class, or of all."""
    x, y = scene.x[:NUM_IN_FAN], scene.y[:NUM_IN_FAN]
    drawn = scene.model.sample(len(x), y if scene.model.num_classes else None, mean=True)
    groups = {f"{scene.split} data": x, "samples": drawn}
    if 1 < scene.model.num_classes <= MAX_COLUMNS:
        present = [label for label in range(scene.model.num_classes) if bool((y == label).any())]
        names = scene.labels(torch.tensor(present))
        groups = {
            f"{noun}, y = {name}": part[y == label] for label, name in zip(present, names, strict=True) for noun, part in groups.items()
        }
    return rendered(fans(scene.modality, groups, "samples: E[x | z] of z drawn from the prior p(z); bands hold 50 % and 90 % of them"))


def traversals(scene: Scene) -> Picture:
    """One example's z with one dimension at a time moved, for the dimensions that carry most, each with its number and its rate."""
    if scene.order is None:
        return None
    dims, steps = scene.order.dims[:NUM_DIMS], 11
    x = traverse(scene.model, scene.x[scene.clear], dims, steps, EXTENT, scene.y[scene.clear])
    if scene.modality.has_curves:
        words, at = dimensions(scene), torch.linspace(-EXTENT, EXTENT, steps).tolist()
        return rendered(families(scene.modality, x, at, [word.replace("\n", "  ") for word in words], "z", walked(scene)))
    places = [f"{z:+.2g}" if z else "0" for z in torch.linspace(-EXTENT, EXTENT, steps).tolist()]
    return scene.captioned(x, dimensions(scene), [places], walked(scene))


def moving_traversals(scene: Scene) -> Picture:
    """The traversals side by side, in time."""
    if scene.order is None:
        return None
    dims, steps = scene.order.dims[:NUM_DIMS], 17
    walks = traverse(scene.model, scene.x[scene.clear], dims, steps, EXTENT, scene.y[scene.clear])
    if scene.modality.has_curves:
        words, at = [word.replace("\n", "  ") for word in dimensions(scene)], torch.linspace(-EXTENT, EXTENT, steps).tolist()
        frames = moving(scene.modality, walks, at, words, [f"{walked(scene)}: now at {z:+.1f}" for z in at])
        return frames + frames[-2:0:-1]
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
    has_walks = walk_in(scene.model.encode(scene.x[:1], scene.y[:1])) is not None
    return walks_between(scene, slerp, "great circles") if has_walks else None


def walks_between(scene: Scene, walk: Callable[[Tensor, Tensor, float], Tensor], name: str) -> Picture:
    """A row for each pair: the one, the walk from its reconstruction to the other's, and the other."""
    n = min(scene.num_images, len(scene.x) - 1 if scene.is_new else len(scene.x) // 2)
    if not n:
        return None
    start, end = pairs(scene.y, n, scene.is_new, scene.model.num_classes > 0)  # both ends of a walk are decoded with one label
    x_from, x_to, y = scene.x[start], scene.x[end], scene.y[start]
    steps = interpolate(scene.model, x_from, x_to, steps=8, y=y, walk=walk)
    rows = torch.cat([x_from[:, None], steps, x_to[:, None]], dim=1)
    if scene.modality.has_curves:
        at, title = torch.linspace(0, 1, 8).tolist(), f"E[x | z] along {name} from x (black) to x' (dashed), two {scene.split} examples"
        return rendered(families(scene.modality, steps, at, scene.labels(y), "t", title, ends=rows[:, [0, -1]]))
    places = ["x", *[f"{t:.2g}" for t in torch.linspace(0, 1, 8).tolist()], "x'"]
    title = f"E[x | z] along {name} between the centres of q(z | x) of two {scene.split} {scene.modality.plural} x and x'"
    return scene.captioned(rows, scene.labels(y) if scene.model.num_classes else (), [places], title)


def learned_manifold(scene: Scene) -> Picture:
    """The manifold of a two-dimensional latent space; of one class, if the model is conditional."""
    if scene.order is None or len(scene.order.dims) != 2:
        return None
    title = with_label(scene, "E[x | z] at the quantiles of N(0, I)")
    if scene.modality.has_curves:
        return rendered(tiled(scene.modality, manifold(scene.model, CURVES_ON_A_SIDE, scene.y[:1]), title))
    return scene.captioned(manifold(scene.model, y=scene.y[:1]), title=title, gap=0)


def latent_space(scene: Scene) -> Picture:
    """The centres of q(z | x) in a plane."""
    pairs = zip(scene.x.split(500), scene.y.split(500), strict=True)
    centres = torch.cat([centre(scene.model.encode(x, y)) for x, y in pairs]).flatten(1)
    rates = None
    if scene.order is not None and scene.order.measure == "rate":
        rates = torch.empty_like(scene.order.values).scatter(0, scene.order.dims, scene.order.values).tolist()
    split = scene.datamodule.splits[scene.split]
    title = f"centres of q(z | x) for {len(centres)} {scene.split} {scene.modality.plural}"
    return rendered(latent_scatter(centres, scene.y, split.y_names, rates, title, split.y_values, split.y_cyclic))


def columns_of_tables(scene: Scene) -> Picture:
    """Each column of a table: data against samples."""
    samples = scene.model.sample(len(scene.x), scene.y)
    return rendered(marginals(scene.modality.columns, scene.x.cpu().numpy(), samples.cpu().numpy()))


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
    train, noun = scene.datamodule.splits["train"], scene.modality.plural
    num_train = len(train) if isinstance(train.dataset, InMemory) else min(len(train), NUM_READ)
    found = nearest(torch.cat([drawn, own, unseen]), untransformed(scene, "train", num_train), num_neighbours=3)
    medians = [distances.median().item() for distances in found.distances[:, 0].split(count)]
    scaled = "of scaled x " if scene.modality.scaling is not None else ""
    title = f"median Euclidean distance {scaled}to the nearest of {num_train} training {noun}: samples {medians[0]:.2f}"
    title += f", reconstructed {scene.split} {noun} {medians[1]:.2f}, {scene.split} {noun} {medians[2]:.2f}"
    first, pictured = (2 * count, unseen) if scene.is_new else (0, drawn)  # the neighbours of pictures of one's own are asked for
    shown = torch.cat([pictured[:n, None], found.x[first : first + n]], dim=1).transpose(0, 1)
    pairs = zip(found.distances[first : first + n].T.tolist(), found.indices[first : first + n].T.tolist(), strict=True)
    distances = [[f"{far:.2f}\n{scene.name('train', i)}" for far, i in zip(*pair, strict=True)] for pair in pairs]
    names = ["x" if scene.is_new else "sample", "nearest", "second", "third"][: len(shown)]
    if scene.modality.has_curves:
        panels = [
            scene.name(scene.split, i) if scene.is_new else f"at {distance:.2f}"
            for i, distance in enumerate(found.distances[first : first + n, 0].tolist())
        ]
        return rendered(overlaid(scene.modality, shown.transpose(0, 1), names, panels, title))
    above = [scene.name(scene.split, i) for i in range(n)] if scene.is_new else scene.labels(y[:n])
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
OF_TABLES_WHILE_TRAINING: dict[str, Callable[[Scene], Picture]] = {"marginals": columns_of_tables}
OF_TABLES = OF_TABLES_WHILE_TRAINING | {"latent_space": latent_space}


@torch.no_grad()
def drawn(scene: Scene, seed: int = 0, names: Collection[str] | None = None) -> Iterator[tuple[str, Image.Image | list[Image.Image]]]:
    """All of FIGURES, or those of some names, each with noise of its own from the seed; of tables all of OF_TABLES.

    There are none of data that have no pictures, and no walks through latent variables that are no vectors of real numbers, such as codes.
    """
    is_table = isinstance(scene.datamodule.dataset, Table)
    figures = FIGURES if scene.modality.is_pictured else OF_TABLES if is_table else {}
    for name, draw in figures.items():
        if names is None or name in names:
            with rng.fork(seed):
                picture = draw(scene)
            if picture is not None:
                yield name, picture


def draw_figures(
    model: Model, datamodule: DataModule, folder: Path, device: torch.device, seed: int = 0, num_images: int = 8, split: str = "test"
) -> list[Path]:
    """Draws all figures of test data or another split into a folder; returns the files. See `drawn`."""
    return save_all(drawn(scene_of(model, datamodule, device, num_images, split), seed), folder)


def scene_of(
    model: Model, datamodule: DataModule, device: torch.device, num_images: int = 8, split: str = "test", label: int | None = None
) -> Scene:
    """The scene of the first examples of a split.

    Args:
        model, datamodule, num_images, split: as of `Scene`.
        device: of the examples.
        label: of all of them, in place of their own.
    """
    x, y = datamodule.examples(split, NUM_ENCODED, device)
    y = y if label is None else torch.full((len(x),), label, device=device)
    return Scene(model.eval(), datamodule, x, y, split, num_images)


def save_all(pictures: Iterable[tuple[str, Image.Image | list[Image.Image]]], folder: Path) -> list[Path]:
    """Saves pictures by their names in a folder; returns the files."""
    paths = []
    for name, picture in pictures:
        paths.append(folder / f"{name}.{'gif' if isinstance(picture, list) else 'png'}")
        save(picture, paths[-1])
    return paths
