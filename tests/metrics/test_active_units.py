"""Active units: dimensions whose posterior mean moves with x."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from vaelab import VAE, likelihoods, posteriors, priors
from vaelab.metrics import active_units, evaluate
from vaelab.networks import MLP

pytestmark = pytest.mark.usefixtures("double")


def alternating(*variances: float, num: int = 10) -> Tensor:
    """Means (num, len(variances)) that have exactly these variances over the examples: +-sqrt(v) around different centres."""
    signs = torch.tensor([1.0, -1.0]).repeat(num // 2)[:, None]
    return signs * torch.tensor(variances).sqrt() + torch.arange(len(variances))


def test_counts_the_units_built_to_be_active():
    """Three move, two do not, and one moves less than the paper's 0.01; where the means lie does not matter."""
    assert active_units(alternating(1.0, 0.0, 0.04, 25.0, 0.005, 0.0)) == 3
    assert active_units(alternating(0.0, 0.0)) == 0
    assert active_units(alternating(1.0, 1.0) + 1e3) == 2


@pytest.mark.parametrize(("variance", "active"), [(0.0099, 0), (0.0101, 1)])
def test_the_threshold_is_a_hundredth(variance, active):
    """Var > 0.01 (Burda et al., 2016)."""
    assert active_units(alternating(variance)) == active


def test_the_threshold_is_strict():
    """A variance that equals the threshold, 2^-6 without rounding, is not above it."""
    means = torch.tensor([[0.125], [-0.125]])
    assert active_units(means, threshold=2**-6) == 0
    assert active_units(means, threshold=2**-6 - 1e-9) == 1


def test_the_variance_divides_by_n():
    """As in the paper's code (ddof 0): two examples at +-sqrt(0.0075) have 0.0075, which is not active; by n - 1 it would be 0.015."""
    assert active_units(alternating(0.0075, num=2)) == 0
    assert active_units(alternating(0.0101, num=2)) == 1
    assert active_units(torch.ones(1, 3)) == 0  # one example has no variance, and not nan


def test_units_of_a_latent_image():
    """Every entry of z_shape is a unit."""
    means = alternating(1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.001).reshape(10, 2, 2, 2)
    assert active_units(means) == 4


def test_of_a_model_over_all_of_the_data():
    """An encoder mu_u = w_u x with Var(x) = 1 has w_u^2 for the variance of unit u, over all batches and not within one."""
    weights = torch.tensor([[2.0], [0.0], [0.11], [-0.09], [-0.5]])
    posterior = posteriors.Gaussian(partial(MLP, hidden=()), (1,), (5,))
    (linear,) = (module for module in posterior.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        linear.weight.copy_(torch.cat([weights, torch.randn(5, 1)]))  # log sigma moves with x as well, and does not count
        linear.bias.copy_(torch.cat([torch.randn(5), torch.zeros(5)]))
    model = VAE(posterior, likelihoods.Gaussian(MLP, (5,), (1,)), priors.StandardNormal((5,)))
    y = torch.zeros(4)
    one_sided = [(torch.ones(4, 1), y), (-torch.ones(4, 1), y)]
    report = evaluate(model, one_sided, num_samples=1)
    assert report["active_units"] == 3
    assert report["latent_dim"] == 5
    assert math.isfinite(report["elbo"])
