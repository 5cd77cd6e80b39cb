"""The bounds of validation data, by which checkpoints, trials and runs are compared."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vaelab import metrics
from vaelab.models import Model
from vaelab.objectives import ImportanceWeighted, Objective


def bounds(model: Model, objective: Objective, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."]) -> dict[str, Float[Tensor, "b"]]:
    """elbo, distortion and rate of each example, in nats, at beta = 1; and bound, that on log p(x) by which runs are chosen.

    It is the bound of an importance-weighted objective, of as many samples as it trains with, and the ELBO of any other.
    """
    if not isinstance(objective, ImportanceWeighted):
        terms = metrics.bound(model(x, y))
        return terms | {"bound": terms["elbo"]}
    size = max(1, len(x) // objective.num_samples)  # no more values at a time than one sample of all examples has
    found = []
    for part, labels in zip(x.split(size), y.split(size), strict=True):
        draw = model(part, labels, num_samples=objective.num_samples)
        found.append(metrics.bound(draw) | {"bound": objective.bound(draw)})
    return {name: torch.cat([terms[name] for terms in found]) for name in found[0]}


@torch.no_grad()
def mean_bounds(model: Model, objective: Objective, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """The means of `bounds` over all examples, of a model that is in evaluation mode.

    Raises:
        ValueError: if there is no batch.
    """
    found = [bounds(model, objective, x, y) for x, y in batches]
    if not found:
        raise ValueError("there is nothing to evaluate: the data have no batch")
    return {name: torch.cat([terms[name] for terms in found]).double().mean().item() for name in ("elbo", "rate", "distortion", "bound")}
