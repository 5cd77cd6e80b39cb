"""The use of the codes of a quantiser over a whole split: a batch is too small to show it, and its size would change the numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vaelab.distributions import Quantized
from vaelab.draw import Draw

MOST_CODES = 2**22  # that are counted; of more, there are more codes than places in any split


class CodeCounts:
    """Counts of the codes that were chosen in all draws of a model so far.

    `counts` is (T, K): of K codes for each of T depths, 1 where codes are no sums. None: there were no codes, or too many to count.
    """

    def __init__(self) -> None:
        self.counts: Int[Tensor, "t k"] | None = None

    def add(self, model: nn.Module, arguments: Any, draw: Draw) -> None:
        """Counts the codes of a draw; a forward hook."""
        found = [latent.q for latent in draw.latents if isinstance(latent.q, Quantized)]
        if len(found) == 1 and found[0].codebook.num_codes <= MOST_CODES:
            counts = counts_of(found[0])
            self.counts = counts if self.counts is None else self.counts + counts

    def report(self) -> dict[str, float]:
        """`code_usage` and `code_perplexity`; nothing if no code was counted."""
        return {} if self.counts is None else {"code_usage": usage(self.counts), "code_perplexity": perplexity(self.counts)}


@contextmanager
def counting_codes(model: nn.Module) -> Iterator[CodeCounts]:
    """Inside, what the model draws is counted."""
    counts = CodeCounts()
    with model.register_forward_hook(counts.add):
        yield counts


def counts_of(q: Quantized) -> Int[Tensor, "t k"]:
    """Counts of the codes that q chooses, at all places of all examples."""
    depth, num_codes = q.codebook.depth or 1, q.codebook.num_codes
    flat = q.indices.reshape(-1, depth) + num_codes * torch.arange(depth, device=q.indices.device)
    return torch.bincount(flat.flatten(), minlength=depth * num_codes).reshape(depth, num_codes)


def usage(counts: Int[Tensor, "t k"]) -> float:
    """The share of the codes that were chosen at least once."""
    return (counts > 0).double().mean().item()


def perplexity(counts: Int[Tensor, "t k"]) -> float:
    """exp H of how often each code is chosen: K if all are alike, 1 if one is alone. Of several depths, with the mean of their H."""
    shares: Float[Tensor, "t k"] = counts.double() / counts.sum(1, keepdim=True)
    return (-torch.xlogy(shares, shares)).sum(1).mean().exp().item()
