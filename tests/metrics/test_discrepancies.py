"""Distances between two sets of samples: of laws whose distance is known."""

import math

import pytest
import torch
from standard_errors import assert_mean
from torch.distributions import Normal

from vaelab.metrics.latent import mmd_squared, sliced_wasserstein
from vaelab.objectives import mmd

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("kernel", ["rbf", "imq"])
@pytest.mark.parametrize("chunk_size", [1, 7, 20, 1000])
def test_the_mmd_is_that_of_the_objectives(kernel, chunk_size):
    """In chunks of rows that divide 20 or do not."""
    z, u, scales = torch.randn(20, 3), 2 * torch.randn(20, 3) + 1, (0.5, 1.0, 4.0)
    assert mmd_squared(z, u, kernel, scales, chunk_size)[0] == pytest.approx(mmd.mmd(z, u, kernel, scales).item(), abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_mmd_of_two_gaussians(shift):
    """E exp(-(a - b)^2 / C) = sqrt(C / (C + 4)) exp(-m^2 / (C + 4)) where a - b ~ N(m, 2): unbiased, and 0 for equal laws.

    What 400 repetitions spread by is the standard error: at most 30 % off for laws that differ, and up to sqrt(2) below it for equal ones.
    """
    width = 2 * 1 * 0.5
    exact = 2 * math.sqrt(width / (width + 4)) * (1 - math.exp(-(shift**2) / (width + 4)))
    draws = [mmd_squared(torch.randn(60, 1) + shift, torch.randn(60, 1), "rbf", (0.5,)) for _ in range(400)]
    estimates, errors = torch.tensor(draws).T
    assert_mean(estimates, exact)
    claimed = (errors.square().mean().sqrt() / estimates.std()).item()
    assert 0.9 < claimed < (1.3 if shift else 1.7)


def test_the_sliced_wasserstein_distance_of_two_gaussians_in_one_dimension():
    """W_2^2 = m^2 + (s - 1)^2, from the quantiles of N(m, s^2) and N(0, 1), whose own variance is just below 1; in any order."""
    u = Normal(0.0, 1.0).icdf((torch.arange(10_000) + 0.5) / 10_000)[:, None]
    distance, error = sliced_wasserstein(1.5 + 3 * u[torch.randperm(10_000)], u, num_projections=3)
    assert distance == pytest.approx(math.sqrt(1.5**2 + 4 * u.square().mean().item()), abs=1e-10)
    assert distance == pytest.approx(2.5, rel=1e-3)
    assert error == pytest.approx(0, abs=1e-8)  # both directions of a line are the same


def test_the_sliced_wasserstein_distance_of_a_shift():
    """Along w, every point moves by m w: the mean square over directions is |m|^2 / D, up to the standard error that is reported."""
    u = torch.randn(50, 3)
    shift = torch.tensor([1.0, -2.0, 2.0])
    distance, error = sliced_wasserstein(u[torch.randperm(50)] + shift, u, num_projections=2000)
    assert abs(distance - math.sqrt(9 / 3)) < 5 * error
    again = torch.tensor([sliced_wasserstein(u + shift, u, num_projections=200)[0] for _ in range(200)])
    _, claimed = sliced_wasserstein(u + shift, u, num_projections=200)
    assert again.std().item() == pytest.approx(claimed, rel=0.3)


def test_two_sets_of_the_same_points_are_at_distance_zero():
    """Whatever their order; two sets of samples of one law are not."""
    u = torch.randn(50, 3)
    assert sliced_wasserstein(u, u) == (0.0, None)
    assert sliced_wasserstein(u, u.flip(0))[0] == pytest.approx(0, abs=1e-12)
    assert sliced_wasserstein(u, torch.randn(50, 3))[0] > 0.05
    assert sliced_wasserstein(u, torch.randn(50, 3), num_projections=1)[1] is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: mmd_squared(z, z, "gauss"), "kernel=gauss is unknown: choose imq or rbf"),
        (lambda z: mmd_squared(z, z, "imq", (1.0, 0.0)), r"scales=\[1.0, 0.0\] must be positive"),
        (lambda z: mmd_squared(z, z[:4]), r"as many samples.*\(5, 2\) and \(4, 2\)"),
        (lambda z: mmd_squared(z[:1], z[:1]), "at least 2"),
        (lambda z: sliced_wasserstein(z, z[:4]), r"as many samples.*\(5, 2\) and \(4, 2\)"),
        (lambda z: sliced_wasserstein(z, z, 0), "num_projections=0 must be at least 1"),
    ],
)
def test_what_cannot_be_compared_is_said(call, message):
    """One ValueError with the value."""
    with pytest.raises(ValueError, match=message):
        call(torch.randn(5, 2))
