"""Images that are rendered from their factors of variation: no file, no download, and the whole grid of factors at hand."""

from collections.abc import Callable, Sequence
from math import pi, prod

import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from vaelab.data.memory import InMemory

SHAPES = ("square", "ellipse", "heart")
Render = Callable[[Tensor], Tensor]  # factor indices (N, F) -> x (N, *x_shape), such as images of uint8 in {0, 255}
CACHED = 2**18  # pixels


class Rendered(InMemory):
    """A random part of the grid of all factor combinations, rendered.

    Train and test are disjoint parts of one permutation by `seed`. y (N, F) holds the factor indices.

    Args:
        render: factor indices (N, F) to examples.
        names: of the F factors.
        sizes: how many values each factor has.
        split: "train" or "test".
        num_train, num_test: how many examples each split has.
        seed: of the permutation.

    Raises:
        ValueError: if the split is unknown, or the grid has fewer than num_train + num_test points.
    """

    def __init__(
        self, render: Render, names: Sequence[str], sizes: Sequence[int], split: str, num_train: int, num_test: int, seed: int = 0
    ) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"rendered data have the splits train and test, but not {split!r}")
        self.factor_names, self.factor_sizes = tuple(names), tuple(sizes)
        if num_train < 1 or num_test < 1 or num_train + num_test > prod(sizes):
            raise ValueError(f"num_train={num_train} and num_test={num_test} must be at least 1 and at most {prod(sizes)} together")
        order = torch.randperm(prod(sizes), generator=torch.Generator().manual_seed(seed))
        index = order[:num_train] if split == "train" else order[num_train : num_train + num_test]
        self._render = render
        factors = self.factors(index)
        values, cyclic = {"shape": SHAPES} if "shape" in names else {}, [name for name in names if name == "orientation"]
        super().__init__(self.render(factors), factors, names, values, cyclic)

    def factors(self, index: Int[Tensor, "n"]) -> Int[Tensor, "n f"]:
        """The factor indices of points of the grid; the last factor varies fastest."""
        return torch.stack(torch.unravel_index(index, self.factor_sizes), dim=-1)

    def render(self, factors: Int[Tensor, "n f"]) -> Shaped[Tensor, "n ..."]:
        """Examples of any points of the grid: so many at a time that what is computed of them stays in the processor's cache."""
        at_once = max(1, CACHED // max(self._render(factors[:1]).numel(), 1))
        return torch.cat([self._render(chunk) for chunk in factors.split(at_once)])


def _grid(size: int) -> Float[Tensor, "2 size size"]:
    """The x and y of pixel centres in the unit square."""
    centres = (torch.arange(size) + 0.5) / size
    return torch.stack(torch.meshgrid(centres, centres, indexing="xy"))


def _spread(index: Int[Tensor, "n"], size: int, low: float, high: float) -> Float[Tensor, "n 1 1"]:
    """Factor indices 0 ... size - 1 become equally spaced values from low to high."""
    return (low + (high - low) * index / (size - 1))[:, None, None]


def _binary(inside: Bool[Tensor, "n h w"]) -> UInt8[Tensor, "n 1 h w"]:
    return inside.to(torch.uint8).mul_(255)[:, None]


def shapes(split: str, size: int = 32, num_train: int = 50_000, num_test: int = 5_000, seed: int = 0) -> Rendered:
    """Binary images of a square, an ellipse or a heart, with the factors of dSprites (Matthey et al., 2017).

    Factors: shape 3, scale 6 (from 0.5 to 1), orientation 40 (of a full turn), x 32 and y 32: 737,280 images. The shape never
        leaves the image.
    """
    sizes = (3, 6, 40, 32, 32)
    x, y = _grid(size)

    def render(factors: Tensor) -> Tensor:
        shape, scale, orientation, x_index, y_index = factors.unbind(1)
        radius, angle = 0.3 * _spread(scale, sizes[1], 0.5, 1.0), 2 * pi * orientation[:, None, None] / sizes[2]
        dx, dy = (x - _spread(x_index, sizes[3], 0.34, 0.66)) / radius, (y - _spread(y_index, sizes[4], 0.34, 0.66)) / radius
        u, v = angle.cos() * dx + angle.sin() * dy, angle.cos() * dy - angle.sin() * dx
        square = torch.maximum(u.abs(), v.abs()) < 0.75
        ellipse = u.square() + (v / 0.5).square() < 1
        a, b = (1.2 * u).square(), 0.12 - 1.2 * v  # (a^2 + b^2 - 1)^3 < a^2 b^3 is a heart, upright at angle 0
        heart = (a + b.square() - 1) ** 3 < a * b**3
        return _binary(torch.where((shape == 0)[:, None, None], square, torch.where((shape == 1)[:, None, None], ellipse, heart)))

    return Rendered(render, ("shape", "scale", "orientation", "x", "y"), sizes, split, num_train, num_test, seed)


def circles(split: str, size: int = 32, num_train: int = 12_000, num_test: int = 2_000, seed: int = 0) -> Rendered:
    """Binary images of a disc: position x 32 and y 32, radius 16: 16,384 images. The first dataset of latent-variable tutorials."""
    sizes = (32, 32, 16)
    x, y = _grid(size)

    def render(factors: Tensor) -> Tensor:
        x_index, y_index, radius_index = factors.unbind(1)
        dx, dy = x - _spread(x_index, sizes[0], 0.25, 0.75), y - _spread(y_index, sizes[1], 0.25, 0.75)
        return _binary(dx.square() + dy.square() < _spread(radius_index, sizes[2], 0.06, 0.24).square())

    return Rendered(render, ("x", "y", "radius"), sizes, split, num_train, num_test, seed)
