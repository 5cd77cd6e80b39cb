"""The pictures that a run leaves in figures/."""

from pathlib import Path

import torch
from torch import Tensor

from vaelab import generators
from vaelab.applications import by_rate, interpolate, manifold, traverse
from vaelab.data import DataModule
from vaelab.distributions import centre, is_euclidean
from vaelab.models import Model
from vaelab.pictures import black_and_white, save, save_latent_space, tile


@torch.no_grad()
def draw_figures(
    model: Model, datamodule: DataModule, folder: Path, device: torch.device, seed: int = 0, num_images: int = 8
) -> list[Path]:
    """reconstructions, samples, interpolations, traversals, latent_space, and the manifold of a two-dimensional latent space.

    Data that are no images are pictured if they are vectors, else left out. So are walks through latent variables that are no vectors of
    real numbers, such as codes or points on a sphere.
    """
    model.eval()
    with generators.set_aside(seed):
        pairs = list(datamodule.batches("test", device))
        x, y = torch.cat([x for x, _ in pairs])[:2000], torch.cat([y for _, y in pairs])[:2000]
        if x.ndim not in (2, 4):
            return []
        n = min(num_images, len(x) // 2)
        if n == 0:
            return []
        some, labels = x[: 2 * n], y[: 2 * n]
        levels = black_and_white(x)
        pictures = {
            "reconstructions": tile(interleave(some, model.reconstruct(some, labels), n), levels),
            "samples": tile(model.sample(n * n, labels.repeat(n, *[1] * (y.ndim - 1))[: n * n], mean=True).unflatten(0, (n, n)), levels),
        }
        q = model.encode(some, labels)
        if is_euclidean(q):
            order = by_rate(model, x, y)[:10]
            pictures["interpolations"] = tile(interpolate(model, x[:n], x[n : 2 * n], steps=n + 2, y=y[:n]), levels)
            pictures["traversals"] = tile(traverse(model, x[:1], order, y=y[:1]), levels)
            if q.event_shape.numel() == 2:
                pictures["manifold"] = tile(manifold(model, y=y[:1]), levels, gap=0)
        means = torch.cat([centre(model.encode(a, b)) for a, b in zip(x.split(500), y.split(500), strict=True)])
        paths = []
        for name, picture in pictures.items():
            paths.append(folder / f"{name}.png")
            save(picture, paths[-1])
        paths.append(folder / "latent_space.png")
        names = getattr(datamodule.splits["test"].dataset, "y_names", ())
        save_latent_space(means, y, names, paths[-1], f"centres of q(z | x) for {len(x)} test images")
    return paths


def interleave(x: Tensor, reconstruction: Tensor, columns: int) -> Tensor:
    """Rows of data and, below each, their reconstructions."""
    rows = [row.unflatten(0, (-1, columns)) for row in (x, reconstruction)]
    return torch.stack(rows, dim=1).flatten(0, 1)
