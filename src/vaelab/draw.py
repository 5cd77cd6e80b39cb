"""What one pass through a model returns: the draws of its random variables, and their distributions."""

from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributions import Distribution


@dataclass(frozen=True, kw_only=True)
class Latent:
    """z ~ q, scored under q and p. Shapes: z (K, B, *z_shape), log_q and log_p (K, B), in nats."""

    z: Float[Tensor, "k b ..."]
    q: Distribution  # q(z | x), or q(z | x, the latents above it)
    p: Distribution  # p(z), or p(z | the latents above it)
    log_q: Float[Tensor, "k b"]  # computed with z, because a flow knows its density only where it sampled

    @cached_property
    def log_p(self) -> Float[Tensor, "k b"]:
        return self.p.log_prob(self.z)


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Everything that an objective or a metric may look at, for K samples of the latents of B examples.

    x is (B, *x_shape); `latents` has one entry for each latent variable of the model.
    """

    x: Float[Tensor, "b ..."]
    y: Shaped[Tensor, "b ..."] | None
    p_x: Distribution  # p(x | z), batch shape (K, B)
    latents: tuple[Latent, ...]

    @cached_property
    def log_px(self) -> Float[Tensor, "k b"]:
        """log p(x | z): minus the distortion.

        Raises:
            ValueError: if x has not the shape of the likelihood's event, which broadcasting would hide.
        """
        if self.x.shape[1:] != self.p_x.event_shape:
            raise ValueError(f"x has shape {tuple(self.x.shape[1:])}, but the likelihood is of shape {tuple(self.p_x.event_shape)}")
        return self.p_x.log_prob(self.x)

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
                f"this objective is defined for one latent variable, but the model has {len(self.latents)}; use objective=elbo"
            )
        return self.latents[0]
