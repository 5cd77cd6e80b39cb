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
    """p(z) = K^-N for N indices of z, with one of K codes each.

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
        return Embedded(UniformIndices(book.num_codes, book.like.detach(), shape, validate_args=False), book, validate_args=False)


class AutoregressiveCodes(nn.Module):
    """p(z) = prod_i p(k_i | k_1, ..., k_(i-1)) for the indices k of the codes of z, by a network that looks back only.

    A space of more or fewer than two dimensions is folded into rows along its last. Codes that are sums have their indices, coarse to
    fine, side by side (Lee et al., 2022, https://arxiv.org/abs/2203.01941): the grid is as many times wider. So do the digits of an index
    that is written with several, as where bits or levels make too many codes for one softmax (Luo et al., 2024,
    https://arxiv.org/abs/2409.04410).

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
        self.radices = grouped(book.levels, max_classes)
        num_classes = max(self.radices)
        if num_classes > MOST_CODES:
            raise ValueError(
                f"{book.num_codes} codes are too many for a prior that gives each a number of its own, which at most {MOST_CODES} can"
                " have: set prior=uniform_codes, or make fewer codes"
            )
        self.depth = (book.depth or 1) * len(self.radices)
        space = shape[: len(shape) - (book.depth is not None)]
        self.grid = (prod(space[:-1]), prod(space[-1:]) * self.depth)
        self.embedding = nn.Embedding(self.depth * num_classes, channels)
        self.network = network((channels, *self.grid), (num_classes, *self.grid), channels, num_layers)

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> Embedded:
        book, shape = codes(*self._posterior)
        if len(self.radices) == 1:
            return Embedded(Autoregressive(self.logits, book.like.detach(), shape, validate_args=False), book, validate_args=False)
        digits = Autoregressive(self.logits, book.like.detach(), (*shape, len(self.radices)), validate_args=False)
        return Embedded(Digits(digits, self.radices, validate_args=False), book, validate_args=False)

    def logits(self, indices: Int[Tensor, "n ..."]) -> Float[Tensor, "n k ..."]:
        """The logits of each index, or digit, given those before it."""
        grid = indices.reshape(len(indices), *self.grid)
        column = torch.arange(self.grid[1], device=grid.device)
        if self.depth > 1:  # an index of another depth is of another code
            grid = grid + self.embedding.num_embeddings // self.depth * (column % self.depth)
        logits = self.network(self.embedding(grid).movedim(-1, 1))
        if len(set(self.radices)) > 1:  # a digit with fewer classes than others
            radix = torch.tensor(self.radices, device=grid.device)[column % len(self.radices)]
            logits = logits.masked_fill(torch.arange(logits.shape[1], device=grid.device)[:, None, None] >= radix, -torch.inf)
        logits = logits.reshape(len(indices), -1, *indices.shape[1:])
        return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


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
