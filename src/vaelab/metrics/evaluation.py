"""Everything that is reported of a model, from one pass over the data."""

from collections import defaultdict
from collections.abc import Mapping
from math import prod, sqrt
from typing import Any

import torch
from torch import Tensor

from vaelab.checks import check_at_least, given
from vaelab.distributions import centre, is_discrete
from vaelab.draw import Draw
from vaelab.evidence import bits_per_dim, evaluating, importance_weighted
from vaelab.metrics.bound import bound, rate
from vaelab.metrics.data import Batches, Data
from vaelab.metrics.latent import active_units
from vaelab.models import Model, SemiSupervisedVAE

IMAGES_AT_ONCE = 100  # times an explicit chunk_size is how many decodings are in memory


@torch.no_grad()
def evaluate(
    model: Model,
    batches: Batches,
    num_samples: int = 100,
    chunk_size: int | None = None,
    num_images: int | None = None,
    num_levels: int | None = None,
) -> dict[str, Any]:
    """Means over the examples, in nats: elbo, rate and distortion of all; the log-likelihood of the first num_images, with standard errors.

    >>> found = evaluate(model, [(x, torch.full((5,), -1))], num_samples=10)
    >>> abs(found["elbo"] + found["rate"] + found["distortion"]) < 1e-5
    True

    The standard errors are those of a mean over examples. bits_per_dim is None unless all of x is observed, and p(x | z) is a probability
    or x has been dequantised. active_units counts with the centres of q(z | x), of every latent variable along one sample of those above
    it. The accuracy is reported of a semi-supervised model.

    Args:
        model: to evaluate.
        batches: of (x, y).
        num_samples, chunk_size: of `importance_weighted`, on 100 examples at a time.
        num_images: how many examples get a log-likelihood; None: all.
        num_levels: how many levels of x have been dequantised, see `bits_per_dim`; None: it was not.

    Raises:
        ValueError: if there is no batch, or num_samples, chunk_size or num_images is below 1.
    """
    check_at_least(1, **given(num_images=num_images))
    found: dict[str, list[Tensor]] = defaultdict(list)
    with evaluating(model):
        for x, y in batches:
            draw = model(x, y)
            scored = len(x) if num_images is None else min(len(x), num_images - sum(map(len, found["log_likelihood"])))
            parts = of_batch(model, x, y, draw) | of_evidence(model, x[:scored], y[:scored], num_samples, chunk_size)
            for name, part in parts.items():
                found[name].append(part)
    if not found["elbo"]:
        raise ValueError("there is nothing to evaluate: the data have no batch")
    values = {name: torch.cat(parts) for name, parts in found.items()}
    averages = means(values)
    return {
        **averages,
        **bits(averages, draw, num_levels),
        "effective_sample_size": values["effective_sample_size"].mean().item(),
        "num_samples": num_samples,
        "num_images": len(values["elbo"]),
        "num_images_log_likelihood": len(values["log_likelihood"]),
        **of_latents(values, len(draw.latents)),
        **({"accuracy": values["correct"].mean().item()} if len(values.get("correct", ())) else {}),
    }


def of_batch(model: Model, x: Tensor, y: Tensor, draw: Draw) -> dict[str, Tensor]:
    """The bound of each example from one draw, and of each latent variable the centre of q and the rate."""
    found = {name: value.double() for name, value in bound(draw).items()}
    for i, latent in enumerate(draw.latents):
        found[f"centre_{i}"] = centre(latent.q).expand(latent.z.shape)[0]
        found[f"rate_{i}"] = rate(latent).double()
    if isinstance(model, SemiSupervisedVAE):
        found["correct"] = (model.classify(x) == y)[y >= 0].double()
    return found


def of_evidence(model: Model, x: Tensor, y: Tensor, num_samples: int, chunk_size: int | None) -> dict[str, Tensor]:
    """The log-likelihood of each example, in parts so that an explicit chunk_size says how many decodings are in memory."""
    parts = zip(x.split(IMAGES_AT_ONCE), y.split(IMAGES_AT_ONCE), strict=True)
    evidence = [importance_weighted(model, part, labels, num_samples, chunk_size) for part, labels in parts if len(part)]
    return {name: torch.cat([getattr(part, name) for part in evidence]) for name in ("log_likelihood", "effective_sample_size") if evidence}


def means(values: Mapping[str, Tensor]) -> dict[str, float | None]:
    """Means over the examples, with standard errors: that of one example is unknown."""
    report: dict[str, float | None] = {}
    for name in ("elbo", "rate", "distortion", "log_likelihood"):
        report[name] = values[name].mean().item()
        report[f"{name}_std_error"] = values[name].std().item() / sqrt(len(values[name])) if len(values[name]) > 1 else None
    return report


def bits(report: Mapping[str, float | None], draw: Draw, num_levels: int | None) -> dict[str, float | None]:
    """bits_per_dim with its standard error, of a report's log_likelihood: of a probability, or of the density of dequantised levels."""
    levels, num_dims = 1 if is_discrete(draw.p_x) else num_levels, prod(draw.p_x.event_shape)
    mean, error = report["log_likelihood"], report["log_likelihood_std_error"]
    if levels is None or draw.observed is not None or mean is None:
        return {"bits_per_dim": None, "bits_per_dim_std_error": None}
    return {
        "bits_per_dim": bits_per_dim(mean, num_dims, levels),
        "bits_per_dim_std_error": None if error is None else bits_per_dim(-error, num_dims),
    }


def of_latents(values: Mapping[str, Tensor], num_latents: int) -> dict[str, Any]:
    """Active units of all latent variables together; and, if there are several, of each, with its rate."""
    centres = [values[f"centre_{i}"] for i in range(num_latents)]
    active = [active_units(units) for units in centres]
    report: dict[str, Any] = {"active_units": sum(active), "latent_dim": sum(prod(units.shape[1:]) for units in centres)}
    if num_latents > 1:
        report["active_units_of_latents"] = active
        report["rate_of_latents"] = [values[f"rate_{i}"].mean().item() for i in range(num_latents)]
    return report


def evaluate_test_data(
    model: Model, data: Data, num_samples: int = 100, chunk_size: int | None = None, num_images: int | None = None
) -> dict[str, Any]:
    """`evaluate` on the test data of a run."""
    data.setup("test")
    return evaluate(model, data.batches("test", model.device), num_samples, chunk_size, num_images, data.splits["test"].num_levels)
