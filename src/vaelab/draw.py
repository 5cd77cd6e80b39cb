"""Draws: samples of a model's random variables, and their distributions, which one pass through the model returns."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from vaelab.distributions import Embedded, Quantized, rsample, rsample_and_log_prob, space_of


class Latent:
    """z ~ q, scored under q and p when an objective asks for it.

    >>> latent = model(x, num_samples=3).latent
    >>> latent.z.shape, latent.log_q.shape, latent.log_p.shape
    (torch.Size([3, 5, 2]), torch.Size([3, 5]), torch.Size([3, 5]))

    Args:
        z: samples of q, of shape (K, B, *z_shape).
        q: q(z | x), or q(z | x, the latents above it).
        p: p(z), or p(z | the latents above it).
        log_q: log q(z | x) in nats, (K, B), of a q that knows its density only where it sampled, as a flow without an inverse; None: q is
            asked for it.
    """

    def __init__(self, *, z: Float[Tensor, "k b ..."], q: Distribution, p: Distribution, log_q: Float[Tensor, "k b"] | None = None) -> None:
        self.z, self.q, self.p = z, q, p
        if log_q is not None:
            self.log_q = log_q

    @classmethod
    def sample(cls, q: Distribution, p: Distribution, num_samples: int) -> "Latent":
        """Draws K samples of q, reparameterised where q is. log q is computed with them if q knows it for its own samples alone."""
        if hasattr(q, "rsample_and_log_prob"):
            z, log_q = rsample_and_log_prob(q, num_samples)
            return cls(z=z, q=q, p=p, log_q=log_q)
        return cls(z=rsample(q, num_samples), q=q, p=p)

    @property
    def shape(self) -> torch.Size:
        """The shape (K, B): K samples for each of B examples."""
        return self.z.shape[: self.z.ndim - len(self.q.event_shape)]

    @cached_property
    def log_q(self) -> Float[Tensor, "k b"]:
        """log q(z | x)."""
        return self.q.log_prob(self.z)

    @cached_property
    def log_p(self) -> Float[Tensor, "k b"]:
        """log p(z).

        Raises:
            ValueError: if q and p are not over the same space: the ratio of their densities would mean nothing.
        """
        check_same_space(self.q, self.p)
        if isinstance(self.q, Quantized) and isinstance(self.p, Embedded):  # the codes are known, and need not be searched for z
            return self.p.indices.log_prob(self.q.indices).expand(self.shape)
        return self.p.log_prob(self.z)


@runtime_checkable
class Units(Protocol):
    """A map from the units of the data to x that models see, and back: see `vaelab.data.scaling.Scaling`."""

    def inverse(self, s: Tensor) -> Tensor:
        """x in the units of the data, (..., *x_shape)."""

    def log_det(self, s: Tensor, observed: Tensor | None = None) -> Tensor:
        """log |ds / dx| of each example (B, *x_shape), over its observed values: (B,)."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Everything that an objective or a metric may look at, for K samples of the latents of B examples.

    >>> draw = model(x, num_samples=3)
    >>> draw.log_px.shape, draw.log_w.shape
    (torch.Size([3, 5]), torch.Size([3, 5]))

    x is (B, *x_shape), with zeros where it was not observed; `latents` has one entry for each latent variable of the model. With `units`,
    all densities of x are those of the data as they are: log p(x | z) is of x before it was scaled.
    """

    x: Float[Tensor, "b ..."]
    y: Shaped[Tensor, "b ..."] | None
    p_x: Distribution  # p(x | z), batch shape (K, B)
    latents: tuple[Latent, ...]
    observed: Bool[Tensor, "b ..."] | None = None  # which values of x were; None: all
    missingness: nn.Module | None = None  # p(s | x), of which values are observed; None: it does not depend on x
    units: Units | None = None  # None: x was not scaled

    @cached_property
    def log_px(self) -> Float[Tensor, "k b"]:
        """log p(x | z), of the observed values of x: minus the distortion. With a missingness, + log p(s | x) of the completed x.

        Raises:
            ValueError: as `_log_px`.
        """
        return self._log_px() if self.units is None else self._log_px() + self.units.log_det(self.x, self.observed)

    def _log_px(self) -> Float[Tensor, "k b"]:
        """log p(x | z) of x as it is here.

        Raises:
            ValueError: if x has not the shape of the likelihood's event, which broadcasting would hide; or if values are missing and
                the likelihood does not score each by itself.
        """
        if self.x.shape[1:] != self.p_x.event_shape:
            raise ValueError(f"x has shape {tuple(self.x.shape[1:])}, but the likelihood is of shape {tuple(self.p_x.event_shape)}")
        if self.observed is None:
            return self.p_x.log_prob(self.x)
        if not isinstance(self.p_x, Independent) or self.p_x.base_dist.event_shape or getattr(self.p_x.base_dist, "pooled", False):
            raise ValueError(
                "missing values need a likelihood that scores each value by itself: set likelihood=bernoulli, or likelihood=gaussian"
                " likelihood.sigma=learned"
            )
        log_px = self.p_x.base_dist.log_prob(self.x).where(self.observed, 0.0)
        log_px = log_px.flatten(-len(self.p_x.event_shape)).sum(-1)
        return log_px if self.missingness is None else log_px + self.missingness(self.completed, self.observed)

    @cached_property
    def completed(self) -> Float[Tensor, "k b ..."]:
        """x with samples of p(x | z) where it was not observed, through which gradients pass (Ipsen et al., 2021).

        Raises:
            ValueError: if they cannot.
        """
        if not self.p_x.has_rsample:
            base = self.p_x.base_dist if isinstance(self.p_x, Independent) else self.p_x
            raise ValueError(
                f"missingness needs samples of missing values that have gradients, but {type(base).__name__} is not a likelihood of"
                " real values alone: set missingness=ignorable, or likelihood=gaussian"
            )
        x = self.p_x.rsample()
        return x if self.observed is None else torch.where(self.observed, self.x, x)

    @cached_property
    def log_w(self) -> Float[Tensor, "k b"]:
        """log p(x, z) - log q(z | x): the log importance weights. Their mean over K is an unbiased estimate of the ELBO."""
        log_w = self.log_px
        for latent in self.latents:
            log_w = log_w + latent.log_p - latent.log_q
        return log_w

    @property
    def latent(self) -> Latent:
        """The latent variable of a model that has one.

        Raises:
            ValueError: if the model has several.
        """
        if len(self.latents) != 1:
            raise ValueError(
                f"this objective is defined for one latent variable, but the model has {len(self.latents)}:"
                " use objective=elbo or objective=iwae"
            )
        return self.latents[0]


def check_same_space(q: Distribution, p: Distribution) -> None:
    """log p(z) - log q(z) means something only where both are over the same space.

    Raises:
        ValueError: if they are not.
    """
    if space_of(q) != space_of(p):
        raise ValueError(
            f"the posterior is over {space_of(q)}, but the prior over {space_of(p)}: choose a prior of the same kind (posterior=gumbel goes"
            " with prior=relaxed_categorical, or with prior=uniform_categorical and objective.kl=analytic)"
        )


def split_missing(x: Float[Tensor, "b ..."]) -> tuple[Float[Tensor, "b ..."], Bool[Tensor, "b ..."]]:
    """x with zeros for its missing values, which are NaN, and which values were observed.

    Zeros are what a network is shown in their place (Mattei & Frellsen, 2019, https://arxiv.org/abs/1812.02633); they are not scored.
    """
    observed = ~x.isnan()
    return x.where(observed, 0.0), observed


def shown(encoder: nn.Module, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """x as an encoder is shown it: with zeros for missing values, unless a part of it, `takes_missing`, tells NaN from a value."""
    return x if any(getattr(part, "takes_missing", False) for part in encoder.modules()) else split_missing(x)[0]
