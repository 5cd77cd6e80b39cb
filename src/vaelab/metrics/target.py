"""p(x, z) of given x as a function of z, for metrics that search or sample the latent space of a model."""

from dataclasses import dataclass, replace
from math import sqrt

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributions import Distribution

from vaelab.distributions import is_euclidean, space_of
from vaelab.draw import Draw
from vaelab.models import Model


@dataclass(frozen=True)
class Target:
    """log p(x, z) of B examples at any z (K, B, *z_shape), differentiable in z; p and q are constants."""

    model: Model
    draw: Draw  # of the model at x

    @property
    def prior(self) -> Distribution:
        """p(z), or p(z | y) with batch shape (B,)."""
        return self.draw.latent.p

    @property
    def posterior(self) -> Distribution:
        """q(z | x), batch shape (B,)."""
        return self.draw.latent.q

    def log_px(self, z: Float[Tensor, "k b ..."]) -> Float[Tensor, "k b"]:
        """log p(x | z), of the observed values of x."""
        return replace(self.draw, p_x=self.model.decode(z, self.draw.y)).log_px

    def log_joint(self, z: Float[Tensor, "k b ..."]) -> Float[Tensor, "k b"]:
        """log p(x, z)."""
        return self.prior.log_prob(z) + self.log_px(z)

    def sample_prior(self, num_samples: int) -> Float[Tensor, "k b ..."]:
        """K samples of p(z) for each example; of p(z | y), for its y."""
        return self.prior.sample((num_samples,) if self.prior.batch_shape else (num_samples, len(self.draw.x)))


@torch.no_grad()
def target(model: Model, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."]) -> Target:
    """log p(x, z) of these examples.

    Raises:
        ValueError: if the model has several latent variables, or z is no vector of real numbers.
    """
    draw = model(x, y)
    if len(draw.latents) != 1:
        raise ValueError(f"this needs a model with one latent variable, but it has {len(draw.latents)}: use metrics=[likelihood]")
    for distribution in (draw.latent.q, draw.latent.p):
        if not is_euclidean(distribution):
            raise ValueError(
                f"this needs gradients in z, a vector of real numbers, but z is of {space_of(distribution)}: use metrics=[likelihood]"
            )
    return Target(model, draw)


@torch.no_grad()
def simulate(like: Target) -> tuple[Float[Tensor, "b ..."], Float[Tensor, "1 b ..."]]:
    """x ~ p(x | z) with z ~ p(z), one for each example and with its y, so that z is a sample of p(z | x): x (B, *x_shape), and z."""
    z = like.sample_prior(1)
    return like.model.decode(z, like.draw.y).sample()[0], z


def average(name: str, values: Float[Tensor, "n"]) -> dict[str, float | None]:
    """The mean over examples under this name, and its standard error: of one example it is unknown."""
    error = values.std().item() / sqrt(len(values)) if len(values) > 1 else None
    return {name: values.mean().item(), f"{name}_std_error": error}
