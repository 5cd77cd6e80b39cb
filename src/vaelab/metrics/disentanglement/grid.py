"""Codes of images with given factors."""

from collections.abc import Callable
from math import prod
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution

from vaelab.distributions import centre, is_euclidean, space_of
from vaelab.metrics.data import Data
from vaelab.models import Model

IMAGES_AT_ONCE = 250  # a batch of few images stays in the cache of a CPU: twice as fast as a thousand


@runtime_checkable
class FactorGrid(Protocol):
    """Data that can show any combination of their factors."""

    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]

    def render(self, factors: Int[Tensor, "n f"]) -> Tensor: ...


class GridCodes:
    """The centres of q(z | x) of the images of a grid, as vectors (N, D); each is encoded once, when it is first asked for.

    The metrics draw some millions of images from a grid that has fewer points.

    Args:
        model: with a posterior.
        grid: of the images.
        shown: a batch of images, as they are stored -> as the model is shown them.
    """

    def __init__(self, model: Model, grid: FactorGrid, shown: Callable[[Tensor], Tensor]) -> None:
        self.model, self.grid, self.shown = model, grid, shown
        self.strides = torch.tensor([prod(grid.factor_sizes[i + 1 :]) for i in range(len(grid.factor_sizes))])
        self.known = torch.zeros(prod(grid.factor_sizes), dtype=torch.bool)
        self.codes = torch.empty(0)

    def __call__(self, factors: Int[Tensor, "n f"]) -> Float[Tensor, "n d"]:
        """The codes of points of the grid."""
        index = (factors * self.strides).sum(1)
        asked = torch.zeros_like(self.known)
        asked[index] = True
        for missing in (asked & ~self.known).nonzero()[:, 0].split(IMAGES_AT_ONCE):
            codes = centre(self.posterior(missing)).flatten(1).cpu()
            if not len(self.codes):
                self.codes = codes.new_empty(len(self.known), codes.shape[1])
            self.codes[missing] = codes
        self.known |= asked
        return self.codes[index]

    def posterior(self, index: Int[Tensor, "n"]) -> Distribution:
        """q(z | x) of the images of points of the grid, counted with the last factor varying fastest."""
        factors = torch.stack(torch.unravel_index(index, self.grid.factor_sizes), dim=-1)
        return self.model.encode(self.shown(self.grid.render(factors).to(self.model.device)), factors.to(self.model.device))


def grid_codes(model: Model, data: Data) -> GridCodes:
    """The codes of the grid that the test data are part of.

    Raises:
        ValueError: if the data have no grid of factors, or the codes are not vectors of at least two real numbers.
    """
    data.setup("test")
    split = data.splits["test"]
    if not isinstance(split.dataset, FactorGrid):
        raise ValueError(
            "disentanglement is measured on images of any combination of known factors, which these data do not have: use data=shapes,"
            " data=circles or data=dsprites, or leave this metric out"
        )

    def shown(images: Tensor) -> Tensor:
        x = split.modality.scale(images)
        return x if split.transform is None else split.transform(x)

    codes_of = GridCodes(model, split.dataset, shown)
    q = codes_of.posterior(torch.zeros(1, dtype=torch.long))
    if not is_euclidean(q) or q.event_shape.numel() < 2:
        raise ValueError(
            f"disentanglement is measured of codes that are vectors of at least two real numbers, but q(z | x) is over {space_of(q)} of"
            f" shape {tuple(q.event_shape)}: use posterior=gaussian latent_dim=10, or leave this metric out"
        )
    return codes_of
