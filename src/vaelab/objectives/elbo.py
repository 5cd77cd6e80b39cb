"""The evidence lower bound, and what its two terms can be weighted with.

log p(x) >= ELBO = E_q[log p(x | z)] - KL(q(z | x) || p(z)) = -(distortion + rate)   (Kingma & Welling, 2014)

The names are those of Alemi et al. (2018, https://arxiv.org/abs/1711.00464): distortion D = -E_q[log p(x | z)], rate R = KL.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.checks import check_at_least, check_choice, check_whole
from vaelab.collectives import all_mean
from vaelab.distributions import constant
from vaelab.divergences import kl, kl_per_dimension, mean_rate
from vaelab.draw import Draw, Latent
from vaelab.objectives.base import Objective, check_kl
from vaelab.schedules import Schedule, at


class ELBO(Objective):
    """loss = D + beta R; with a capacity, D + beta |R - C|; with free bits, D + beta sum_j max(lambda, R_j).

    >>> terms = ELBO(beta=4.0)(model(x), step=0)
    >>> bool(terms["loss"] == terms["distortion"] + 4 * terms["rate"])
    True

    The rate that a capacity or free bits are compared with is the mean over the minibatch, over that of all processes if there are several.

    Args:
        beta: 1 is the ELBO; another number, the beta-VAE (Higgins et al., 2017); a schedule, KL annealing (Bowman et al., 2016,
            https://arxiv.org/abs/1511.06349).
        kl: "analytic", or a Monte-Carlo estimator "k1", "k2", "k3"; see `vaelab.divergences`. The terms that training logs are this
            estimator's; those of validation are exact wherever they can be.
        num_samples: samples of z for each example.
        capacity: the rate C in nats, a number or a schedule, that the KL is held to (Burgess et al., 2018,
            https://arxiv.org/abs/1804.03599, where beta is called gamma).
        free_bits: lambda, in nats: a dimension of z whose rate, averaged over the minibatch, is below it is not pressed further
            (Kingma et al., 2016, https://arxiv.org/abs/1606.04934).
        free_bits_of: what has free bits: each "dimension", or each "latent" variable as a whole (each layer of a hierarchy), which any
            posterior and prior allow.

    Raises:
        ValueError: if the KL estimator is unknown, a number is out of range, or capacity and free bits are both set.
    """

    def __init__(
        self,
        beta: float | Schedule = 1.0,
        kl: str = "analytic",
        num_samples: int = 1,
        capacity: float | Schedule | None = None,
        free_bits: float = 0.0,
        free_bits_of: str = "dimension",
    ) -> None:
        super().__init__()
        check_choice(("dimension", "latent"), free_bits_of=free_bits_of)
        if not callable(beta) and not isinstance(beta, int | float):
            raise ValueError(f"beta={beta!r} must be a number or a schedule")
        if not callable(beta) and beta < 0:
            raise ValueError(f"beta={beta} would reward a large KL: it must not be negative")
        check_at_least(0, free_bits=free_bits)
        if isinstance(capacity, int | float) and capacity < 0:
            raise ValueError(f"capacity={capacity} is a rate: it must not be negative")
        if capacity is not None and free_bits:
            raise ValueError(f"capacity={capacity} and free_bits={free_bits} both set a target for the rate: choose one")
        check_kl(kl)
        check_whole(1, num_samples=num_samples)
        self.beta, self.kl, self.num_samples = beta, kl, num_samples
        self.capacity, self.free_bits, self.has_free_bits = capacity, free_bits, free_bits > 0
        self.free_bits_of = free_bits_of

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        distortion = -draw.log_px.mean()
        rate = mean_rate(draw, self.kl)
        beta = at(self.beta, step)
        terms = {"elbo": -(distortion + rate).detach(), "distortion": distortion.detach(), "rate": rate.detach()}
        penalty = rate
        if self.capacity is not None:
            capacity = at(self.capacity, step)
            penalty = (all_mean(rate) - capacity).abs()
            terms["capacity"] = constant(capacity, rate)
        if self.has_free_bits:
            penalty = torch.stack([self._with_free_bits(latent) for latent in draw.latents]).sum()
        if callable(self.beta):
            terms["beta"] = constant(beta, rate)
        return {"loss": distortion + beta * penalty, **terms}

    def _with_free_bits(self, latent: Latent) -> Float[Tensor, ""]:
        rates = kl(latent, self.kl) if self.free_bits_of == "latent" else kl_per_dimension(latent, self.kl)
        return all_mean(rates.mean((0, 1))).clamp(min=self.free_bits).sum()

    @property
    def not_a_bound(self) -> str | None:
        if callable(self.beta) or callable(self.capacity):
            return "a schedule changes a weight of the rate"
        if self.capacity is not None:
            return f"the rate is held to capacity={self.capacity:g}"
        if self.free_bits:
            return f"free_bits={self.free_bits:g} leave a part of the rate out"
        return None if self.beta == 1 else f"beta={self.beta:g} weighs the rate"
