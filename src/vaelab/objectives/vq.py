"""The loss of the VQ-VAE (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937, eq. 3)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vaelab.checks import check_at_least
from vaelab.distributions import NearestCode
from vaelab.draw import Draw
from vaelab.objectives.base import Objective


class VQ(Objective):
    """loss = D + R + |sg(z_e) - z_q|^2 + beta |z_e - sg(z_q)|^2, where sg stops the gradient; squares are summed over the event.

    The rate R = -log p(z_q) is N log K under a uniform prior, and what trains a prior that learns. The second square, the
    commitment, is of the encoder. The first is of the codebook, and left out where that follows running averages.

    Args:
        commitment: beta, the paper's 0.25.

    Raises:
        ValueError: if it is negative, or the posterior is not vector-quantised.
    """

    trains_codes = True

    def __init__(self, commitment: float = 0.25) -> None:
        super().__init__()
        check_at_least(0, commitment=commitment)
        self.commitment = commitment

    @property
    def not_a_bound(self) -> str:
        return f"the distance to the codes is added (commitment={self.commitment:g})"

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        latent, q = draw.latent, draw.latent.q
        if not isinstance(q, NearestCode):
            raise ValueError(
                "objective=vq needs codes of a codebook: set posterior=vector_quantized prior=uniform_codes, or objective=elbo"
            )
        distortion, rate = -draw.log_px.mean(), (latent.log_q - latent.log_p).mean()
        commitment = squared_distance(q.z_e, q.z_q.detach())
        loss = distortion + rate + self.commitment * commitment
        terms = {"elbo": -(distortion + rate).detach(), "distortion": distortion.detach(), "rate": rate.detach()}
        terms |= {"commitment": commitment.detach(), "perplexity": perplexity(q.indices, q.num_codes).to(rate)}
        if q.codebook.requires_grad:
            codebook = squared_distance(q.z_e.detach(), q.z_q)
            loss, terms["codebook"] = loss + codebook, codebook.detach()
        return {"loss": loss, **terms}


def squared_distance(z: Float[Tensor, "b ..."], other: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """|z - z'|^2, summed over the event and averaged over the batch."""
    return (z - other).square().flatten(1).sum(1).mean()


def perplexity(indices: Int[Tensor, "..."], num_codes: int) -> Float[Tensor, ""]:
    """exp H of how often each code is used, by all processes together: K if all are used alike, 1 if one is used alone."""
    flat = indices.flatten()
    counts = torch.zeros(num_codes, device=flat.device).index_add_(0, flat, torch.ones_like(flat, dtype=torch.get_default_dtype()))
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(counts)
    return torch.distributions.Categorical(probs=counts, validate_args=False).entropy().exp()
