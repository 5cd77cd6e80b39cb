"""Completions of x, which all methods of inpainting return, and what the methods share."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.distributions import Distribution

from vaelab.checks import check_at_least
from vaelab.distributions import Quantized
from vaelab.evidence import Evidence
from vaelab.models import Model

POINT = "this q(z | x) is a point"


@dataclass(frozen=True)
class Completion:
    """K draws of the missing values of each of B examples; observed values are what they were."""

    x: Float[Tensor, "k b ..."]  # x_m ~ p(x_m | z), with z ~ p(z | x_o)
    expected: Float[Tensor, "k b ..."]  # E[x_m | z] of the same z, without the noise of single values
    mean: Float[Tensor, "b ..."]  # E[x_m | x_o], of all steps or all weighted samples and not of these K alone
    std: Float[Tensor, "b ..."]  # the standard deviation of x_m given x_o, value by value; 0 where it was observed
    acceptance_rate: Float[Tensor, "b"] | None = None  # of Metropolis proposals
    evidence: Evidence | None = None  # log p(x_o), and the effective number of importance samples
    # with a model of which values are missing, the mean of E[x_m | z], weighted as `mean`: without what s says of x_m given z
    mean_of_expected: Float[Tensor, "b ..."] | None = None


def check_shapes(x: Float[Tensor, "..."], observed: Bool[Tensor, "..."], **numbers: int) -> None:
    """Every value is observed or is not, and there is at least one of everything.

    Raises:
        ValueError: if not.
    """
    if observed.shape != x.shape:
        raise ValueError(f"observed has shape {tuple(observed.shape)}, but x has {tuple(x.shape)}: every value is observed or is not")
    check_at_least(1, **numbers)


def no_density(model: Model, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None) -> str:
    """The reason, in words, why there is no one q(z | x) whose density is known at any z; "" if there is one."""
    latents = model(x, y).latents
    if len(latents) > 1:
        return f"this model has {len(latents)} latent variables"
    if isinstance(latents[0].q, Quantized):
        return POINT
    return "this q(z | x), a flow, knows its density along its own samples only" if hasattr(latents[0].q, "rsample_and_log_prob") else ""


def repeat(values: Shaped[Tensor, "b ..."], times: int) -> Shaped[Tensor, "n ..."]:
    """The whole batch, times over."""
    return values.repeat(times, *[1] * (values.ndim - 1))


def moments(p_x: Distribution) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """E[x] and E[x^2]; the latter of one sample where the variance has no closed form."""
    mean = p_x.mean
    try:
        return mean, p_x.variance + mean.square()
    except NotImplementedError:
        return mean, p_x.sample().square()


def mean_and_std(
    x: Float[Tensor, "b ..."], observed: Bool[Tensor, "b ..."], first: Float[Tensor, "b ..."], second: Float[Tensor, "b ..."]
) -> tuple[Float[Tensor, "b ..."], Float[Tensor, "b ..."]]:
    """Mean and standard deviation of the missing values, from sums over draws; those of the observed values are x and 0."""
    std = (second - first.square()).clamp(min=0).sqrt()
    return torch.where(observed, x, first.to(x)), torch.where(observed, 0.0, std.to(x))
