"""The use of the codes of a quantiser over a whole split: a batch is too small to show it, and its size would change the numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vaelab.distributions import Quantized
from vaelab.draw import Draw
from vaelab.metrics.data import Batches
from vaelab.metrics.latent.encoding import posterior
from vaelab.models import Model

MOST_CODES = 2**22  # that are counted; of more, there are more codes than places in any split


class CodeCounts:
    """Counts of the codes that were chosen so far.

    `counts` has a tensor (T, K) for each map of codes, by name: of K codes for each of T depths, 1 where codes are no sums. It is empty if
    there are no codes, or too many to count.
    """

    def __init__(self) -> None:
        self.counts = dict[str, Int[Tensor, "t k"]]()

    def add(self, model: nn.Module, arguments: Any, draw: Draw) -> None:
        """Counts the codes of a draw, those of several latent variables by their place in it: latent_0, ...; a forward hook."""
        found = {f"latent_{place}": latent.q for place, latent in enumerate(draw.latents) if isinstance(latent.q, Quantized)}
        for name, q in found.items():
            self.take(q, name if len(found) > 1 else "")

    def take(self, q: Quantized, latent: str = "") -> None:
        """Counts the codes that q chooses."""
        for name, counts in counts_of(q).items():
            full = "_".join(part for part in (latent, name) if part)
            self.counts[full] = self.counts[full] + counts if full in self.counts else counts

    def report(self) -> dict[str, float]:
        """`code_usage` and `code_perplexity`, also of each map of several; nothing if no code was counted."""
        named = {f"_{name}": [counts] for name, counts in self.counts.items() if name}
        groups = {"": list(self.counts.values()), **named} if self.counts else {}
        usages = {f"code_usage{name}": usage(*group) for name, group in groups.items()}
        return usages | {f"code_perplexity{name}": perplexity(*group) for name, group in groups.items()}


def code_usage(model: Model, batches: Batches) -> dict[str, float]:
    """The use of the codes of q(z | x) over these examples: `CodeCounts.report`."""
    counts = CodeCounts()
    for x, y in batches:
        q = posterior(model, x, y)
        if not isinstance(q, Quantized):
            break
        counts.take(q)
    return counts.report()


@contextmanager
def counting_codes(model: nn.Module) -> Iterator[CodeCounts]:
    """Inside, what the model draws is counted."""
    counts = CodeCounts()
    with model.register_forward_hook(counts.add):
        yield counts


def counts_of(q: Quantized) -> dict[str, Int[Tensor, "_ _"]]:
    """Counts of the codes that q chooses, at all places of all examples, by the names of its maps; without maps of too many codes."""
    found, grids = dict[str, Tensor](), q.codebook.split(q.indices)
    for name, (book, _) in q.codebook.maps(q.indices.shape[len(q.batch_shape) :]).items():
        depth, num_codes = book.depth or 1, book.num_codes
        if num_codes <= MOST_CODES:
            flat = grids[name].reshape(-1, depth) + num_codes * torch.arange(depth, device=q.indices.device)
            found[name] = torch.bincount(flat.flatten(), minlength=depth * num_codes).reshape(depth, num_codes)
    return found


def usage(*counts: Int[Tensor, "_ _"]) -> float:
    """The share of the codes that were chosen at least once."""
    return torch.cat([(part > 0).flatten() for part in counts]).double().mean().item()


def perplexity(*counts: Int[Tensor, "_ _"]) -> float:
    """exp H of how often each code is chosen: K if all are alike, 1 if one is alone; of several depths or maps, by the mean H."""
    entropies = []
    for part in counts:
        shares: Float[Tensor, "_ _"] = part.double() / part.sum(1, keepdim=True)
        entropies.append(-torch.xlogy(shares, shares).sum(1))
    return torch.cat(entropies).mean().exp().item()
