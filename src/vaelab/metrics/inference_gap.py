"""Inference suboptimality (Cremer et al., 2018, https://arxiv.org/abs/1801.03558): why log p(x) is larger than the ELBO.

With L[q] = E_q[log p(x, z) - log q(z)] and q* the best q of x alone, in the same family as that of the encoder,

    log p(x) - L[q(z | x)] = (log p(x) - L[q*]) + (L[q*] - L[q(z | x)])
        inference gap      =  approximation gap +   amortisation gap

The first part is the family's fault, KL(q* || p(z | x)), and the second the encoder's.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.checks import check_at_least
from vaelab.evidence import decodings_at_once, evaluating, importance_weighted
from vaelab.metrics.ais.report import in_parts, of_test_data
from vaelab.metrics.ais.sampler import Sampler
from vaelab.metrics.data import Data, first_as_one
from vaelab.metrics.local_gaussian import LocalGaussian, fit, lower_bound
from vaelab.metrics.target import Target, average, target
from vaelab.models import Model

FIT_SAMPLES = 10  # of z for each step of a search


def inference_gap(
    model: Model,
    data: Data,
    num_images: int = 100,
    num_samples: int = 1000,
    num_importance_samples: int = 5000,
    num_chains: int = 4,
    num_temperatures: int = 300,
    start: str = "encoder",
    max_steps: int = 2000,
    full_covariance: bool = False,
) -> dict[str, Any]:
    """The gap between log p(x) and the ELBO of the first test examples, and the parts of it, in nats.

    - inference_gap = approximation_gap + amortisation_gap, as above.
    - log_likelihood_iwae and log_likelihood_ais: log p^(x) by importance sampling and by annealing. Both are lower bounds in the mean; of
      these two, the one with the greater mean is taken for log p(x), so that gaps are too small rather than too large, up to its noise.
    - elbo_amortised: L[q(z | x)], and elbo_local: L[q*], the ELBO of the best Gaussian of each x in the family of the encoder's.
    - elbo_full_covariance and approximation_gap_full_covariance: L[q*] and the gap that it leaves, of Gaussians with any covariance.
    - elbo_local_steps, and elbo_local_last_improvement: by how much the last hundred steps of the search raised the mean of L[q*].

    Standard errors are those of a mean over examples.

    Args:
        model: with one latent variable, a vector of real numbers, and a Gaussian posterior.
        data: whose first test examples are scored.
        num_images: how many.
        num_samples: of z, for each L.
        num_importance_samples: of each x, for log p(x).
        num_chains, num_temperatures, start: of `vaelab.metrics.ais.Sampler`, for log p(x).
        max_steps: of the search for q*.
        full_covariance: whether to search among Gaussians with any covariance too.

    Raises:
        ValueError: if the model has several latent variables, z is no vector of real numbers, q(z | x) is no Gaussian, or an option is out
            of range.
    """
    check_at_least(1, num_images=num_images, num_samples=num_samples)
    sampler = Sampler(num_chains=num_chains, num_temperatures=num_temperatures, start=start)
    x, y = first_as_one(data.batches("test", model.device), num_images)
    with evaluating(model):
        iwae = importance_weighted(model, x, y, num_importance_samples).log_likelihood
        annealed = of_test_data(sampler, model, x, y).log_likelihood
        parts = [target(model, *part) for part in in_parts(x, y, max(num_chains, FIT_SAMPLES))]
        local = [of_local(part, num_samples, max_steps, full_covariance) for part in parts]
    bounds = {name: torch.cat([part.bounds[name] for part in local]) for name in local[0].bounds}
    return {
        **gaps(iwae if iwae.mean() > annealed.mean() else annealed, bounds),
        **average("log_likelihood_iwae", iwae),
        **average("log_likelihood_ais", annealed),
        "elbo_local_steps": max(part.num_steps for part in local),
        "elbo_local_last_improvement": max(part.last_improvement for part in local),
        "inference_gap_num_images": len(x),
    }


@dataclass(frozen=True)
class Local:
    """The bounds of some examples, (B,), and how the slowest of the searches for them ended."""

    bounds: dict[str, Tensor]
    num_steps: int
    last_improvement: float


def of_local(target: Target, num_samples: int, max_steps: int, full_covariance: bool) -> Local:
    """L[q] of the encoder's q and of the best."""
    amortised = LocalGaussian.of(target.posterior)
    searches = {"elbo_local": fit(target.log_joint, amortised, FIT_SAMPLES, max_steps)}
    if full_covariance:
        searches["elbo_full_covariance"] = fit(target.log_joint, searches["elbo_local"].q.with_covariance(), FIT_SAMPLES, max_steps)
    candidates = {"elbo_amortised": amortised} | {name: found.q for name, found in searches.items()}
    at_once = max(1, decodings_at_once(target.draw.x) // len(target.draw.x))
    return Local(
        {name: lower_bound(target.log_joint, q.distribution(), num_samples, at_once) for name, q in candidates.items()},
        max(found.num_steps for found in searches.values()),
        max(found.last_improvement for found in searches.values()),
    )


def gaps(log_px: Float[Tensor, "n"], bounds: dict[str, Tensor]) -> dict[str, float | None]:
    """The parts of log p(x) - L[q], with standard errors."""
    found = {
        "inference_gap": log_px - bounds["elbo_amortised"],
        "approximation_gap": log_px - bounds["elbo_local"],
        "amortisation_gap": bounds["elbo_local"] - bounds["elbo_amortised"],
        **bounds,
    }
    if "elbo_full_covariance" in bounds:
        found["approximation_gap_full_covariance"] = log_px - bounds["elbo_full_covariance"]
    report: dict[str, float | None] = {}
    for name, values in found.items():
        report |= average(name, values)
    return report
