"""Masks of what is hidden of x and has to be completed: True where a value is hidden.

A mask is of x's space: of the height and width of an image, whatever its channels, or of the length of a vector.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor


def half(space: Sequence[int]) -> Bool[Tensor, "*space"]:
    """The lower half of an image, the second of a vector."""
    mask = torch.zeros(*space, dtype=torch.bool)
    mask[space[0] // 2 :] = True
    return mask


def box(space: Sequence[int]) -> Bool[Tensor, "*space"]:
    """A box in the middle, half as long as the image on each side."""
    mask = torch.zeros(*space, dtype=torch.bool)
    mask[tuple(slice(size // 4, size - size // 4) for size in space)] = True
    return mask


def from_file(path: Path, space: Sequence[int]) -> Bool[Tensor, "*space"]:
    """A picture whose bright pixels are hidden, or a NumPy array that is not 0 where x is hidden.

    Raises:
        ValueError: if there is no such file, it cannot be read, or it has another shape.
    """
    if not path.is_file():
        raise ValueError(f"mask={path} is none of half, box and random, and no file")
    try:
        if path.suffix == ".npy":
            mask = torch.from_numpy(np.load(path) != 0)
        else:
            with Image.open(path) as picture:
                mask = torch.from_numpy(np.array(picture.convert("L")) >= 128)
    except (OSError, ValueError, SyntaxError) as error:  # SyntaxError: what Pillow calls a broken PNG
        raise ValueError(
            f"mask={path} cannot be read ({error}): it must be a picture such as a .png, or an array in an .npy file"
        ) from error
    if mask.shape != tuple(space):
        raise ValueError(f"mask={path} has shape {tuple(mask.shape)}, but x has the space {tuple(space)}: give it that shape")
    return mask


def hidden(mask: str, x_shape: Sequence[int], num_examples: int, share: float = 0.5) -> Bool[Tensor, "b *x_shape"]:
    """A mask of the values that are hidden of a batch of x.

    Args:
        mask: "half", "box", "random" (each place of each example by itself, all its channels together), or a file's path.
        x_shape: of one x: (channels, height, width), or (length,).
        num_examples: B.
        share: that is hidden at random.

    Raises:
        ValueError: if the mask is none of these or hides nothing, or the share does not lie in (0, 1].
    """
    space = tuple(x_shape)[1:] if len(x_shape) > 1 else tuple(x_shape)
    if not 0 < share <= 1:
        raise ValueError(f"missing_share={share} must lie in (0, 1]")
    if mask == "random":
        found = torch.rand(num_examples, *space) < share
    else:
        one = {"half": half, "box": box}[mask](space) if mask in ("half", "box") else from_file(Path(mask), space)
        found = one.expand(num_examples, *space)
    if not bool(found.any()):
        raise ValueError(f"mask={mask} hides nothing, so there is nothing to complete")
    return found.reshape(num_examples, *[1] * (len(x_shape) - len(space)), *space).expand(num_examples, *x_shape)
