"""A report of annealed importance sampling of a model."""

from collections.abc import Iterable
from dataclasses import fields
from math import isnan
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vaelab.checks import check_at_least
from vaelab.evidence import decodings_at_once, evaluating
from vaelab.metrics.ais.sampler import Estimate, Sampler
from vaelab.metrics.data import Data, first_as_one
from vaelab.metrics.target import average, simulate, target
from vaelab.models import Model


def ais(
    model: Model,
    data: Data,
    num_images: int = 100,
    num_simulated: int = 25,
    num_chains: int = 4,
    num_temperatures: int = 300,
    num_leapfrog_steps: int = 10,
    start: str = "encoder",
    schedule: str = "sigmoid",
    target_acceptance: float = 0.65,
) -> dict[str, Any]:
    """log p(x) of test data by annealed importance sampling, and between which bounds it lies of data that the model simulates; in nats.

    - ais_log_likelihood: log p^(x) of the first test examples, in the mean a lower bound of log p(x).
    - ais_forward, ais_reverse: in the mean a lower and an upper bound of log p(x) for simulated x, and bdmc_gap, their difference: an upper
      bound of how much is missing, in the mean over simulated x (Grosse et al., 2015, https://arxiv.org/abs/1511.02543). Test data may be
      harder.
    - ais_effective_sample_size of the chains of a test example, between 1 and num_chains; ais_acceptance of their moves, without unit;
      ais_step_size of the last move.
    - ais_decodings: how many z were decoded, each with its gradient, for a test example: the cost.

    Standard errors are those of a mean over examples. A conditional model is shown y, and simulates x for the y of test examples.

    Args:
        model: with one latent variable, a vector of real numbers.
        data: whose first test examples are scored.
        num_images, num_simulated: how many examples; num_simulated=0 leaves out the bounds.
        num_chains, num_temperatures, num_leapfrog_steps, start, schedule, target_acceptance: of `Sampler`.

    Raises:
        ValueError: if the model has several latent variables, z is no vector of real numbers, or an option is out of range.
    """
    check_at_least(1, num_images=num_images)
    check_at_least(0, num_simulated=num_simulated)
    sampler = Sampler(
        num_chains=num_chains,
        num_temperatures=num_temperatures,
        num_leapfrog_steps=num_leapfrog_steps,
        start=start,
        schedule=schedule,
        target_acceptance=target_acceptance,
    )
    x, y = first_as_one(data.batches("test", model.device), max(num_images, num_simulated))
    with evaluating(model):
        found = of_test_data(sampler, model, x[:num_images], y[:num_images])
        bounds = of_simulated(sampler, model, x[:num_simulated], y[:num_simulated])
    return {
        **average("ais_log_likelihood", found.log_likelihood),
        **bounds,
        "ais_effective_sample_size": found.effective_sample_size.mean().item(),
        "ais_acceptance": known(found.acceptance),
        "ais_step_size": known(found.last_step_size),
        "ais_decodings": sampler.num_decodings,
        "ais_num_chains": num_chains,
        "ais_num_temperatures": num_temperatures,
        "ais_num_images": len(found.log_likelihood),
        "ais_num_simulated": min(num_simulated, len(x)),
    }


def of_test_data(sampler: Sampler, model: Model, x: Float[Tensor, "n ..."], y: Shaped[Tensor, "n ..."]) -> Estimate:
    """The forward estimates of all examples."""
    found = [sampler.forward(target(model, *part)) for part in in_parts(x, y, sampler.num_chains)]
    return Estimate(*(torch.cat([getattr(part, field.name) for part in found]) for field in fields(Estimate)))


def of_simulated(sampler: Sampler, model: Model, x: Float[Tensor, "n ..."], y: Shaped[Tensor, "n ..."]) -> dict[str, float | None]:
    """The bounds of data that the model simulates, for as many examples as these and with their y; {} if there are none."""
    if not len(x):
        return {}
    found = []
    for part_x, part_y in in_parts(x, y, sampler.num_chains):
        simulated, z = simulate(target(model, part_x, part_y))
        here = target(model, simulated, part_y)
        found.append((sampler.forward(here).log_likelihood, sampler.reverse(here, z).log_likelihood))
    forward, reverse = (torch.cat(bounds) for bounds in zip(*found, strict=True))
    return average("ais_forward", forward) | average("ais_reverse", reverse) | average("bdmc_gap", reverse - forward)


def in_parts(x: Float[Tensor, "n ..."], y: Shaped[Tensor, "n ..."], num_chains: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Parts of the data: as many examples at a time as fit into memory with all their chains."""
    at_once = max(1, decodings_at_once(x) // num_chains)
    return zip(x.split(at_once), y.split(at_once), strict=True)


def known(values: Float[Tensor, "n"]) -> float | None:
    """The mean; None if it is not a number."""
    mean = values.mean().item()
    return None if isnan(mean) else mean
