"""Updates of a codebook, whose codes follow the vectors that they stand for. Several processes share those of all batches."""

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.distributions import nearest_codes
from vaelab.posteriors.k_means import k_means


@torch.no_grad()
def follow(codebook: Float[Tensor, "k d"], counts: Float[Tensor, "k"], vectors: Float[Tensor, "n d"], decay: float, move: bool) -> None:
    """Counts how often each code is used, N_k <- gamma N_k + (1 - gamma) n_k, and with `move` moves each to the mean m_k / N_k.

    m_k <- gamma m_k + (1 - gamma) sum of the n_k vectors nearest to e_k (van den Oord et al., 2017, appendix A.1). Vectors that are not
    finite are left out: a batch whose update is skipped for them must not stay in the codes.
    """
    finite = vectors.isfinite().all(-1, keepdim=True)
    vectors = torch.where(finite, vectors, 0.0)
    use = codebook.new_zeros(len(codebook), vectors.shape[1] + 1)
    use.index_add_(0, nearest_codes(vectors, codebook), torch.cat([vectors, finite.to(vectors)], 1))
    if several_processes():
        torch.distributed.all_reduce(use)
    total, count = use[:, :-1], use[:, -1]
    counts.lerp_(count, 1 - decay)
    if move:  # m_k / N_k, written as a step from e_k, so that a code without vectors stays exactly where it is
        step = (1 - decay) * (total - count[:, None] * codebook)
        codebook += step / counts[:, None].clamp(min=torch.finfo(step.dtype).tiny)


@torch.no_grad()
def renew(
    codebook: Float[Tensor, "k d"], counts: Float[Tensor, "k"], vectors: Float[Tensor, "n d"], below: float | None, start: str
) -> None:
    """Puts vectors in the place of codes that are used less than a share of the mean, and of all codes when none was ever used.

    Args:
        codebook, counts: e_k and N_k; those that are replaced get the mean of the counts.
        vectors: of the first process.
        below: the share; None: no code is replaced once training has begun.
        start: "k_means", of the vectors, is what training begins with; else it is vectors.
    """
    size, new = len(codebook), ~counts.any()
    if start == "k_means" and bool(new):
        replacements = k_means(vectors, size)
    else:
        replacements = vectors[torch.randperm(len(vectors), device=vectors.device).repeat(-(-size // len(vectors)))[:size]]
    replacements = replacements.to(codebook.dtype)
    if several_processes():
        torch.distributed.broadcast(replacements, src=0)
    dead = new.expand(size) if below is None else counts <= below * counts.mean()
    codebook.copy_(torch.where(dead[:, None] & replacements.isfinite().all(-1, keepdim=True), replacements, codebook))
    counts.copy_(torch.where(dead, counts.mean(), counts))


def several_processes() -> bool:
    """True if others train the same model."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
