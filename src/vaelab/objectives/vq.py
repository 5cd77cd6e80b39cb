"""The loss of the VQ-VAE (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937, eq. 3), and of other quantisers."""

from torch import Tensor

from vaelab.checks import check_at_least
from vaelab.distributions import Quantized
from vaelab.draw import Draw
from vaelab.objectives.base import Objective


class VQ(Objective):
    """loss = D + R + |sg(z_e) - z_q|^2 + beta |z_e - sg(z_q)|^2 + lambda entropy, where sg stops the gradient; squares are summed.

    The rate R = -log p(z_q) is N log K under a uniform prior, and what trains a prior that learns. The first square is of the codebook,
    the second, the commitment, of the encoder, the entropy of codes of bits (see `vaelab.posteriors.LookupFree`). Each is there if the
    quantiser has it: codes that follow running averages need no first square, and levels that do not move (`FSQ`) none of the three.

    Args:
        commitment: beta, 0.25 in the paper.
        entropy: lambda, 0.1 in that of lookup-free quantisation (Yu et al., 2024, https://arxiv.org/abs/2310.05737).

    Raises:
        ValueError: if a weight is negative, or the posterior is not quantised.
    """

    trains_codes = True

    def __init__(self, commitment: float = 0.25, entropy: float = 0.1) -> None:
        super().__init__()
        check_at_least(0, commitment=commitment, entropy=entropy)
        self.commitment, self.entropy = commitment, entropy

    @property
    def not_a_bound(self) -> str:
        return f"the distance to the codes is added (commitment={self.commitment:g})"

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        latent, q = draw.latent, draw.latent.q
        if not isinstance(q, Quantized):
            raise ValueError(
                "objective=vq needs codes of a codebook: set posterior=vector_quantized prior=uniform_codes, or objective=elbo"
            )
        distortion, rate = -draw.log_px.mean(), (latent.log_q - latent.log_p).mean()
        terms = {"elbo": -(distortion + rate).detach(), "distortion": distortion.detach(), "rate": rate.detach()}
        weights = {"codebook": 1.0, "commitment": self.commitment, "entropy": self.entropy}
        loss = distortion + rate
        for name, value in q.losses().items():
            loss, terms[name] = loss + weights[name] * value, value.detach()
        return {"loss": loss, **terms}
