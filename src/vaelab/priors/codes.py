"""Priors over the codes of a quantiser (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937, section 3.3).

Both are over the codes that the posterior has at that time. They do not own them.
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from vaelab.checks import check_at_least
from vaelab.distributions import Autoregressive, Codebook, Digits, Embedded, UniformIndices
from vaelab.networks.masked_conv import PixelCNN

MOST_CODES = 2**20  # of a prior that gives each code a number of its own


class UniformCodes(nn.Module):
    """p(z) = K^-N for N indices of z, with one of K codes each; where some have another K, the product over them.

    Args:
        posterior: the quantiser.

    Raises:
        ValueError: if it has no codes.
    """

    def __init__(self, posterior: nn.Module) -> None:
        super().__init__()
        self._posterior = (with_codes(posterior),)  # in a tuple: its weights are the posterior's and not the prior's

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> Embedded:
        book, shape = codes(*self._posterior)
        counts = [(prod(part), each.num_codes) for each, part in book.maps(shape).values()]
        return Embedded(UniformIndices(counts, book.like.detach(), shape, validate_args=False), book, validate_args=False)


class AutoregressiveCodes(nn.Module):
    """p(z) = prod_i p(k_i | k_1, ..., k_(i-1)) for the indices k of the codes of z, by a network that looks back only.

    A space of more or fewer than two dimensions is folded into rows along its last. Codes that are sums have their indices, coarse to
    fine, side by side (Lee et al., 2022, https://arxiv.org/abs/2203.01941): the grid is as many times wider. Too many codes for one softmax
    are written with several digits, side by side, too (Luo et al., 2024, https://arxiv.org/abs/2409.04410). Two maps of codes are one row,
    so that p is p(top) p(bottom | top) (Razavi et al., 2019, https://arxiv.org/abs/1906.00446): for `CausalTransformer`, since masked
    convolutions see a few places of a row only.

    Args:
        posterior: the quantiser.
        channels: of the network.
        num_layers: of it.
        network: a factory, network(in_shape, out_shape, channels, num_layers): masked convolutions, or
            `vaelab.networks.CausalTransformer`.
        max_classes: how many classes a softmax has at most: codes of more levels are written with several digits, each of as many levels
            as there is room for.

    Raises:
        ValueError: if the posterior has no codes, or more than a network has numbers for.
    """

    starts: Tensor  # of the codes of each index, or digit, in the embedding
    limits: Tensor  # K of each index, or digit

    def __init__(
        self,
        posterior: nn.Module,
        channels: int = 64,
        num_layers: int = 5,
        network: Callable[..., nn.Module] = PixelCNN,
        max_classes: int = 2**14,
    ) -> None:
        super().__init__()
        check_at_least(2, max_classes=max_classes)
        self._posterior = (with_codes(posterior),)  # in a tuple: its weights are the posterior's and not the prior's
        book, shape = codes(posterior)
        maps = book.maps(shape)
        self.radices = grouped(book.levels, max_classes) if len(maps) == 1 else (book.num_codes,)
        num_classes = max(self.radices)
        if num_classes > MOST_CODES:
            raise ValueError(
                f"{book.num_codes} codes are too many for a prior that gives each a number of its own, which at most {MOST_CODES} can"
                " have: set prior=uniform_codes, or make fewer codes"
            )
        space, digits = shape[: len(shape) - (book.depth is not None)], len(self.radices)
        self.grid = (prod(space[:-1]), prod(space[-1:]) * (book.depth or 1) * digits)
        starts, limits, total = list[Tensor](), list[Tensor](), 0  # an index of another depth or map is of another code
        for each, part in maps.values():
            radices = self.radices if len(maps) == 1 else (each.num_codes,)
            depth, size = (each.depth or 1) * digits, prod(part) * digits
            starts.append(total + max(radices) * torch.arange(depth).repeat(size // depth))
            limits.append(torch.tensor(radices).repeat(size // digits))
            total += depth * max(radices)
        self.register_buffer("starts", torch.cat(starts).reshape(self.grid), persistent=False)
        self.register_buffer("limits", torch.cat(limits).reshape(self.grid), persistent=False)
        self.limited = len(torch.cat(limits).unique()) > 1
        self.embedding = nn.Embedding(total, channels)
        self.network = network((channels, *self.grid), (num_classes, *self.grid), channels, num_layers)

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> Embedded:
        book, shape = codes(*self._posterior)
        if len(self.radices) == 1:
            return Embedded(Autoregressive(self.logits, book.like.detach(), shape, validate_args=False), book, validate_args=False)
        digits = Autoregressive(self.logits, book.like.detach(), (*shape, len(self.radices)), validate_args=False)
        return Embedded(Digits(digits, self.radices, validate_args=False), book, validate_args=False)

    def logits(self, indices: Int[Tensor, "n ..."]) -> Float[Tensor, "n k ..."]:
        """The logits of each index, or digit, given those before it."""
        grid = indices.reshape(len(indices), *self.grid) + self.starts
        logits = self.network(self.embedding(grid).movedim(-1, 1))
        logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        if self.limited:
            codes = torch.arange(logits.shape[1], device=logits.device)
            logits = logits.masked_fill(codes[:, None, None] >= self.limits, -torch.inf)
        return logits.reshape(len(indices), -1, *indices.shape[1:])


def grouped(levels: Sequence[int], most: int) -> tuple[int, ...]:
    """Products of levels that follow one another, none above `most` but where a single level is.

    >>> grouped([8, 5, 5, 5], most=1000), grouped([8, 5, 5, 5], most=100), grouped([512], most=100)
    ((1000,), (40, 25), (512,))
    """
    found = [1]
    for level in levels:
        if found[-1] * level <= most or found[-1] == 1:
            found[-1] *= level
        else:
            found.append(level)
    return tuple(found)


def with_codes(posterior: nn.Module) -> nn.Module:
    """The posterior.

    Raises:
        ValueError: if it has no codes.
    """
    if not isinstance(getattr(posterior, "codes", None), Codebook):
        raise ValueError(
            f"this prior is over the codes of a codebook, but the posterior {type(posterior).__name__} has none: set"
            " posterior=vector_quantized, or prior=standard_normal"
        )
    return posterior


def codes(posterior: nn.Module) -> tuple[Codebook, tuple[int, ...]]:
    """The codebook, and the shape of a grid of indices."""
    book, event_shape = posterior.codes, posterior.event_shape
    assert isinstance(book, Codebook)
    assert isinstance(event_shape, tuple)
    return book, book.index_shape(event_shape[1:])
