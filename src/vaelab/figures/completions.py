"""Completions of examples of which a part is hidden."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from matplotlib.colors import to_rgb
from PIL import Image
from torch import Tensor

from vaelab.applications import Completion
from vaelab.data.modality import Images
from vaelab.figures.charts.colours import SKY_BLUE
from vaelab.figures.curves import completed_curves
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
