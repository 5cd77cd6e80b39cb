"""The ELBO and its two parts, for each example."""

from jaxtyping import Float
from torch import Tensor

from vaelab.divergences import kl
from vaelab.draw import Draw, Latent


def rate(latent: Latent) -> Float[Tensor, "b"]:
    """KL(q || p) of each example in nats: in closed form where there is one, else the mean of log q - log p over the samples."""
    try:
        return kl(latent, "analytic").mean(0)
    except ValueError:
        return kl(latent, "k1").mean(0)


def bound(draw: Draw) -> dict[str, Float[Tensor, "b"]]:
    """elbo = -(distortion + rate), distortion = -E_q[log p(x | z)], rate = KL(q || p), each (B,), in nats."""
    distortion = -draw.log_px.mean(0)
    total = distortion.new_zeros(distortion.shape)
    for latent in draw.latents:
        total = total + rate(latent)
    return {"elbo": -(distortion + total), "distortion": distortion, "rate": total}
