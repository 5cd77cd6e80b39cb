"""From tensors to pictures that a person can look at."""

from pathlib import Path

import matplotlib
import torch
from jaxtyping import Float, Shaped, UInt8
from PIL import Image
from torch import Tensor

matplotlib.use("Agg")  # figures go to files; no screen is needed
from matplotlib import pyplot as plt


def black_and_white(x: Float[Tensor, "b ..."]) -> tuple[float, float]:
    """The values to show as black and as white: 0 and 1 for images, the extremes for data that leave [0, 1]."""
    seen = x[~x.isnan()]
    low, high = float(seen.min()), float(seen.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def tile(
    images: Float[Tensor, "rows columns ..."], levels: tuple[float, float] = (0.0, 1.0), background: float = 0.5, gap: int = 2
) -> UInt8[Tensor, "c h w"]:
    """A grid of images as one 8-bit image, clipped to its black and white levels first, so that 1.02 is white and not black.

    Channels that are neither grey nor colour are averaged; vectors become strips.
    """
    images = images.nan_to_num(sum(levels) / 2)  # what is missing is grey
    images = (images - levels[0]) / (levels[1] - levels[0])
    if images.ndim == 3:
        images = images[:, :, None, None].expand(-1, -1, 1, max(images.shape[2] // 8, 1), -1)
    if images.ndim != 5:
        raise ValueError(f"only images and vectors can be pictured, but x has shape {tuple(images.shape[2:])}")
    if images.shape[2] not in (1, 3):
        images = images.mean(2, keepdim=True)
    rows, columns, channels, height, width = images.shape
    canvas = images.new_full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), background)
    for r in range(rows):
        for c in range(columns):
            top, left = r * (height + gap) + gap, c * (width + gap) + gap
            canvas[:, top : top + height, left : left + width] = images[r, c]
    return (canvas.clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def save(image: UInt8[Tensor, "c h w"], path: Path, width: int = 1200) -> None:
    """A PNG, enlarged by a whole number until it is about `width` pixels wide, without blurring the pixels."""
    factor = max(round(width / image.shape[-1]), 1)
    array = image.repeat_interleave(factor, 1).repeat_interleave(factor, 2).permute(1, 2, 0).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array).save(path)


def save_latent_space(means: Float[Tensor, "n ..."], y: Shaped[Tensor, "n ..."], y_names: tuple[str, ...], path: Path, title: str) -> None:
    """The posterior means in their two widest directions, coloured by the label or by each factor."""
    flat = means.flatten(1).double().cpu()
    centred = flat - flat.mean(0)
    plane = centred
    if flat.shape[1] > 2:
        plane = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:2].T
    elif flat.shape[1] == 1:
        plane = torch.cat([centred, torch.zeros_like(centred)], dim=1)
    columns = y.cpu().reshape(len(y), -1)
    figure, axes = plt.subplots(
        1,
        columns.shape[1],
        figsize=(4.6 * columns.shape[1] + (1.4 if columns.shape[1] == 1 else 0), 4.4),
        squeeze=False,
        layout="constrained",
    )
    labels = y.ndim == 1
    for axis, column, name in zip(axes[0], columns.T, y_names if not labels and y_names else [""] * columns.shape[1], strict=True):
        classes = int(column.max()) + 1
        colours = plt.get_cmap("tab10" if labels and classes <= 10 else "viridis")
        points = axis.scatter(
            *plane.T, c=column, s=4, cmap=colours, linewidths=0, vmin=-0.5 if labels else None, vmax=classes - 0.5 if labels else None
        )
        axis.set(title=name, xlabel="first direction", ylabel="second direction")
        axis.set_aspect("equal", adjustable="datalim")
        if labels and 1 < classes <= 10:
            bar = figure.colorbar(points, ax=axis, ticks=range(classes))
            bar.ax.set_yticklabels(y_names or [str(c) for c in range(classes)])
        elif classes > 0:
            figure.colorbar(points, ax=axis)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
