"""Everything that is reported of a model, from one pass over the data."""

from collections.abc import Iterable
from math import prod, sqrt
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vaelab.distributions import centre, is_discrete
from vaelab.metrics.bound import bound, rate
from vaelab.metrics.latent import active_units
from vaelab.metrics.likelihood import bits_per_dim, evaluating, importance_weighted

IMAGES_AT_ONCE = 100  # times chunk_size is how many decodings are in memory


@runtime_checkable
class Classifier(Protocol):
    """A model that also says which class x is of."""

    def classify(self, x: Tensor) -> Tensor: ...


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], num_samples: int = 100, chunk_size: int = 10, num_images: int | None = None
) -> dict[str, Any]:
    """Means over the examples, in nats: elbo, rate and distortion of all; the log-likelihood of the first num_images, with standard errors.

    bits_per_dim is None unless p(x | z) is discrete and all of x observed: a density has no bits. The standard errors are those of a mean
    over examples. active_units counts with the centres of q(z | x), of every latent variable along one sample of those above it. A model
    that classifies has its accuracy reported.

    Raises:
        ValueError: if there is no batch, or num_images is below 1.
    """
    if num_images is not None and num_images < 1:
        raise ValueError(f"num_images={num_images} must be at least 1, or null for all")
    with evaluating(model):
        return _evaluate(model, batches, num_samples, chunk_size, num_images)


def _evaluate(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], num_samples: int, chunk_size: int, num_images: int | None
) -> dict[str, Any]:
    terms: dict[str, list[Tensor]] = {"elbo": [], "rate": [], "distortion": [], "log_likelihood": [], "effective_sample_size": []}
    centres: list[list[Tensor]] = []
    rates: list[Tensor] = []
    correct: list[Tensor] = []
    event_dims, discrete, scored = 0, False, 0
    for x, y in batches:
        draw = model(x, y)
        for name, value in bound(draw).items():
            terms[name].append(value.double())
        centres.append([centre(latent.q).expand(latent.z.shape)[0] for latent in draw.latents])
        if len(draw.latents) > 1:
            rates.append(torch.stack([rate(latent) for latent in draw.latents]).double())
        if isinstance(model, Classifier):
            correct.append((model.classify(x) == y)[y >= 0].double())
        event_dims, discrete = prod(draw.p_x.event_shape), is_discrete(draw.p_x) and draw.observed is None
        wanted = len(x) if num_images is None else min(len(x), num_images - scored)
        if wanted > 0:
            for part, labels in zip(x[:wanted].split(IMAGES_AT_ONCE), y[:wanted].split(IMAGES_AT_ONCE), strict=True):
                evidence = importance_weighted(model, part, labels, num_samples, chunk_size)
                terms["log_likelihood"].append(evidence.log_likelihood)
                terms["effective_sample_size"].append(evidence.effective_sample_size)
            scored += wanted
    if not centres:
        raise ValueError("there is nothing to evaluate: the data have no batch")
    values = {name: torch.cat(parts) for name, parts in terms.items()}
    report: dict[str, Any] = {}
    for name in ("elbo", "rate", "distortion", "log_likelihood"):
        report[name] = values[name].mean().item()
        report[f"{name}_std_error"] = values[name].std().item() / sqrt(len(values[name])) if len(values[name]) > 1 else None
    report["bits_per_dim"] = bits_per_dim(report["log_likelihood"], event_dims) if discrete else None
    report["effective_sample_size"] = values["effective_sample_size"].mean().item()
    report["num_samples"] = num_samples
    report["num_images"] = len(values["elbo"])
    report["num_images_log_likelihood"] = scored
    units = [torch.cat(parts) for parts in zip(*centres, strict=True)]
    active, dims = [active_units(unit) for unit in units], [prod(unit.shape[1:]) for unit in units]
    report["active_units"], report["latent_dim"] = sum(active), sum(dims)
    if len(units) > 1:
        report["active_units_of_latents"], report["rate_of_latents"] = active, torch.cat(rates, dim=1).mean(1).tolist()
    if sum(map(len, correct)):
        report["accuracy"] = torch.cat(correct).mean().item()
    return report


@torch.no_grad()
def mean_bound(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """elbo, rate and distortion in nats, the means over all examples.

    Raises:
        ValueError: if there is no batch.
    """
    with evaluating(model):
        bounds = [bound(model(x, y)) for x, y in batches]
    if not bounds:
        raise ValueError("there is nothing to evaluate: the data have no batch")
    return {name: torch.cat([terms[name] for terms in bounds]).double().mean().item() for name in ("elbo", "rate", "distortion")}
