"""Completions of examples of which a part is hidden."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vaelab.applications import Completion
from vaelab.data.modality import Images
from vaelab.figures.charts.colours import BLACK, BLUE, SKY_BLUE, VERMILION
from vaelab.figures.curves import FEW, Panels, in_units
from vaelab.figures.files import rendered
from vaelab.figures.scene import Scene
from vaelab.figures.tiles import captioned

NUM_COMPLETIONS = 8  # that are shown of each example


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
    if scene.modality.has_curves:
        return rendered(completed_curves(scene, observed, completion, title, names))
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


def colour(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 h w"]:
    """The images with three channels."""
    return x if x.shape[1] == 3 else x.mean(1, keepdim=True).expand(-1, 3, -1, -1)


def completed_curves(
    scene: Scene, observed: Bool[Tensor, "n ..."], completion: Completion, title: str = "", names: Sequence[str] = ()
) -> Figure:
    """A panel for each example: what was observed and what was hidden of it, completions, their mean and two standard deviations of x.

    Args:
        scene: of the examples.
        observed: which of their values were.
        completion: of them, in the units of the data.
        title: of the figure.
        names: of the examples.
    """
    n, modality = min(scene.num_images, len(scene.x)), scene.modality
    x, known = modality.unscale(scene.x[:n]), observed[:n]
    ends = [completion.mean[:n] + sign * completion.std[:n] for sign in (-2, 2)]
    grid = Panels(in_units(modality), n, torch.cat([x, *ends]), columns=2, title=title)
    labels = scene.labels(scene.y[:n])
    for place, words in enumerate(" ".join(filter(None, pair)) for pair in zip(names or [""] * n, labels, strict=True)):
        hidden = grid.lines(known[place].double()) < 0.5
        middle, spread = (grid.lines(each[place]) for each in (completion.mean, completion.std))
        for line in completion.expected[:, place]:
            of_hidden(grid, place, grid.lines(line), hidden, color=BLUE, linewidth=0.6, alpha=0.5, label="completions E[x | z]")
        of_hidden(grid, place, middle, hidden, color=BLUE, linewidth=1.4, label="mean")
        for channel, axis in enumerate(grid.of(place)):
            low, high = (np.where(beside(hidden[channel]), middle[channel] + sign * spread[channel], np.nan) for sign in (-2, 2))
            axis.fill_between(np.arange(hidden.shape[-1]), low, high, color=BLUE, alpha=0.2, lw=0, label="2 standard deviations")
        of_hidden(grid, place, grid.lines(x[place]), hidden, color=VERMILION, linewidth=1, label="x, hidden")
        seen = np.where(hidden, np.nan, grid.lines(x[place]))
        for channel, axis in enumerate(grid.of(place)):
            axis.plot(seen[channel], color=BLACK, linewidth=1, label="x, observed", **points(hidden))  # type: ignore[arg-type]
        if words:
            grid.titled(place, words)
    grid.legend()
    return grid.figure


def beside(hidden: Bool[np.ndarray, "t"]) -> Bool[np.ndarray, "t"]:
    """The hidden places and those next to them, so that a line goes on from what was observed."""
    wider = hidden.copy()
    wider[1:] |= hidden[:-1]
    wider[:-1] |= hidden[1:]
    return wider


def of_hidden(grid: Panels, place: int, lines: np.ndarray, hidden: np.ndarray, **style: object) -> None:
    """Lines where x was hidden."""
    for channel, axis in enumerate(grid.of(place)):
        axis.plot(np.where(beside(hidden[channel]), lines[channel], np.nan), **{**points(hidden), **style})  # type: ignore[arg-type]


def points(hidden: Bool[np.ndarray, "c t"]) -> dict[str, object]:
    """A point at each value, where hidden ones are scattered among others and lines are short."""
    turns = int((hidden[:, 1:] != hidden[:, :-1]).sum())
    return {"marker": ".", "markersize": 3} if turns > FEW or hidden.shape[-1] <= FEW else {}
