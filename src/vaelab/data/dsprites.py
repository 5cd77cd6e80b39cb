"""dSprites: Disentanglement testing Sprites dataset (Matthey et al., 2017, https://github.com/google-deepmind/dsprites-dataset)."""

import zipfile
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from vaelab.data.memory import InMemory
from vaelab.data.synthetic import SHAPES

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
NAMES = ("shape", "scale", "orientation", "x", "y")


class Sprites(NamedTuple):
    """All images of the grid of factors, in a random order, so that train and test are parts of one tensor and not copies of it."""

    images: UInt8[Tensor, "n 1 h w"]
    order: Int[Tensor, "n"]  # the point of the grid that each image is of
    place: Int[Tensor, "n"]  # the image of each point of the grid
    sizes: tuple[int, ...]


class DSprites(InMemory):
    """A random part of dSprites, with the whole grid of factors at hand. y (N, 5) holds the factor indices.

    Factors: shape 3 (square, ellipse, heart), scale 6, orientation 40, x 32 and y 32; the colour, which is always white, is left out.
    Train and test are disjoint.

    Args:
        sprites: all images.
        split: "train" or "test".
        num_train, num_test: how many images each split has; num_train=None: all that are not test images.

    Raises:
        ValueError: if the split is unknown, or there are fewer than num_train + num_test images.
    """

    def __init__(self, sprites: Sprites, split: str, num_train: int | None, num_test: int) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"dSprites has the splits train and test, but not {split!r}: set data.val_size")
        total = len(sprites.images)
        num_train = total - num_test if num_train is None else num_train
        if num_train < 1 or num_test < 1 or num_train + num_test > total:
            raise ValueError(f"num_train={num_train} and num_test={num_test} must be at least 1 and at most {total} together")
        self.factor_names, self.factor_sizes = NAMES, sprites.sizes
        self._sprites = sprites
        chosen = slice(num_test) if split == "test" else slice(num_test, num_test + num_train)
        super().__init__(sprites.images[chosen], self.factors(sprites.order[chosen]), NAMES, {"shape": SHAPES}, ["orientation"])

    def factors(self, index: Int[Tensor, "n"]) -> Int[Tensor, "n f"]:
        """The factor indices of points of the grid; the last factor varies fastest."""
        return torch.stack(torch.unravel_index(index, self.factor_sizes), dim=-1)

    def render(self, factors: Int[Tensor, "n f"]) -> UInt8[Tensor, "n 1 h w"]:
        """The images of any points of the grid."""
        strides = torch.tensor([prod(self.factor_sizes[i + 1 :]) for i in range(len(self.factor_sizes))])
        return self._sprites.images[self._sprites.place[(factors * strides).sum(1)]]


def dsprites(root: str, split: str, num_train: int | None = None, num_test: int = 10_000, seed: int = 0) -> DSprites:
    """737,280 binary 64 x 64 images of a sprite, from the published file in `root`; 3 GB in memory, once for both splits.

    The test images are `num_test` of all, chosen by `seed`, and do not depend on num_train.

    Raises:
        ValueError: if the file is missing or is another one, the split is unknown, or there are too few images.
    """
    path = Path(root) / FILE
    if not path.is_file():
        raise ValueError(
            f"there is no {path.absolute()}: fetch it from https://github.com/google-deepmind/dsprites-dataset, or say where it is with"
            " paths.data_dir=<the folder that holds it>"
        )
    return DSprites(_read(path, seed), split, num_train, num_test)


@lru_cache(maxsize=1)  # the test split is asked for by itself, and must not hold the images a second time
def _read(path: Path, seed: int) -> Sprites:
    try:
        with np.load(path) as file:
            images, classes = torch.from_numpy(file["imgs"]), torch.from_numpy(file["latents_classes"])[:, 1:]
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not the file of dSprites ({error}): remove it and fetch it anew") from error
    sizes = tuple((classes.amax(0) + 1).tolist())
    if (
        images.dtype != torch.uint8
        or images.ndim != 3
        or images.max() > 1
        or len(sizes) != len(NAMES)
        or len(images) != prod(sizes)
        or not torch.equal(classes, torch.cartesian_prod(*(torch.arange(size) for size in sizes)))
    ):
        raise ValueError(
            f"{path} is not the file of dSprites: expected a binary image for each combination of {', '.join(NAMES)} in order, but it holds"
            f" imgs of shape {tuple(images.shape)} and dtype {images.dtype} with {sizes} classes"
        )
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return Sprites(images[order].mul_(255)[:, None], order, order.argsort(), sizes)
