"""Codebooks: finite sets of vectors, and the bijection between them and their indices.

A code is a vector of D numbers. Latent variables z of shape (*batch, D, *space) have one code at each place of their space; which codes
they are is a grid of indices, (*batch, *space), or (*batch, *space, depth) where a code is a sum of several, or a row of indices, those of
one map of codes after those of another.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float, Int
from torch import Tensor


@torch.no_grad()
def nearest_codes(vectors: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"], max_numbers: int = 2**24) -> Int[Tensor, "n"]:
    """argmin_k |v - e_k|^2 = argmin_k (|e_k|^2 / 2 - v e_k), for max_numbers of the n k products at a time."""
    with torch.autocast(vectors.device.type, enabled=False):  # half precision would choose another code
        half_norms = codebook.square().sum(-1) / 2
        exporting = torch.compiler.is_exporting()  # how many chunks there are would fix the size of the batch
        chunks = [vectors] if exporting else vectors.split(max(max_numbers // len(codebook), 1))
        return torch.cat([torch.addmm(half_norms, chunk, codebook.T, alpha=-1).argmin(-1) for chunk in chunks])


def digits_of(indices: Int[Tensor, "..."], radices: Sequence[int]) -> Int[Tensor, "... d"]:
    """The digits l_d of whole numbers sum_d l_d prod_(c < d) L_c, the lowest first, for radices L_d."""
    digits = []
    for radix in radices:
        digits.append(indices % radix)
        indices = indices // radix
    return torch.stack(digits, -1)


def number_of(digits: Int[Tensor, "... d"], radices: Sequence[int]) -> Int[Tensor, "..."]:
    """The whole numbers that have these digits."""
    number = torch.zeros_like(digits[..., 0])
    for digit, radix in zip(reversed(digits.unbind(-1)), reversed(radices), strict=True):
        number = number * radix + digit
    return number


class Codebook(ABC):
    """A bijection between z that are made of codes, (*batch, D, *space), and grids of indices, (*batch, *index_shape)."""

    num_codes: int  # K: the indices are below it
    levels: tuple[int, ...]  # radices of the digits that an index may be written with, whose product is K; of one map of codes
    dim: int  # D
    depth: int | None = None  # how many indices a place has, side by side; None: one, without an axis of its own
    like: Tensor  # with the dtype and on the device of the codes

    @abstractmethod
    def embed(self, indices: Int[Tensor, "..."], space_ndim: int) -> Float[Tensor, "..."]:
        """z of these indices."""

    @abstractmethod
    def indices_of(self, z: Float[Tensor, "..."], space_ndim: int) -> Int[Tensor, "..."]:
        """The indices of the codes nearest to z at each place."""

    def index_shape(self, space: Sequence[int]) -> tuple[int, ...]:
        """The shape of the grid of indices of codes that fill a space."""
        return (*space, *([] if self.depth is None else [self.depth]))

    def event_shape(self, index_shape: Sequence[int]) -> tuple[int, ...]:
        """(D, *space) of a grid of indices."""
        return (self.dim, *(index_shape if self.depth is None else index_shape[:-1]))

    def maps(self, index_shape: Sequence[int]) -> "dict[str, tuple[Codebook, tuple[int, ...]]]":
        """The codebooks of several maps of codes, by name, with the shapes of their grids; a codebook of one map has the name ""."""
        return {"": (self, tuple(index_shape))}

    def split(self, indices: Int[Tensor, "..."]) -> dict[str, Int[Tensor, "..."]]:
        """The grids of these maps."""
        return {"": indices}

    def __str__(self) -> str:
        return f"the {self.num_codes} codes of a codebook" if self.depth is None else f"sums of {self.depth} of {self.num_codes} codes each"


class VectorCodebook(Codebook):
    """K vectors e_k of D numbers: each place of z has one of them, or a sum."""

    @abstractmethod
    def vectors(self, indices: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
        """The codes with these indices."""

    @abstractmethod
    def nearest(self, vectors: Float[Tensor, "... d"]) -> Int[Tensor, "..."]:
        """The indices of the codes that are nearest to these vectors."""

    def embed(self, indices: Int[Tensor, "..."], space_ndim: int) -> Float[Tensor, "..."]:
        return self.vectors(indices).movedim(-1, -1 - space_ndim)

    def indices_of(self, z: Float[Tensor, "..."], space_ndim: int) -> Int[Tensor, "..."]:
        return self.nearest(z.detach().movedim(-1 - space_ndim, -1))


class Table(VectorCodebook):
    """Vectors that may lie anywhere (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937).

    Args:
        codes: (K, D).
    """

    def __init__(self, codes: Float[Tensor, "k d"]) -> None:
        self.codes = self.like = codes
        self.num_codes, self.dim = codes.shape
        self.levels = (self.num_codes,)

    def vectors(self, indices: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
        return torch.nn.functional.embedding(indices, self.codes)

    def nearest(self, vectors: Float[Tensor, "... d"]) -> Int[Tensor, "..."]:
        return nearest_codes(vectors.reshape(-1, self.dim), self.codes).reshape(vectors.shape[:-1])


class Lattice(VectorCodebook):
    """All vectors whose number d is one of L_d evenly spaced ones, (l - centre_d) step_d for l = 0, ..., L_d - 1: K = prod_d L_d.

    The index is sum_d l_d prod_(c < d) L_c. There is no table: K may be larger than memory.

    Args:
        levels: L_d.
        centre, step: (D,).
    """

    def __init__(self, levels: Sequence[int], centre: Float[Tensor, "d"], step: Float[Tensor, "d"]) -> None:
        self.levels, self.centre, self.step = tuple(levels), centre, step
        self.num_codes, self.dim, self.like = prod(self.levels), len(self.levels), step

    def vectors(self, indices: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
        return (digits_of(indices, self.levels) - self.centre) * self.step

    def nearest(self, vectors: Float[Tensor, "... d"]) -> Int[Tensor, "..."]:
        rounded = torch.ceil(vectors / self.step + (self.centre - 0.5))  # half-way values go down, so that a bit is the sign of a number
        digits = [digit.clamp(0, level - 1) for digit, level in zip(rounded.long().unbind(-1), self.levels, strict=True)]
        return number_of(torch.stack(digits, -1), self.levels)


class Sums(VectorCodebook):
    """sum_i scale_i e^i of one code of each of several codebooks; the indices are chosen one after the other, each for what remains.

    A vector may be the sum of several codes, so that the indices of z are known where z was quantised, and searched here: greedily.

    Args:
        books: with K codes each.
        scales: one number, or one for each of D numbers, for each book.
    """

    def __init__(self, books: Sequence[Codebook], scales: Sequence[Tensor | float]) -> None:
        self.books, self.scales, self.levels = tuple(books), tuple(scales), books[0].levels
        self.num_codes, self.dim, self.depth, self.like = books[0].num_codes, books[0].dim, len(books), books[0].like

    def vectors(self, indices: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
        parts = zip(self.books, self.scales, indices.unbind(-1), strict=True)
        return sum((book.embed(index, 0) * scale for book, scale, index in parts), torch.zeros_like(self.like.flatten()[0]))

    def nearest(self, vectors: Float[Tensor, "... d"]) -> Int[Tensor, "..."]:
        indices = []
        for book, scale in zip(self.books, self.scales, strict=True):
            indices.append(book.indices_of(vectors / scale, 0))
            vectors = vectors - book.embed(indices[-1], 0) * scale
        return torch.stack(indices, -1)


class TwoMaps(Codebook):
    """Codes of two maps as one z: channels of the top, each of whose codes stands at 2 x 2 places, and then those of the bottom.

    The grid of indices is a row: those of the top, then those of the bottom, each in row-major order.

    Args:
        top, bottom: codebooks of the two.
        space: of the bottom; that of the top has half of each side, rounded up.
    """

    def __init__(self, top: Codebook, bottom: Codebook, space: Sequence[int]) -> None:
        self.top, self.bottom, self.space = top, bottom, tuple(space)
        self.num_codes, self.dim = max(top.num_codes, bottom.num_codes), top.dim + bottom.dim
        self.like = top.like if top.like.requires_grad else bottom.like
        self.shapes = top.index_shape(halved(space)), bottom.index_shape(space)

    def index_shape(self, space: Sequence[int]) -> tuple[int, ...]:
        return (sum(prod(shape) for shape in self.shapes),)

    def event_shape(self, index_shape: Sequence[int]) -> tuple[int, ...]:
        return (self.dim, *self.space)

    def maps(self, index_shape: Sequence[int]) -> dict[str, tuple[Codebook, tuple[int, ...]]]:
        return {"top": (self.top, self.shapes[0]), "bottom": (self.bottom, self.shapes[1])}

    def split(self, indices: Int[Tensor, "... n"]) -> dict[str, Int[Tensor, "..."]]:
        parts = zip(("top", "bottom"), indices.split([prod(shape) for shape in self.shapes], -1), self.shapes, strict=True)
        return {name: part.reshape((*part.shape[:-1], *shape)) for name, part, shape in parts}

    def join(self, top: Int[Tensor, "..."], bottom: Int[Tensor, "..."]) -> Int[Tensor, "... n"]:
        """The row of indices of the two grids."""
        parts = zip((top, bottom), self.shapes, strict=True)
        return torch.cat([part.reshape(*part.shape[: part.ndim - len(shape)], prod(shape)) for part, shape in parts], -1)

    def embed(self, indices: Int[Tensor, "... n"], space_ndim: int) -> Float[Tensor, "..."]:
        found = self.split(indices)
        return self.stacked(self.top.embed(found["top"], space_ndim), self.bottom.embed(found["bottom"], space_ndim))

    def indices_of(self, z: Float[Tensor, "..."], space_ndim: int) -> Int[Tensor, "... n"]:
        top, bottom = z.split([self.top.dim, self.bottom.dim], -1 - space_ndim)
        for axis in range(-space_ndim, 0):
            top = top.index_select(axis, torch.arange(0, top.shape[axis], 2, device=z.device))
        return self.join(self.top.indices_of(top, space_ndim), self.bottom.indices_of(bottom, space_ndim))

    def stacked(self, top: Float[Tensor, "..."], bottom: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """z of the two maps."""
        for axis, size in zip(range(-len(self.space), 0), self.space, strict=True):
            top = top.repeat_interleave(2, axis).narrow(axis, 0, size)
        return torch.cat([top, bottom], -1 - len(self.space))

    def __str__(self) -> str:
        return f"{self.top}, above {self.bottom}"


def halved(space: Sequence[int]) -> tuple[int, ...]:
    """Half of each side, rounded up."""
    return tuple(-(-side // 2) for side in space)
