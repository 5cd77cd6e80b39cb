"""The Bernoulli distribution without log1p: the same logarithms and derivatives as PyTorch's."""

import pytest
import torch
from torch.nn.functional import logsigmoid

from vaelab.distributions import Bernoulli

LOGITS = torch.cat([torch.linspace(-30, 30, 601), torch.tensor([0.0, -0.0, 1e-20, 88.0, -88.0, 104.0, -104.0, 1e4, -1e4, 3e38, -3e38])])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("x", [0.0, 1.0])
def test_it_is_the_log_sigmoid(dtype, x):
    """log p(1) = log sigma(l), log p(0) = log sigma(-l), to the machine precision of a number in [0, log 2] or of the result itself."""
    logits = LOGITS.to(dtype)
    exact = logsigmoid((2 * x - 1) * logits.double())
    found = Bernoulli(logits=logits, validate_args=False).log_prob(torch.full_like(logits, x)).double()
    eps = torch.finfo(dtype).eps
    assert ((found - exact).abs() <= eps * (1 + exact.abs())).all()


@pytest.mark.parametrize("x", [0.0, 0.25, 1.0])
def test_its_derivative(x):
    """x - sigma(l), forwards and backwards, also at l = 0."""
    logits = LOGITS.double().requires_grad_()
    expected = x - logits.detach().sigmoid()
    (found,) = torch.autograd.grad(Bernoulli(logits=logits, validate_args=False).log_prob(torch.full_like(logits, x)).sum(), logits)
    torch.testing.assert_close(found, expected)
    found = torch.func.jvp(
        lambda logits: Bernoulli(logits=logits, validate_args=False).log_prob(torch.full_like(logits, x)),
        (logits.detach(),),
        (torch.ones_like(expected),),
    )[1]
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-14)


def test_a_gradient_in_the_tail_is_not_rounded_away():
    """-sigma(-40) = -4e-18 in float32, which 1 - sigma(40) has lost."""
    logits = torch.tensor([-40.0], requires_grad=True)
    Bernoulli(logits=logits, validate_args=False).log_prob(torch.zeros(1)).sum().backward()
    assert logits.grad.item() == pytest.approx(-4.248354e-18, rel=1e-5)


def test_values_broadcast():
    logits, x = torch.randn(4, 5, 1, 3), torch.randint(2, (5, 2, 3)).float()
    found = Bernoulli(logits=logits, validate_args=False).log_prob(x)
    torch.testing.assert_close(found, torch.distributions.Bernoulli(logits=logits).log_prob(x))
