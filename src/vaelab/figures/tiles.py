"""Pictures of x side by side, with words around them."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")  # which has Greek letters, and is where matplotlib is
SIZE, SMALLEST, MARGIN = 20, 9, 6  # of letters and of the space around them, in pixels
GAP = 2  # pixels of data between images


def tile(
    images: Float[Tensor, "rows columns c h w"], levels: tuple[float, float] = (0.0, 1.0), background: float = 0.5, gap: int = GAP
) -> UInt8[Tensor, "channels height width"]:
    """A grid of images as one 8-bit image, clipped to its black and white levels first, so that 1.02 is white and not black.

    Channels that are neither grey nor colour are averaged.
    """
    images = images.nan_to_num(sum(levels) / 2)  # what is missing is grey
    images = (images - levels[0]) / (levels[1] - levels[0])
    if images.shape[2] not in (1, 3):
        images = images.mean(2, keepdim=True)
    rows, columns, channels, height, width = images.shape
    canvas = images.new_full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), background)
    for r in range(rows):
        for c in range(columns):
            top, left = r * (height + gap) + gap, c * (width + gap) + gap
            canvas[:, top : top + height, left : left + width] = images[r, c]
    return (canvas.clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def enlarge(image: UInt8[Tensor, "c h w"], width: int = 1200) -> Image.Image:
    """The image larger by a whole number, about `width` pixels wide, without blurring the pixels."""
    factor = max(round(width / image.shape[-1]), 1)
    array = image.repeat_interleave(factor, 1).repeat_interleave(factor, 2).permute(1, 2, 0).numpy()
    return Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array)


def captioned(
    images: Float[Tensor, "rows columns c h w"],
    levels: tuple[float, float] = (0.0, 1.0),
    rows: Sequence[str] = (),
    cells: Sequence[Sequence[str]] = (),
    title: str = "",
    width: int = 1200,
    gap: int = GAP,
) -> Image.Image:
    """A grid of images with words around it, black on white.

    Args:
        images, levels: see `tile`.
        rows: what is written to the left of each row; none: no margin.
        cells: of each row, what is written above each of its images; a row without words has no space above it.
        title: above all of it.
        width: of the grid, about, in pixels.
        gap: see `tile`.
    """
    small = tile(images, levels, gap=gap)
    grid = enlarge(small, width)
    factor, (num_rows, num_columns) = grid.width // small.shape[-1], images.shape[:2]
    gap = gap * factor
    pitch, step = (grid.width - gap) // num_columns, (grid.height - gap) // num_rows
    letters = letter_size([word for row in cells for word in row], pitch - MARGIN)
    above = [height_of(row, letters) for row in [*cells, *[()] * num_rows][:num_rows]]
    left = max((width_of(row, SIZE) + 2 * MARGIN for row in rows), default=0)
    heading = letter_size([title], left + grid.width - 2 * MARGIN)
    top = height_of([title], heading)
    below = [gap if r and above[r] else 0 for r in range(num_rows)]  # the frame of the row above, which words must not touch
    canvas = Image.new(grid.mode, (left + grid.width, top + sum(above) + sum(below) + grid.height), "white")
    write_words(canvas, title, (canvas.width // 2, top // 2), heading)
    for r in range(num_rows):
        top += below[r]
        for c, word in enumerate(cells[r] if above[r] else ()):
            write_words(canvas, word, (left + gap // 2 + c * pitch + pitch // 2, top + above[r] // 2), letters)
        top += above[r]
        canvas.paste(grid.crop((0, r * step, grid.width, (r + 1) * step + gap)), (left, top))
        write_words(canvas, rows[r] if r < len(rows) else "", (left - MARGIN, top + (step + gap) // 2), SIZE, "r")
        top += step
    return canvas


def write_words(canvas: Image.Image, words: str, place: tuple[int, int], size: int, align: str = "m") -> None:
    """Writes words around a place, or to the left of it."""
    draw = ImageDraw.Draw(canvas)
    draw.multiline_text(place, words, "black", font(size), anchor=f"{align}m", align="right" if align == "r" else "center", spacing=2)


def letter_size(words: Sequence[str], width: int) -> int:
    """The largest size of letters, up to SIZE, in which all of these are at most that wide."""
    sizes = range(SIZE, SMALLEST, -1)
    return next((size for size in sizes if max((width_of(word, size) for word in words), default=0) <= width), SMALLEST)


def width_of(words: str, size: int) -> int:
    """Width of the longest line in pixels."""
    return max(round(font(size).getlength(line)) for line in words.split("\n"))


def height_of(row: Sequence[str], size: int) -> int:
    """Height of the space that a row of words needs, in pixels; 0 for no words."""
    lines = max((word.count("\n") + 1 for word in row if word), default=0)
    return round(1.25 * size * lines) + MARGIN if lines else 0


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans in this size."""
    return ImageFont.truetype(str(FONT), size)
