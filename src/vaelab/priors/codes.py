"""Priors over the codes of a quantiser (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937, section 3.3).

Both are over the codes that the posterior has at that time. They do not own them.
"""

from collections.abc import Callable
from math import prod

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from vaelab.distributions import Autoregressive, Codebook, Embedded, UniformIndices
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
    fine, side by side (Lee et al., 2022, https://arxiv.org/abs/2203.01941): the grid is as many times wider. Two maps of codes are one row,
    so that p is p(top) p(bottom | top) (Razavi et al., 2019, https://arxiv.org/abs/1906.00446): for `CausalTransformer`, since masked
    convolutions see a few places of a row only.

    Args:
        posterior: the quantiser.
        channels: of the network.
        num_layers: of it.
        network: a factory, network(in_shape, out_shape, channels, num_layers): masked convolutions, or
            `vaelab.networks.CausalTransformer`.

    Raises:
        ValueError: if the posterior has no codes, or more than a network has numbers for.
    """

    starts: Tensor  # of the codes of each index in the embedding
    limits: Tensor  # K of each index

    def __init__(self, posterior: nn.Module, channels: int = 64, num_layers: int = 5, network: Callable[..., nn.Module] = PixelCNN) -> None:
        super().__init__()
        self._posterior = (with_codes(posterior),)  # in a tuple: its weights are the posterior's and not the prior's
        book, shape = codes(posterior)
        if book.num_codes > MOST_CODES:
            raise ValueError(
                f"{book.num_codes} codes are too many for a prior that gives each a number of its own, which at most {MOST_CODES} can"
                " have: set prior=uniform_codes, or make fewer codes"
            )
        space = shape[: len(shape) - (book.depth is not None)]
        self.grid = (prod(space[:-1]), prod(space[-1:]) * (book.depth or 1))
        starts, limits, total = list[Tensor](), list[Tensor](), 0  # an index of another depth or map is of another code
        for each, part in book.maps(shape).values():
            depth, size = each.depth or 1, prod(part)
            starts.append(total + each.num_codes * torch.arange(depth).repeat(size // depth))
            limits.append(torch.full((size,), each.num_codes))
            total += depth * each.num_codes
        self.register_buffer("starts", torch.cat(starts).reshape(self.grid), persistent=False)
        self.register_buffer("limits", torch.cat(limits).reshape(self.grid), persistent=False)
        self.limited = len({each.num_codes for each, _ in book.maps(shape).values()}) > 1
        self.embedding = nn.Embedding(total, channels)
        self.network = network((channels, *self.grid), (book.num_codes, *self.grid), channels, num_layers)

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> Embedded:
        book, shape = codes(*self._posterior)
        return Embedded(Autoregressive(self.logits, book.like.detach(), shape, validate_args=False), book, validate_args=False)

    def logits(self, indices: Int[Tensor, "n ..."]) -> Float[Tensor, "n k ..."]:
        """The logits of each index given those before it."""
        grid = indices.reshape(len(indices), *self.grid) + self.starts
        logits = self.network(self.embedding(grid).movedim(-1, 1))
        logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        if self.limited:
            codes = torch.arange(logits.shape[1], device=logits.device)
            logits = logits.masked_fill(codes[:, None, None] >= self.limits, -torch.inf)
        return logits.reshape(len(indices), -1, *indices.shape[1:])


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
