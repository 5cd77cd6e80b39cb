"""Walks through the latent space, decoded to E[x | z], and who lives nearby."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.distributions import Distribution, Normal

from vaelab.checks import check_at_least
from vaelab.distributions import VonMisesFisher, centre, is_euclidean
from vaelab.draw import Latent
from vaelab.metrics.latent import rate_per_dimension, unit_variances
from vaelab.models import Model

Walk = Callable[[Tensor, Tensor, float], Tensor]  # walk(start, end, t): at start for t = 0, at end for t = 1
Reading = Callable[[Distribution], Tensor]  # what is shown of p(x | z)


class Order(NamedTuple):
    """The dimensions of z, flattened, those that carry most first."""

    dims: Int[Tensor, "d"]
    values: Float[Tensor, "d"]  # of these dimensions, falling
    measure: str  # "rate" (nats), or "variance" of the posterior centre


class Neighbours(NamedTuple):
    """The reference examples that are nearest to each query, the nearest first."""

    distances: Float[Tensor, "n k"]
    indices: Int[Tensor, "n k"]  # among all references, in their order
    x: Float[Tensor, "n k ..."]


def expectation(p_x: Distribution) -> Float[Tensor, "..."]:
    """E[x | z]."""
    return p_x.mean


def walk_in(q: Distribution) -> Walk | None:
    """The walk between points of the space of q: a straight line, or a great circle on a sphere; None where there are only codes."""
    return slerp if isinstance(q, VonMisesFisher) else torch.lerp if is_euclidean(q) else None


def pairs(
    y: Shaped[Tensor, "n ..."], num: int, chained: bool = False, same_class: bool = False
) -> tuple[Int[Tensor, "num"], Int[Tensor, "num"]]:
    """The places of num pairs of examples to walk between: each of the first num with the one that is num further on.

    Args:
        y: labels of all examples.
        num: of the pairs, at most half of the examples, or all but one of them if they are chained.
        chained: whether each is paired with the next one instead, so that all walks make one path.
        same_class: whether only examples of one label are paired: the k-th of those that start with the k-th of the others; with itself, if
            there are no others.
    """
    start = torch.arange(num, device=y.device)
    if not same_class:
        return start, start + (1 if chained else num)
    ends, seen = list[int](), Counter[int]()
    for place, label in enumerate(y[:num].tolist()):
        first = place + 1 if chained else num
        others = (y[first:] == label).nonzero().flatten().tolist()
        ends.append(first + others[0 if chained else seen[label] % len(others)] if others else place)
        seen[label] += 1
    return start, torch.tensor(ends, device=y.device)


@torch.no_grad()
def interpolate(
    model: Model,
    x_from: Float[Tensor, "b ..."],
    x_to: Float[Tensor, "b ..."],
    steps: int = 8,
    y: Shaped[Tensor, "b ..."] | None = None,
    walk: Walk = torch.lerp,
    reading: Reading = expectation,
) -> Float[Tensor, "b steps ..."]:
    """Walks between the posterior centres of pairs of examples.

    Args:
        model: of x.
        x_from, x_to: the pairs.
        steps: pictures of each walk, its ends among them.
        y: the labels of a conditional model, each of both examples of a pair.
        walk: straight lines, or `slerp`.
        reading: of p(x | z).
    """
    start, end = centre(model.encode(x_from, y)), centre(model.encode(x_to, y))
    return torch.stack([reading(model.decode(walk(start, end, float(t)), y)) for t in torch.linspace(0, 1, steps)], dim=1)


def slerp(start: Float[Tensor, "b ..."], end: Float[Tensor, "b ..."], t: float) -> Float[Tensor, "b ..."]:
    """Spherical interpolation: the direction moves along a great circle at constant speed, the norm linearly.

    z(t) = r(t) (sin((1-t) w) u + sin(t w) v) / sin w, with u and v the directions of start and end, w the angle between them, and
    r(t) = (1-t) |start| + t |end|. Samples of N(0, I) in many dimensions have norms near sqrt(d), which a straight line between two of them
    leaves (Shoemake, 1985, https://doi.org/10.1145/325334.325242; White, 2016, https://arxiv.org/abs/1609.04468). Where start and end point
    the same way, or in opposite ways, or one is 0, there is no one great circle: the line is straight.
    """
    a, b = start.flatten(1), end.flatten(1)
    norm_a, norm_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    u, v = a / norm_a, b / norm_b
    angle = 2 * torch.atan2((u - v).norm(dim=1, keepdim=True), (u + v).norm(dim=1, keepdim=True))  # exact also where it is small
    radius, sine = torch.lerp(norm_a, norm_b, t), angle.sin()
    arc = radius / norm_a * ((1 - t) * angle).sin() / sine * a + radius / norm_b * (t * angle).sin() / sine * b
    return torch.where(sine > 1e-4, arc, torch.lerp(a, b, t)).reshape(start.shape)  # a comparison with nan is false


@torch.no_grad()
def by_rate(model: Model, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None) -> Order:
    """The dimensions of z by falling rate E_x KL(q(z_d | x) || p(z_d)), in nats.

    Where q or p does not factorise over them, a dimension has no rate of its own: then by falling variance of the posterior centre over x.
    """
    q, p = model.encode(x, y), model.p_z(y)
    rates = rate_per_dimension(Latent.sample(q, p, 1))
    values = unit_variances(centre(q)) if rates is None else rates.mean(0)
    return Order(values.argsort(descending=True), values.sort(descending=True).values, "variance" if rates is None else "rate")


@torch.no_grad()
def traverse(
    model: Model,
    x: Float[Tensor, "1 ..."],
    dims: Int[Tensor, "d"],
    steps: int = 9,
    extent: float = 2.5,
    y: Shaped[Tensor, "1 ..."] | None = None,
    reading: Reading = expectation,
) -> Float[Tensor, "d steps ..."]:
    """One example's posterior centre with one dimension at a time moved from -extent to extent (Higgins et al., 2017, figure 1)."""
    start = centre(model.encode(x, y))
    rows = []
    for dim in dims.tolist():
        z = start.flatten(1).repeat(steps, 1)
        z[:, dim] = torch.linspace(-extent, extent, steps).to(z)
        rows.append(reading(model.decode(z.reshape(steps, *start.shape[1:]), None if y is None else y.expand(steps, *y.shape[1:]))))
    return torch.stack(rows)


@torch.no_grad()
def manifold(model: Model, side: int = 20, y: Shaped[Tensor, "1 ..."] | None = None) -> Float[Tensor, "side side ..."]:
    """The images of a grid of equal probability under p(z) = N(0, I) of two dimensions (Kingma & Welling, 2014, figure 4).

    Raises:
        ValueError: if z does not have exactly two dimensions.
    """
    shape = model.p_z(y).event_shape
    if shape.numel() != 2:
        raise ValueError(f"the manifold of a plane needs two latent dimensions, but z has shape {tuple(shape)}")
    quantiles = Normal(0.0, 1.0).icdf((torch.arange(side, device=model.device) + 0.5) / side)
    grid = torch.stack(torch.meshgrid(quantiles, -quantiles, indexing="xy"), dim=-1).reshape(side * side, *shape)
    means = model.decode(grid, None if y is None else y.expand(side * side, *y.shape[1:])).mean
    return means.unflatten(0, (side, side))


@torch.no_grad()
def nearest(
    queries: Float[Tensor, "n ..."],
    references: Iterable[Float[Tensor, "_ ..."]],
    num_neighbours: int = 1,
    features: Callable[[Tensor], Tensor] | None = None,
) -> Neighbours:
    """The nearest references of each query by Euclidean distance, such as the training images nearest to samples.

    A model that has memorised its training data draws samples that are nearer to them than test data are.

    Args:
        queries: what is looked for.
        references: batches of what is looked through, once.
        num_neighbours: how many of them, fewer if there are fewer references.
        features: of a batch of x, flattened, between which distances are taken; None: x itself, the distance of pixels.

    Raises:
        ValueError: if num_neighbours is below 1, or there is no reference.
    """
    check_at_least(1, num_neighbours=num_neighbours)

    def place(x: Tensor) -> Tensor:
        return (x if features is None else features(x)).flatten(1).double()

    looked_for, seen = place(queries), 0
    found: Neighbours | None = None
    for x in references:
        at = place(x)
        # |a - b|^2 = |a|^2 - 2 a b + |b|^2, in double precision, where a duplicate is still at distance 0 within 1e-6
        squares = torch.addmm(looked_for.square().sum(1, keepdim=True) + at.square().sum(1), looked_for, at.T, alpha=-2)
        best, places = squares.topk(min(num_neighbours, len(x)), largest=False)
        near = Neighbours(best.clamp(min=0).sqrt(), places + seen, x[places])
        found = near if found is None else closest(found, near, num_neighbours)
        seen += len(x)
    if found is None:
        raise ValueError("there is nothing to look through: the references have no batch")
    return found


def closest(a: Neighbours, b: Neighbours, num_neighbours: int) -> Neighbours:
    """The nearest of both."""
    both = Neighbours(*(torch.cat(pair, dim=1) for pair in zip(a, b, strict=True)))
    order = both.distances.argsort(dim=1, stable=True)[:, :num_neighbours]
    rows = torch.arange(len(order), device=order.device)[:, None]
    return Neighbours(*(values[rows, order] for values in both))
