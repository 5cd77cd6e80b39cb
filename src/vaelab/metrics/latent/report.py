"""Everything that is reported of a latent space."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from vaelab.checks import check_at_least
from vaelab.distributions import is_euclidean
from vaelab.evidence import evaluating
from vaelab.metrics.data import Data, first, labelled, with_labels
from vaelab.metrics.latent.aggregate import parts_of_rate
from vaelab.metrics.latent.dimensions import unit_variances
from vaelab.metrics.latent.discrepancy import SCALES, mmd_squared, sliced_wasserstein, standard_error
from vaelab.metrics.latent.encoding import Encodings, centres, encoded
from vaelab.metrics.latent.probe import probe
from vaelab.models import Model

THRESHOLDS = tuple(10 ** (exponent / 2) for exponent in range(-8, 3))  # from 0.0001 to 10, the 0.01 of active units among them


@torch.no_grad()
def latent(
    model: Model,
    data: Data,
    num_examples: int = 10_000,
    split: str = "test",
    chunk_size: int = 100,
    kernel: str = "imq",
    scales: Sequence[float] = SCALES,
    num_projections: int = 500,
    num_neighbours: int = 5,
) -> dict[str, Any]:
    """Numbers that say how q(z | x) and the aggregate posterior q(z) use the latent space, in nats if not said otherwise.

    Of a hierarchy, z is z_L, the top. Of a semi-supervised model, q(z | x) is that of the class which x is recognised as; a conditional
    model is shown y.

    - active_units_variances: Var_x(E_q[z_d]) of each dimension, as `active_units` takes it, and active_units_counts: how many are above
      each of active_units_thresholds.
    - rate_per_dimension: KL(q(z_d | x) || p(z_d)), the mean over x; of each variable, where z is made of one-hot variables.
    - mutual_information I_q(x; z), at most mutual_information_limit = ln N; marginal_kl KL(q(z) || p(z)), and its two parts
      total_correlation and dimension_wise_kl. Mutual information and marginal KL sum up to rate_monte_carlo. See `parts_of_rate`.
    - mmd_squared and sliced_wasserstein, between N samples of q(z) and N of p(z): see the functions of these names; without unit, and in
      that of z. sliced_wasserstein_of_prior is the latter between two times N samples of p(z), than which less cannot be hoped for.
    - linear_probe_*, knn_*, majority_*: what the centres of q(z | x) tell about y, learned from up to N training examples: see `probe`.

    None stands for what is not defined: active units, MMD and sliced Wasserstein distance where z is no vector of real numbers (codes,
    points of a sphere); rate_per_dimension where q or p does not factorise; parts of the rate as in `parts_of_rate`; probes without
    labels.

    Args:
        model: with a posterior and a prior.
        data: whose examples are encoded.
        num_examples: N at most. Time grows with N^2.
        split: "test" or "val"; probes learn from "train".
        chunk_size: samples of z that are compared with all others at a time: memory grows with it, and not with N^2.
        kernel, scales: of the MMD.
        num_projections: of the sliced Wasserstein distance.
        num_neighbours: of the nearest-neighbour classifier.

    Raises:
        ValueError: if there are fewer than 2 examples, an option is out of range, or q and p are not over the same space.
    """
    if split not in ("test", "val"):
        raise ValueError(f"split={split} must be test or val: probes learn from the training data, and are tested on others")
    check_at_least(1, chunk_size=chunk_size)
    with evaluating(model):
        codes = encoded(model, first(data.batches(split, model.device), num_examples))
        report = {
            "latent_num_examples": len(codes.z),
            **of_dimensions(codes),
            **of_rate(codes, chunk_size),
            **of_distances(codes, kernel, scales, num_projections, chunk_size),
        }
        known = labelled(codes.y)
        z, y = codes.centres[known], codes.y[known]
        train = centres(model, first(with_labels(data.batches("train", model.device)), num_examples)) if len(y) else None
    train_z, train_y = (z[:0], y[:0]) if train is None else train
    return report | probe(train_z, train_y, z, y, num_neighbours)


def of_dimensions(codes: Encodings) -> dict[str, Any]:
    """Active units at all thresholds, and the rate of each dimension."""
    variances = unit_variances(codes.centres) if is_euclidean(codes.posteriors[0]) else None
    return {
        "active_units_variances": None if variances is None else variances.tolist(),
        "active_units_thresholds": list(THRESHOLDS),
        "active_units_counts": None if variances is None else [int((variances > threshold).sum()) for threshold in THRESHOLDS],
        "rate_per_dimension": None if codes.rates is None else codes.rates.mean(0).tolist(),
    }


def of_rate(codes: Encodings, chunk_size: int) -> dict[str, Any]:
    """The parts of the rate, and their standard errors over the examples."""
    terms = parts_of_rate(codes.z, codes.log_q, codes.log_p, codes.posteriors, codes.prior, chunk_size)
    report: dict[str, Any] = {"mutual_information_limit": math.log(len(codes.z))}
    for name, values in terms.items():
        report[name] = None if values is None else values.mean().item()
        report[f"{name}_std_error"] = None if values is None else standard_error(values)
    return report


def of_distances(codes: Encodings, kernel: str, scales: Sequence[float], num_projections: int, chunk_size: int) -> dict[str, Any]:
    """Distances between samples of q(z) and of p(z)."""
    names = ("mmd_squared", "mmd_squared_std_error", "sliced_wasserstein", "sliced_wasserstein_std_error", "sliced_wasserstein_of_prior")
    if codes.from_prior is None:
        return dict.fromkeys(names)
    z, u, v = (points.flatten(1) for points in (codes.z, *codes.from_prior.unbind(1)))
    distance, distance_error = sliced_wasserstein(z, u, num_projections)
    of_prior, _ = sliced_wasserstein(u, v, num_projections)
    return dict(zip(names, (*mmd_squared(z, u, kernel, scales, chunk_size), distance, distance_error, of_prior), strict=True))
