"""One picture file as 8-bit values of a fixed shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageColor, ImageOps
from torch import Tensor

from vaelab.checks import check_at_least, check_positive, given

NO_PIXELS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # formats that Pillow knows and cannot decode by itself
IN_FRAMES = {"AVIF", "DCX", "FLI", "GIF", "PNG", "TIFF", "WEBP"}  # formats of which a file may hold several pictures
WHITES = {"F": 1.0, "I": 65535.0}  # of floats, and of integers


def endings() -> frozenset[str]:
    """The endings of the files that Pillow reads, in lower case: ".png", ..."""
    Image.init()
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in Image.OPEN and name not in NO_PIXELS)


def shown_endings() -> str:
    """The endings, in a sentence."""
    usual = [".bmp", ".gif", ".jpg", ".png", ".tif", ".webp"]
    return f"{', '.join(usual)} and {len(endings()) - len(usual)} other endings that Pillow reads"


@dataclass(frozen=True)
class Reader:
    """Picture files as 8-bit values of one shape: turned upright, resized to cover the shape, and cut to it around the middle.

    Args:
        shape: (channels, height, width), channels 1 (grey) or 3 (colour).
        crop: side of the central square that is cut out before resizing, or None.
        background: colour behind what is transparent: a name, such as "white", or red, green and blue in 0 ... 255.
        white: the stored value that is white, of pictures with more than 8 bits. None: 65535 of integers and 1 of floats, where the
            largest value of a picture is at most that, and more than half of it.

    Raises:
        ValueError: if an argument is impossible.
    """

    shape: tuple[int, ...]
    crop: int | None = None
    background: str | Sequence[int] = "white"
    white: float | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or self.shape[0] not in (1, 3) or min(self.shape) < 1:
            raise ValueError(f"data.shape must be [1 or 3, height, width] for a folder of pictures, but it is {list(self.shape)}")
        check_at_least(1, **given(crop=self.crop))
        check_positive(**given(white=self.white))
        self._colour()

    def _colour(self) -> tuple[int, ...]:
        if not isinstance(self.background, str):
            colour = tuple(self.background)
            if len(colour) == 3 and all(isinstance(value, int) and 0 <= value <= 255 for value in colour):
                return colour
            raise ValueError(f"background={list(colour)} must be red, green and blue, each in 0 ... 255")
        try:
            return ImageColor.getrgb(self.background)[:3]
        except ValueError as error:
            raise ValueError(f"background={self.background} is no colour: give a name, such as white, or [255,255,255]") from error

    def __call__(self, path: Path) -> UInt8[Tensor, "c h w"]:
        """The values of a file.

        Raises:
            ValueError: if the file is not a readable picture, holds several, is smaller than the crop, or its white is not known.
        """
        try:
            with Image.open(path) as file:
                frames = getattr(file, "n_frames", 1) if file.format in IN_FRAMES else 1
                is_deep = ";16" in str([part[3] for part in file.tile])  # colours of 16 bits, of which Pillow keeps 8
                picture = ImageOps.exif_transpose(file)
        except Exception as error:  # whatever decoders make of bytes that are no picture
            raise ValueError(f"{path} is not a readable picture ({error}): repair or remove it") from error
        if frames > 1:
            raise ValueError(f"{path} holds {frames} frames, but each file must be one picture: save each frame as a file of its own")
        channels, height, width = self.shape
        picture = self._in_8_bits(picture, path, is_deep).convert("L" if channels == 1 else "RGB")
        if self.crop is not None and self.crop > min(picture.size):
            raise ValueError(f"data.crop={self.crop} is larger than {path}, which has {picture.width} x {picture.height} pixels")
        if self.crop is not None:
            left, top = (picture.width - self.crop) // 2, (picture.height - self.crop) // 2
            picture = picture.crop((left, top, left + self.crop, top + self.crop))
        if picture.size != (width, height):
            picture = ImageOps.fit(picture, (width, height), method=Image.Resampling.BICUBIC)
        return torch.from_numpy(np.asarray(picture).copy()).reshape(height, width, channels).permute(2, 0, 1)

    def _in_8_bits(self, picture: Image.Image, path: Path, is_deep: bool) -> Image.Image:
        """The picture with values in 0 ... 255, and the background where it is transparent."""
        see_through = picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
        kind = picture.mode.split(";")[0]
        if kind in WHITES:
            values = np.asarray(picture).astype(np.float64)
            low, high, white = float(values.min()), float(values.max()), self.white
            if white is None and WHITES[kind] / 2 < high <= WHITES[kind]:
                white = WHITES[kind]
            if white is None or not (isfinite(high) and low >= 0 and high <= white) or see_through:
                also = " and transparent ones" * see_through
                raise ValueError(
                    f"{path} has more than 8 bits, with values in [{low:g}, {high:g}]{also}: say which value is white, such as"
                    " data.white=4095 for 12 bits and 65535 for 16 bits, or save it with 8 bits"
                )
            return Image.fromarray((values * (255 / white)).round().astype(np.uint8))
        if is_deep and self.white != WHITES["I"]:
            brightest = max(high for _, high in _extremes(picture.convert("RGB")))
            if self.white is not None or brightest < 128:
                raise ValueError(
                    f"{path} has colours of 16 bits, with values up to {257 * brightest} of 65535: if that is so, set data.white=65535,"
                    " or save it with 8 bits"
                )
        if not see_through:
            return picture
        coloured = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, (*self._colour(), 255)), coloured)


def _extremes(picture: Image.Image) -> list[tuple[int, int]]:
    return [channel.getextrema() for channel in picture.split()]  # type: ignore[misc]
