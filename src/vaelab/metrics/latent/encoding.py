"""Examples, encoded."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelab.distributions import centre, is_euclidean, rsample_and_log_prob
from vaelab.draw import Latent
from vaelab.evidence import Model
from vaelab.metrics.latent.dimensions import rate_per_dimension

Batches = Iterable[tuple[Tensor, Tensor]]


@runtime_checkable
class LatentVariableModel(Model, Protocol):
    """A model with a posterior q(z | x) and a prior p(z)."""

    prior: Callable[..., Distribution]

    def encode(self, x: Tensor, y: Tensor | None = None) -> Distribution: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


@dataclass(frozen=True)
class Codes:
    """What N examples are encoded as."""

    posteriors: list[Distribution]  # q(z | x), in batches
    prior: Distribution  # p(z), or p(z | y) of the last batch
    z: Float[Tensor, "n ..."]  # a sample of q(z | x) for each x
    log_q: Float[Tensor, "n"]  # log q(z | x)
    log_p: Float[Tensor, "n"]
    rates: Float[Tensor, "n d"] | None  # of each dimension, if q and p factorise
    centres: Float[Tensor, "n ..."]
    from_prior: Float[Tensor, "n 2 ..."] | None  # two samples of p(z) for each x, if z is a vector of real numbers
    y: Shaped[Tensor, "n ..."]


def encoded(model: LatentVariableModel, batches: Batches) -> Codes:
    """The codes of these examples.

    Raises:
        ValueError: if there are fewer than 2, or q and p are not over the same space.
    """
    posteriors, priors, parts = [], [], []
    for x, y in batches:
        q, p = posterior(model, x, y), model.prior(y)
        z, log_q = rsample_and_log_prob(q, 1)
        one = Latent(z=z, q=q, p=p, log_q=log_q)
        posteriors.append(q)
        priors.append(p)
        parts.append(
            (z[0], log_q[0], one.log_p[0], rate_per_dimension(one), centre(q), two_samples(p, len(x)) if is_euclidean(q) else None, y)
        )
    if sum(len(part[0]) for part in parts) < 2:
        raise ValueError("an aggregate posterior needs at least 2 examples: set num_examples to more, or take a larger split")
    joined: Iterator[Any] = (None if columns[0] is None else torch.cat(columns) for columns in zip(*parts, strict=True))
    return Codes(posteriors, priors[-1], *joined)


def two_samples(p: Distribution, num: int) -> Float[Tensor, "n 2 ..."]:
    """Two samples of the prior for each of n examples; of p(z | y), for each y."""
    return p.sample((2,) if p.batch_shape else (2, num)).transpose(0, 1)


def posterior(model: LatentVariableModel, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."]) -> Distribution:
    """q(z | x), or q(z | x, y) of a conditional model; a model that classifies is not shown the class, which z could then tell."""
    return model.encode(x, None if hasattr(model, "classify") else y)


def centres(model: LatentVariableModel, batches: Batches) -> tuple[Float[Tensor, "n ..."], Shaped[Tensor, "n ..."]] | None:
    """The centres of q(z | x), and y; None if there is no example."""
    pairs = [(centre(posterior(model, x, y)), y) for x, y in batches]
    if not pairs:
        return None
    z, y = zip(*pairs, strict=True)
    return torch.cat(z), torch.cat(y)


def first(batches: Batches, num_examples: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The first examples of these batches."""
    left = num_examples
    for x, y in batches:
        if left <= 0:
            return
        yield x[:left], y[:left]
        left -= len(x)


def labelled(y: Shaped[Tensor, "n ..."]) -> Bool[Tensor, "n"]:
    """Which y are known: not below 0, where they are whole numbers."""
    known = y.isfinite() if y.is_floating_point() else y >= 0
    return known.reshape(len(y), -1).all(1)


def with_labels(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Their examples whose y is known."""
    for x, y in batches:
        known = labelled(y)
        if bool(known.any()):
            yield x[known], y[known]
