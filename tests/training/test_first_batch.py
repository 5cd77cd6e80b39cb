"""The check of the first batch, before the first step."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Laplace, Normal

from vaelab.training.callbacks.first_batch import far_from_scale

REAL = {"normal": Normal(torch.zeros(3), 1.0), "laplace": Laplace(torch.zeros(3), 1.0)}
UNIFORM = 300 * torch.rand(200, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", REAL)
def test_values_far_from_1_are_to_be_scaled(name: str) -> None:
    """0 ... 300, whose root mean square is 300 / sqrt(3) = 173."""
    p_x = Independent(REAL[name], 1)
    size = float(UNIFORM.square().mean().sqrt())
    assert size == pytest.approx(300 / math.sqrt(3), rel=0.05)
    assert f"set data.scale=standardize, or divide the data by {size:.2g}" in far_from_scale(p_x, UNIFORM)
    assert far_from_scale(p_x, UNIFORM / size) == ""
    assert far_from_scale(p_x, 5 * torch.randn(200, 3)) == ""


def test_what_is_not_observed_has_no_scale() -> None:
    observed = torch.zeros(200, 3, dtype=torch.bool)
    assert far_from_scale(Independent(REAL["normal"], 1), UNIFORM, observed) == ""


def test_a_likelihood_of_other_values_says_what_it_wants() -> None:
    assert far_from_scale(Independent(Bernoulli(torch.full((3,), 0.5)), 1), UNIFORM) == ""
