"""The length of data as a model codes them, beside its bound and beside what general compressors make of them."""

import bz2
import gzip
import io
import lzma
from collections.abc import Iterable
from math import ceil, log, sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from vaelab.applications.compression.codec import Codec
from vaelab.applications.compression.levels import levels_of, smallest
from vaelab.checks import check_at_least, check_choice
from vaelab.evidence import evaluating
from vaelab.metrics.bound import bound
from vaelab.metrics.data import Data, first_as_one
from vaelab.metrics.progress import progress
from vaelab.models import Model


@torch.no_grad()
def code_length(model: Model, data: Data, split: str = "test", num_examples: int = 10_000, batch: int = 16) -> dict[str, Any]:
    """Bits per dimension of examples as a codec of the model writes them, as its bound says, and as gzip, bz2, xz and PNG write them.

    `code_bits_per_dim` is without the random bits that the first z are popped from, which are below all others and are given back by
    decoding; `code_initial_bits` is how many there are. Others are given the levels of x in as few bits as hold one each; PNG is one
    picture of all examples side by side. The examples are decoded again: what is reported is the length of a code that can be read.

    Args:
        model: see `Codec`.
        data: of the run.
        split: "test" or "val".
        num_examples: at most.
        batch: see `Codec`.

    Raises:
        ValueError: if there is no code for the model or the data, or they are decoded to something else.
    """
    check_choice(("test", "val"), split=split)
    check_at_least(1, num_examples=num_examples)
    codec = Codec(model, batch)
    data.setup("test" if split == "test" else "fit")
    x, _ = first_as_one(data.batches(split), num_examples)
    levels = levels_of(x, codec.alphabet)
    coded = codec.encode(levels, watch=lambda parts: progress("coding", parts))
    if not np.array_equal(codec.decode(coded, watch=lambda parts: progress("decoding", parts)), levels):
        raise ValueError("the examples were decoded to something else than what was coded: report this model")
    dims = levels.size
    found = {name: 8 * size / dims for name, size in other_sizes(levels, coded.num_levels).items()}
    return {
        "code_bits_per_dim": coded.net_bits / dims,
        "code_bound_bits_per_dim": minus_elbo(model, x.split(100)) / dims,
        **{f"code_{name}_bits_per_dim": value for name, value in found.items()},
        "code_initial_bits": coded.initial_bits,
        "code_num_examples": len(levels),
    }


@torch.no_grad()
def minus_elbo(model: Model, batches: Iterable[Tensor]) -> float:
    """-ELBO of all examples in bits, from one z of each, as evaluation has it."""
    with evaluating(model):
        return -sum(float(bound(model(x.to(model.device)))["elbo"].double().sum()) for x in batches) / log(2)


def other_sizes(levels: Int[np.ndarray, "n ..."], num_levels: int) -> dict[str, int]:
    """The bytes that general compressors need: of packed bits, where there are two levels, else of the smallest type; PNG of pictures."""
    data = (np.packbits(levels == 1) if num_levels == 2 else levels.astype(smallest(num_levels))).tobytes()
    found = {
        "gzip": len(gzip.compress(data, 9)),
        "bz2": len(bz2.compress(data, 9)),
        "xz": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
    }
    if levels.ndim == 4 and levels.shape[1] in (1, 3) and num_levels <= 256:
        file = io.BytesIO()
        mosaic(levels, num_levels).save(file, "PNG", optimize=True)
        found["png"] = len(file.getvalue())
    return found


def mosaic(levels: Int[np.ndarray, "n c h w"], num_levels: int) -> Image.Image:
    """One picture of all of them, as square as can be."""
    num, channels, height, width = levels.shape
    columns = ceil(sqrt(num * height / width))
    rows = ceil(num / columns)
    filled = np.zeros((rows * columns, channels, height, width), np.uint8)
    filled[:num] = levels
    pixels = (
        filled.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    )
    return (
        Image.fromarray(pixels[..., 0] == 1)
        if num_levels == 2 and channels == 1
        else Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels)
    )
