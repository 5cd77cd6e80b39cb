"""Logarithms of scales: as they are where float32 is safe, and of logarithmic growth beyond."""

import math

import pytest
import torch

from vaelab.distributions import soft_limit


def test_inside_it_is_the_identity_bit_for_bit():
    x = torch.linspace(-15, 15, 10_001, requires_grad=True)
    y = soft_limit(x)
    assert torch.equal(y, x)
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize(("low", "high"), [(-15.0, 15.0), (-2.0, 3.0), (-math.inf, 20.0)])
def test_beyond_it_grows_like_a_logarithm(low, high, double):
    """With slope 1 / sqrt(1 + distance^2), which is 1 at the limit, as inside, and never 0."""
    distance = torch.tensor([0.0, 1e-6, 1.0, 45.0, 1e4])
    x = (high + distance).requires_grad_()
    y = soft_limit(x, low, high)
    torch.testing.assert_close(y, high + torch.asinh(x.detach() - high))
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(slope, (1 + (x.detach() - high).square()).rsqrt())
    if low > -math.inf:
        torch.testing.assert_close(soft_limit(low - distance, low, high), low - torch.asinh(distance))
    else:
        assert torch.equal(soft_limit(-distance, low, high), -distance)


def test_squares_of_gradients_stay_in_float32():
    """x = 1 under N(0, sigma^2) with log sigma = -60: what Adam squares is finite."""
    log_sigma = torch.tensor([-60.0, 60.0], requires_grad=True)
    torch.distributions.Normal(torch.zeros(2), soft_limit(log_sigma).exp()).log_prob(torch.ones(2)).sum().backward()
    assert log_sigma.grad.square().isfinite().all()
    assert log_sigma.grad.all()
