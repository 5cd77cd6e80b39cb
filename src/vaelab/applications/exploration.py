"""Walks through the latent space, decoded to E[x | z]."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.distributions import Normal

from vaelab.distributions import centre
from vaelab.models import Model


@torch.no_grad()
def interpolate(
    model: Model,
    x_from: Float[Tensor, "b ..."],
    x_to: Float[Tensor, "b ..."],
    steps: int = 8,
    y: Shaped[Tensor, "b ..."] | None = None,
) -> Float[Tensor, "b steps ..."]:
    """Straight lines between the posterior centres of pairs of examples."""
    start, end = centre(model.encode(x_from, y)), centre(model.encode(x_to, y))
    return torch.stack([model.decode(torch.lerp(start, end, float(t)), y).mean for t in torch.linspace(0, 1, steps)], dim=1)


@torch.no_grad()
def by_rate(model: Model, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None) -> Int[Tensor, "d"]:
    """The dimensions of z, flattened, by falling variance of the posterior centre over x: those that carry most come first."""
    return centre(model.encode(x, y)).flatten(1).var(0, correction=0).argsort(descending=True)


@torch.no_grad()
def traverse(
    model: Model,
    x: Float[Tensor, "1 ..."],
    dims: Int[Tensor, "d"],
    steps: int = 9,
    extent: float = 2.5,
    y: Shaped[Tensor, "1 ..."] | None = None,
) -> Float[Tensor, "d steps ..."]:
    """One example's posterior centre with one dimension at a time moved from -extent to extent (Higgins et al., 2017, figure 1)."""
    start = centre(model.encode(x, y))
    rows = []
    for dim in dims.tolist():
        z = start.flatten(1).repeat(steps, 1)
        z[:, dim] = torch.linspace(-extent, extent, steps).to(z)
        rows.append(model.decode(z.reshape(steps, *start.shape[1:]), None if y is None else y.expand(steps, *y.shape[1:])).mean)
    return torch.stack(rows)


@torch.no_grad()
def manifold(model: Model, side: int = 20, y: Shaped[Tensor, "1 ..."] | None = None) -> Float[Tensor, "side side ..."]:
    """The images of a grid of equal probability under p(z) = N(0, I) of two dimensions (Kingma & Welling, 2014, figure 4).

    Raises:
        ValueError: if z does not have exactly two dimensions.
    """
    shape = model.prior(y).event_shape
    if shape.numel() != 2:
        raise ValueError(f"the manifold of a plane needs two latent dimensions, but z has shape {tuple(shape)}")
    device = next(model.parameters()).device
    quantiles = Normal(0.0, 1.0).icdf((torch.arange(side, device=device) + 0.5) / side)
    grid = torch.stack(torch.meshgrid(quantiles, -quantiles, indexing="xy"), dim=-1).reshape(side * side, *shape)
    means = model.decode(grid, None if y is None else y.expand(side * side, *y.shape[1:])).mean
    return means.unflatten(0, (side, side))
