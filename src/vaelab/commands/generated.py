"""Batches of what `vaelab generate` writes: x with what is known of each, and the columns and pictures that they become."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor
from torch.distributions import Distribution

from vaelab.applications import interpolate, pairs, traverse, walk_in
from vaelab.build import OpenedRun
from vaelab.commands.pictures import NEW, in_order, known_labels, labels_of, labels_with, table_columns
from vaelab.commands.writing import SEPARATORS, Columns
from vaelab.data import Table
from vaelab.data.arrays import as_read
from vaelab.data.columns import CODED, Column
from vaelab.data.modality import Images
from vaelab.data.split import Split
from vaelab.figures.tiles import enlarge, tile

NUM_SAMPLES, NUM_PAIRS = 1000, 8
EXTENT = 2.5  # of the traversals, to both sides of zero
NUM_SEEN = 500  # examples whose values say what is black and white, or among which partners of a class are looked for
NO_WALK = "z of this run has no lines or axes, so that there are no"


class Batch(NamedTuple):
    """Some rows: x as models see them, and what is known of them, by name."""

    x: Float[Tensor, "b ..."]
    about: Columns


class Plan(NamedTuple):
    """All rows that will be written, in how many batches they come, and these."""

    num: int
    num_batches: int
    batches: Iterator[Batch]


Planner = Callable[[OpenedRun, DictConfig, str, int | None], Plan]


def samples(run: OpenedRun, config: DictConfig, split: str, label: int | None) -> Plan:
    """Rows of x ~ p(x | z), or E[x | z], with z ~ p(z); of a conditional model with classes as frequent as in the training data."""
    num, size = config.num or NUM_SAMPLES, run.datamodule.eval_batch_size
    mean = isinstance(run.datamodule.modality, Images) if config.mean is None else config.mean
    y = labels_for(run, num, label) if run.model.num_classes else None

    def batches() -> Iterator[Batch]:
        for places in torch.arange(num).split(size):
            given_y = None if y is None else y[places].to(run.model.device)
            yield Batch(run.model.sample(len(places), given_y, mean), {} if given_y is None else named(run, split, given_y))

    return Plan(num, -(-num // size), batches())


def labels_for(run: OpenedRun, num: int, label: int | None) -> Tensor:
    """Labels of samples: one for all of them, or drawn from those of the training data; of every class alike where these are not known."""
    if label is not None:
        return torch.full((num,), label)
    run.datamodule.setup("fit")
    split = run.datamodule.splits["train"]
    known = known_labels(split.dataset)
    known = None if known is None else known[split.indices.to(known.device)]
    if known is None or not bool((known >= 0).any()):
        return torch.randint(run.model.num_classes, (num,))
    known = known[known >= 0].cpu()
    return known[torch.randint(len(known), (num,))]


def reconstructions(run: OpenedRun, config: DictConfig, split: str, label: int | None) -> Plan:
    """Rows of E[x | z] at the centre of q(z | x), in the order of the data."""
    chosen, size = in_order(split_of(run, split), config.num), run.datamodule.eval_batch_size
    coded, mode = of_codes(run), reading_of(run)

    def batches() -> Iterator[Batch]:
        for places in torch.arange(len(chosen)).split(size):
            x, y = chosen.scaled(places, run.model.device)
            y = labels_with(run.model, y, label)
            found = run.model.reconstruct(x, y)
            if coded is not None:
                found = torch.where(coded, interpolate(run.model, x, x, 1, y, reading=mode)[:, 0], found)
            names = np.array([chosen.name(place) for place in places.tolist()])
            yield Batch(found, joined({"name": names}, named(run, split, y, label)))

    return Plan(len(chosen), -(-len(chosen) // size), batches())


def interpolations(run: OpenedRun, config: DictConfig, split: str, label: int | None) -> Plan:
    """Rows of E[x | z] on walks between the centres of q(z | x) of pairs; t = 0 is the first of a pair, t = 1 the second.

    Raises:
        ValueError: if there is only one example, or z has no lines.
    """
    chosen, steps, chained = split_of(run, split), config.num_steps, split == NEW
    most = len(chosen) - 1 if chained else len(chosen) // 2
    if most < 1:
        raise ValueError("an interpolation leads from one example to another, but there is one alone")
    num = min(config.num or (most if chained else NUM_PAIRS), most)
    partners = num + NUM_SEEN if run.model.num_classes else num  # among which each must find one of its class
    x, y = chosen.scaled(torch.arange(num + 1 if chained else min(num + partners, len(chosen))), run.model.device)
    y = labels_with(run.model, y, label)
    walk, reading = walk_in(run.model.encode(x[:1], y[:1])), reading_of(run)
    if walk is None:
        raise ValueError(f"{NO_WALK} interpolations: choose samples or reconstructions")
    start, end = pairs(y, num, chained, run.model.num_classes > 0)
    at = max(1, run.datamodule.eval_batch_size // steps)
    names = np.array([chosen.name(place) for place in range(len(x))])

    def batches() -> Iterator[Batch]:
        for a, b in zip(start.split(at), end.split(at), strict=True):
            found = interpolate(run.model, x[a], x[b], steps, y[a], walk, reading).flatten(0, 1)
            t = np.tile(np.linspace(0, 1, steps), len(a))
            ends = {"from": names[a.cpu()].repeat(steps), "to": names[b.cpu()].repeat(steps)}
            labels = named(run, split, y[a].repeat_interleave(steps, 0), label) if run.model.num_classes else {}
            yield Batch(found, joined({**ends, "t": t}, labels))

    return Plan(num * steps, -(-num // at), batches())


def traversals(run: OpenedRun, config: DictConfig, split: str, label: int | None) -> Plan:
    """Rows of E[x | z] where one dimension of the centre of q(z | x) at a time is moved from -2.5 to 2.5.

    Raises:
        ValueError: if z has no dimensions to be moved.
    """
    chosen, steps = split_of(run, split), config.num_steps
    x, y = chosen.scaled(torch.arange(min(config.num or 1, len(chosen))), run.model.device)
    y = labels_with(run.model, y, label)
    q, reading = run.model.encode(x[:1], y[:1]), reading_of(run)
    if walk_in(q) is not torch.lerp:
        raise ValueError(f"{NO_WALK} traversals: choose samples or reconstructions")
    dims = torch.arange(q.event_shape.numel()).split(max(1, run.datamodule.eval_batch_size // steps))

    def batches() -> Iterator[Batch]:
        for place in range(len(x)):
            one, its_y, name = x[place : place + 1], y[place : place + 1], chosen.name(place)
            for some in dims:
                found = traverse(run.model, one, some, steps, EXTENT, its_y, reading).flatten(0, 1)
                where = {"dim": some.numpy().repeat(steps), "value": np.tile(np.linspace(-EXTENT, EXTENT, steps), len(some))}
                labels = named(run, split, its_y.repeat_interleave(len(found), 0), label) if run.model.num_classes else {}
                yield Batch(found, joined({"name": np.array([name] * len(found)), **where}, labels))

    return Plan(len(x) * q.event_shape.numel() * steps, len(x) * len(dims), batches())


PLANS: dict[str, Planner] = {
    "samples": samples,
    "reconstructions": reconstructions,
    "interpolations": interpolations,
    "traversals": traversals,
}


def named(run: OpenedRun, split: str, y: Tensor, label: int | None = None) -> Columns:
    """Labels in words, of a table by the name of its column; of an input, whose class was chosen, with the names of the training data."""
    found = labels_of(run.datamodule.splits["train" if split == NEW and label is not None else split], y.cpu())
    dataset = run.datamodule.dataset
    return {dataset.y or name if isinstance(dataset, Table) else name: values for name, values in found.items()}


def split_of(run: OpenedRun, name: str) -> Split:
    """The split of a name, read if it has not been."""
    if name == "test":
        run.datamodule.setup("test")
    return run.datamodule.splits[name]


def of_codes(run: OpenedRun) -> Bool[Tensor, "d"] | None:
    """Columns of a table that hold codes, which have no mean; None if there are none."""
    coded = [column.kind in CODED for column in table_columns(run.datamodule)]
    return torch.tensor(coded, device=run.model.device) if any(coded) else None


def reading_of(run: OpenedRun) -> Callable[[Distribution], Tensor]:
    """A function of p(x | z) that returns what is written of it: the mean; of columns of codes, the most probable one."""
    coded = of_codes(run)
    return lambda p_x: p_x.mean if coded is None else torch.where(coded, p_x.mode, p_x.mean)


def arrays_of(run: OpenedRun, batch: Batch) -> Float[np.ndarray, "b ..."]:
    """x in the units of the data, with the axes that `input=` reads."""
    modality = run.datamodule.modality
    return as_read(modality.unscale(batch.x).cpu().numpy(), modality, run.config.data.get("axes"))


def columns_of(run: OpenedRun, batch: Batch, ending: str) -> Columns:
    """Columns that a file of this ending has of a batch; x is one array in .npz, else a column for each value, cells in .csv and .tsv."""
    columns = table_columns(run.datamodule)
    x = arrays_of(run, batch)
    if columns:
        found = {column.name: values_of(column, x[:, place], ending) for place, column in enumerate(columns)}
    elif ending == ".npz":
        found = {"x": x}
    else:
        flat = run.datamodule.modality.unscale(batch.x).flatten(1).cpu().numpy()
        found = dict(zip(run.datamodule.modality.value_names, flat.T, strict=True))
    return joined(batch.about, found)


def joined(about: Columns, columns: Columns) -> Columns:
    """Columns side by side; where two have one name, that of the first gets an underscore, as in name_."""
    return {f"{name}_" if name in columns else name: values for name, values in about.items()} | dict(columns)


def values_of(column: Column, numbers: Float[np.ndarray, "b"], ending: str) -> np.ndarray:
    """Values of a column of a table: words of codes, whole counts; in files of text all as the table had them."""
    if column.kind in CODED or ending in SEPARATORS:
        return np.array(column.cells(numbers))
    return numbers.round().astype(np.int64) if column.kind == "count" else numbers


def levels_of(run: OpenedRun) -> tuple[float, float]:
    """Black and white of pictures, which are those of the test data."""
    seen, _ = run.datamodule.examples("test", NUM_SEEN)
    return run.datamodule.modality.levels(run.datamodule.modality.unscale(seen))


def pictures_of(run: OpenedRun, batch: Batch, levels: tuple[float, float]) -> Iterator[tuple[str, Image.Image]]:
    """A picture of each x, and what its name says of it."""
    modality = run.datamodule.modality
    images = modality.pictures(modality.unscale(batch.x)).cpu()
    for place, image in enumerate(images):
        about = {name: values[place] for name, values in batch.about.items()}
        words = [Path(value).stem if name == "name" else f"{name}_{value}" for name, value in about.items()]
        small = tile(image[None, None], levels, gap=0)
        yield "_".join(words), enlarge(small, small.shape[-1])
