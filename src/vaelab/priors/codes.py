"""Priors over the codes of a VQ-VAE (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937, section 3.3).

Both are over the codebook that the posterior has at that time. They do not own it.
"""

from math import prod

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.distributions import Categorical, Independent

from vaelab.distributions import Autoregressive, Embedded
from vaelab.networks.masked_conv import PixelCNN


class UniformCodes(nn.Module):
    """p(z) = K^-N for N places of z, with one of K codes each.

    Args:
        posterior: the vector-quantised posterior.

    Raises:
        ValueError: if it has no codebook.
    """

    def __init__(self, posterior: nn.Module) -> None:
        super().__init__()
        self._posterior = (with_codebook(posterior),)  # in a tuple: its weights are the posterior's and not the prior's

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> Embedded:
        codebook, space = codes(*self._posterior)
        uniform = Categorical(logits=codebook.new_zeros(*space, len(codebook)), validate_args=False)
        return Embedded(Independent(uniform, len(space), validate_args=False), codebook, validate_args=False)


class AutoregressiveCodes(nn.Module):
    """p(z) = prod_i p(k_i | k_1, ..., k_(i-1)) for the indices k of the codes of z, by masked convolutions over the grid of them.

    A space of more or fewer than two dimensions is folded into rows along its last.

    Args:
        posterior: the vector-quantised posterior.
        channels: of the network.
        num_layers: of masked convolutions.

    Raises:
        ValueError: if the posterior has no codebook.
    """

    def __init__(self, posterior: nn.Module, channels: int = 64, num_layers: int = 5) -> None:
        super().__init__()
        self._posterior = (with_codebook(posterior),)  # in a tuple: its weights are the posterior's and not the prior's
        codebook, space = codes(posterior)
        self.grid = (prod(space[:-1]), prod(space[-1:]))
        self.embedding = nn.Embedding(len(codebook), channels)
        self.network = PixelCNN((channels, *self.grid), (len(codebook), *self.grid), channels, num_layers)

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> Embedded:
        codebook, space = codes(*self._posterior)
        return Embedded(Autoregressive(self.logits, codebook, space, validate_args=False), codebook, validate_args=False)

    def logits(self, indices: Int[Tensor, "n ..."]) -> Float[Tensor, "n k ..."]:
        """The logits of each index given those before it."""
        embedded = self.embedding(indices.reshape(len(indices), *self.grid)).movedim(-1, 1)
        logits = self.network(embedded).reshape(len(indices), -1, *indices.shape[1:])
        return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def with_codebook(posterior: nn.Module) -> nn.Module:
    """The posterior.

    Raises:
        ValueError: if it has no codebook.
    """
    if not isinstance(getattr(posterior, "codebook", None), Tensor):
        raise ValueError(
            f"this prior is over the codes of a codebook, but the posterior {type(posterior).__name__} has none: set"
            " posterior=vector_quantized, or prior=standard_normal"
        )
    return posterior


def codes(posterior: nn.Module) -> tuple[Float[Tensor, "k d ..."], tuple[int, ...]]:
    """The codebook, with as many dimensions as z and one more, and the space that codes fill."""
    codebook, event_shape = posterior.codebook, posterior.event_shape
    assert isinstance(codebook, Tensor)
    assert isinstance(event_shape, tuple)
    return codebook.reshape(*codebook.shape, *[1] * (len(event_shape) - 1)), event_shape[1:]
