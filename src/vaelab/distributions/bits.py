"""Entropies of codes that are made of independent bits."""

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.collectives import all_gather


def entropy_of_codes(logits: Float[Tensor, "n d"], exact: bool) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """E[H(p(k | z))] and H(E[p(k | z)]) in nats, with the means over n places of all processes, of p(k | z) = prod_d p(bit d of k | z).

    The first is the sum over bits for any p. The second is over all 2^D codes with `exact`, and else the sum over bits of the entropy of
    each mean, which is never smaller (Zhao et al., 2024, https://arxiv.org/abs/2406.07548, section 3.2).

    Args:
        logits: log p(bit d = 1) - log p(bit d = 0).
        exact: needs memory for n 2^(D / 2) + 2^D numbers.
    """
    logits = all_gather(logits)
    ones, zeros = logits.sigmoid(), (-logits).sigmoid()
    each = -(ones * torch.nn.functional.logsigmoid(logits) + zeros * torch.nn.functional.logsigmoid(-logits))
    if not exact:
        return each.sum(-1).mean(), entropy(ones.mean(0)) + entropy(zeros.mean(0))
    halves = [products(ones[:, part], zeros[:, part]) for part in (slice(0, logits.shape[1] // 2), slice(logits.shape[1] // 2, None))]
    with torch.autocast(logits.device.type, enabled=False):  # probabilities never leave float32
        mean = halves[1].T @ halves[0] / len(logits)  # E[p] of all codes: of those of one half of the bits times those of the other
    return each.sum(-1).mean(), entropy(mean)


def entropy(p: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """-sum p log p; a p of 0 adds nothing, and has a finite gradient."""
    return -(p * p.clamp(min=torch.finfo(p.dtype).tiny).log()).sum()


def products(ones: Float[Tensor, "n d"], zeros: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
    """The probabilities of all 2^D codes; bit d of a code weighs 2^d in its number."""
    joint = ones.new_ones(len(ones), 1)
    for one, zero in zip(ones.unbind(1), zeros.unbind(1), strict=True):
        joint = torch.cat([joint * zero[:, None], joint * one[:, None]], 1)
    return joint
