"""Examples, encoded."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributions import Distribution

from vaelab.distributions import centre, is_euclidean
from vaelab.draw import Latent
from vaelab.metrics.data import Batches
from vaelab.metrics.latent.dimensions import rate_per_dimension
from vaelab.models import Model, SemiSupervisedVAE


@dataclass(frozen=True)
class Encodings:
    """The encodings of N examples."""

    posteriors: list[Distribution]  # q(z | x), in batches
    prior: Distribution  # p(z), or p(z | y) of the last batch
    z: Float[Tensor, "n ..."]  # a sample of q(z | x) for each x
    log_q: Float[Tensor, "n"]  # log q(z | x)
    log_p: Float[Tensor, "n"]
    rates: Float[Tensor, "n d"] | None  # of each dimension, if q and p factorise
    centres: Float[Tensor, "n ..."]
    from_prior: Float[Tensor, "n 2 ..."] | None  # two samples of p(z) for each x, if z is a vector of real numbers
    y: Shaped[Tensor, "n ..."]


def encoded(model: Model, batches: Batches) -> Encodings:
    """q(z | x) of these examples, with samples and centres.

    Raises:
        ValueError: if there are fewer than 2, or q and p are not over the same space.
    """
    posteriors, priors, parts = [], [], []
    for x, y in batches:
        q, p = posterior(model, x, y), model.p_z(y)
        one = Latent.sample(q, p, 1)
        posteriors.append(q)
        priors.append(p)
        from_prior = two_samples(p, len(x)) if is_euclidean(q) else None
        parts.append((one.z[0], one.log_q[0], one.log_p[0], rate_per_dimension(one), centre(q), from_prior, y))
    if sum(len(part[0]) for part in parts) < 2:
        raise ValueError("an aggregate posterior needs at least 2 examples: set num_examples to more, or take a larger split")
    joined: Iterator[Any] = (None if columns[0] is None else torch.cat(columns) for columns in zip(*parts, strict=True))
    return Encodings(posteriors, priors[-1], *joined)


def two_samples(p: Distribution, num: int) -> Float[Tensor, "n 2 ..."]:
    """Two samples of the prior for each of n examples; of p(z | y), for each y."""
    return p.sample((2,) if p.batch_shape else (2, num)).transpose(0, 1)


def posterior(model: Model, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."]) -> Distribution:
    """q(z | x), or q(z | x, y) of a conditional model; a semi-supervised one is not shown the class, which z could then tell."""
    return model.encode(x, None if isinstance(model, SemiSupervisedVAE) else y)


def centres(model: Model, batches: Batches) -> tuple[Float[Tensor, "n ..."], Shaped[Tensor, "n ..."]] | None:
    """The centres of q(z | x), and y; None if there is no example."""
    pairs = [(centre(posterior(model, x, y)), y) for x, y in batches]
    if not pairs:
        return None
    z, y = zip(*pairs, strict=True)
    return torch.cat(z), torch.cat(y)
