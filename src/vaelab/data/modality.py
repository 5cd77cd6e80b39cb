"""Modalities, the kinds of x: how stored values become the numbers that models see, and what a person looks at.

Figures, metrics and commands ask the modality of the data, and never guess from a tensor. A new one is a class here and a line in
`modality_of`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from vaelab.data.columns import Column
from vaelab.data.scaling import Scaling

NUM_LEVELS = 256  # of 8 bits
MAX_SIDE = 32  # pixels of a thumbnail: the sprite of TensorBoard's projector, at most 8192 pixels wide, holds all of them


def to_float(x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """8-bit x become x / 255 in [0, 1]; other numbers, booleans and counts too, keep their values in torch's default precision."""
    x, is_8_bit = x.to(torch.get_default_dtype()), x.dtype == torch.uint8
    return x / (NUM_LEVELS - 1) if is_8_bit else x


class Modality(ABC):
    """A kind of data.

    `scaling` is that of the training data, once it has been fitted; `columns` are those of a table, once it has been read.

    Args:
        shape: of one x.
    """

    noun: str  # for one x, in captions
    axes: tuple[str, ...] = ()  # names of the axes of x
    is_pictured = True  # whether there are pictures of x
    has_curves = False  # whether these are lines
    is_viewable = False  # whether x are grey or colour images, which 8 bits can hold if their values lie in [0, 1]
    scaling: Scaling | None = None
    columns: tuple[Column, ...] = ()

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)

    @property
    def pooled(self) -> tuple[int, ...]:
        """Axes of x whose values a scaling takes together: all but the first, which are channels."""
        return tuple(range(1, len(self.shape)))

    def scale(self, x: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """Stored x, or what a transform made of them, as models see them."""
        if self.scaling is None:
            return to_float(x)
        return self.scaling.forward(to_float(x) if x.dtype == torch.uint8 else x)

    def unscale(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """x as models see them in the units of the data, after any number of batch dimensions; 8-bit pixels are of [0, 1]."""
        return x if self.scaling is None else self.scaling.inverse(x)

    def levels(self, x: Float[Tensor, "b ..."]) -> tuple[float, float]:
        """The values to show as black and as white, of x in the units of the data: 0 and 1, or the extremes if some leave [0, 1]."""
        seen = x[~x.isnan()]
        low, high = float(seen.min()), float(seen.max())
        return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)

    @property
    def value_names(self) -> list[str]:
        """A name for each value of x, flattened: x_3, channel_0_time_12, row_0_column_5; axes of length 1 are left out."""
        axes = range(len(self.shape))
        kept = [axis for axis in axes if self.shape[axis] > 1] or list(axes[-1:])
        words = {axis: f"{self.axes[axis]}_" if self.axes else "" for axis in kept}
        names = ([f"{words[axis]}{place[axis]}" for axis in kept] for place in np.ndindex(self.shape))
        return ["_".join(name if self.axes else ["x", *name]) for name in names]

    @property
    def plural(self) -> str:
        """The noun for several x."""
        return f"{self.noun}s"

    @abstractmethod
    def pictures(self, x: Float[Tensor, "..."]) -> Float[Tensor, "... c h w"]:
        """Images of x, after any number of batch dimensions."""

    def curves(self, x: Float[Tensor, "..."]) -> Float[Tensor, "... c t"]:
        """Lines of x, after any number of batch dimensions, one for each channel.

        Raises:
            ValueError: if x are not shown as lines.
        """
        raise ValueError(f"x of shape {self.shape} are not shown as lines")

    def are_viewable(self, x: Shaped[Tensor, "b ..."]) -> bool:
        """True if these x, which are stored or as models see them, are grey or colour images in [0, 1], and none is missing or scaled."""
        return self.is_viewable and self.scaling is None and (x.dtype == torch.uint8 or bool(((x >= 0) & (x <= 1)).all()))

    def thumbnails(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b c s s"] | None:
        """Small square images of x as models see them, or None if x are not viewable."""
        pixels = self.unscale(x).nan_to_num(0.5).clamp(0, 1)
        return functional.interpolate(pixels, size=2 * [min(max(self.shape[1:]), MAX_SIDE)]) if self.is_viewable else None


class Images(Modality):
    """x of shape (channels, height, width)."""

    noun, axes = "image", ("channel", "row", "column")

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        self.is_viewable = shape[0] in (1, 3)

    def pictures(self, x: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch c h w"]:
        """x itself."""
        return x


class Curves(Modality):
    """x that are shown as lines."""

    has_curves = True

    def pictures(self, x: Float[Tensor, "..."]) -> Float[Tensor, "... c h w"]:
        """
        Raises:
            ValueError: always.
        """
        raise ValueError(f"x of shape {self.shape} are shown as lines, and are no images")


class Vectors(Curves):
    """x of shape (length,)."""

    noun = "vector"

    def curves(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch 1 n"]:
        """One line for each x."""
        return x[..., None, :]


class Series(Curves):
    """x of shape (channels, times)."""

    noun, axes = "series", ("channel", "time")

    @property
    def plural(self) -> str:
        """The word for several, which is that for one."""
        return "series"

    def curves(self, x: Float[Tensor, "*batch c t"]) -> Float[Tensor, "*batch c t"]:
        """x itself: a line for each channel."""
        return x


class Rows(Modality):
    """x of shape (columns,), in units of their own, and codes: the figure of a table is of its columns, and not of x."""

    noun, is_pictured = "row", False

    def pictures(self, x: Float[Tensor, "..."]) -> Float[Tensor, "... c h w"]:
        """
        Raises:
            ValueError: always.
        """
        raise ValueError("there are no pictures of the rows of a table")


class Arrays(Modality):
    """x of any other shape, of which there are no pictures."""

    noun, is_pictured = "example", False

    def pictures(self, x: Float[Tensor, "..."]) -> Float[Tensor, "... c h w"]:
        """
        Raises:
            ValueError: always.
        """
        raise ValueError(f"only images, series and vectors can be pictured, but x has shape {self.shape}")


def modality_of(shape: Sequence[int]) -> Modality:
    """The modality of data of this shape."""
    return {1: Vectors, 2: Series, 3: Images}.get(len(shape), Arrays)(shape)
