"""Weights over time, and what they do to the ELBO's gradient."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from linear_gaussian import LinearGaussian, at_sigma_points, orthogonal
from torch import Tensor
from torch.distributions import Independent, Normal

from vaelab import Draw, Latent
from vaelab.divergences import kl
from vaelab.objectives import ELBO
from vaelab.schedules import Cyclical, Linear, Sigmoid, at

pytestmark = pytest.mark.usefixtures("double")


def test_at_reads_constants_and_schedules():
    """A number is itself at every step; anything callable is called with the step."""
    assert at(0.3, 0) == at(0.3, 10**6) == 0.3
    assert at(4, 7) == 4
    assert at(lambda step: step / 4, 3) == 0.75
    assert at(Linear(steps=10), 5) == 0.5


def test_linear_at_its_knots():
    """start up to the delay, end from delay + steps on, and the line between."""
    schedule = Linear(start=0.5, end=2.5, steps=8, delay=4)
    assert [schedule(step) for step in (0, 4, 6, 8, 12, 13, 10**9)] == [0.5, 0.5, 1.0, 1.5, 2.5, 2.5, 2.5]
    falling = Linear(start=4.0, end=1.0, steps=3)
    assert [falling(step) for step in range(5)] == [4.0, 3.0, 2.0, 1.0, 1.0]


def test_sigmoid_at_its_knots():
    """Half way at the centre; sigmoid(1) one width after; antisymmetric about the centre; the ends in the limit, without overflow."""
    schedule = Sigmoid(start=1.0, end=3.0, center=100, width=20)
    assert schedule(100) == 2.0
    assert schedule(120) == pytest.approx(1 + 2 / (1 + math.exp(-1)), abs=1e-12)
    for distance in (1, 33, 80):
        assert schedule(100 + distance) + schedule(100 - distance) == pytest.approx(4.0, abs=1e-12)
        assert schedule(100 - distance) == pytest.approx(1 + 2 / (1 + math.exp(distance / 20)), abs=1e-12)
    assert schedule(10**9) == 3.0
    assert Sigmoid(center=10.0**6, width=1e-3)(0) == 0.0


def test_cyclical_at_its_knots():
    """start at every multiple of the period, end from its `ratio` on (Fu et al., 2019)."""
    schedule = Cyclical(start=0.0, end=2.0, period=8, ratio=0.5)
    one = [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0]
    assert [schedule(step) for step in range(24)] == one * 3
    saw = Cyclical(start=0.0, end=1.0, period=4, ratio=1.0)
    assert [saw(step) for step in range(6)] == [0.0, 0.25, 0.5, 0.75, 0.0, 0.25]


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [(Linear(0.2, 1.7, steps=50, delay=10), 100), (Sigmoid(0.2, 1.7, center=50, width=9), 100), (Cyclical(0.2, 1.7, period=60), 60)],
)
def test_schedules_rise_and_stay_between_their_ends(schedule, steps):
    """Monotone, within a cycle for the cyclical one; never outside [start, end]."""
    values = [schedule(step) for step in range(steps)]
    assert all(later >= earlier for earlier, later in pairwise(values))
    assert values[-1] > values[0]
    assert min(values) >= 0.2 - 1e-12
    assert max(values) <= 1.7 + 1e-12


@pytest.mark.parametrize(
    "wrong",
    [
        partial(Linear, steps=0),
        partial(Linear, delay=-1),
        partial(Sigmoid, width=0.0),
        partial(Sigmoid, width=-1.0),
        partial(Cyclical, period=0),
        partial(Cyclical, ratio=0.0),
        partial(Cyclical, ratio=1.1),
    ],
)
def test_schedules_refuse_what_has_no_meaning(wrong):
    """The message says what is needed and what was given."""
    ((name, value),) = wrong.keywords.items()
    with pytest.raises(ValueError, match=rf"needs .*{name}.*{name}={value}"):
        wrong()


@pytest.mark.parametrize(
    "wrong",
    [{"beta": -0.1}, {"num_samples": 0}, {"free_bits": -1.0}, {"capacity": 1.0, "free_bits": 0.5}, {"capacity": 0.0, "free_bits": 0.5}],
)
def test_elbo_refuses_what_has_no_meaning(wrong):
    """Each number out of range, and two targets for one rate, with the name of the option."""
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}="):
        ELBO(**wrong)


def encoder_gradients(model: torch.nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.posterior.parameters()), retain_graph=True))


def test_beta_zero_has_no_gradient_of_the_rate():
    """A decoder that ignores z leaves an encoder at beta = 0 nothing to learn; at beta = 1 the KL pulls at it."""
    ignoring = LinearGaussian(torch.zeros(6, 2), torch.randn(6), sigma=0.5)
    model, x = ignoring.vae((6,), shift=0.7, widen=0.6), ignoring.sample(4)
    draw = model(x, num_samples=3)
    assert all((gradient == 0).all() for gradient in encoder_gradients(model, ELBO(beta=0.0)(draw, step=0)["loss"]))
    assert any((gradient != 0).any() for gradient in encoder_gradients(model, ELBO(beta=1.0)(draw, step=0)["loss"]))


def test_beta_zero_trains_on_the_distortion_alone():
    """E_q[-log p(x | z)] is quadratic: d/d log sigma_j = sigma_j^2 ||w_j||^2 / sigma^2, with no pull of the prior against it."""
    theory = orthogonal()
    model, x = theory.vae((6,), shift=0.7, widen=0.6), theory.sample(4)
    draw = at_sigma_points(model, x)
    loss = ELBO(beta=0.0)(draw, step=0)["loss"]
    for of_loss, of_distortion in zip(encoder_gradients(model, loss), encoder_gradients(model, -draw.log_px.mean()), strict=True):
        torch.testing.assert_close(of_loss, of_distortion, rtol=0, atol=1e-12)
    by_bias = encoder_gradients(model, loss)[1]
    expected = draw.latent.q.variance[0] * theory.weight.square().sum(0) / theory.sigma**2
    torch.testing.assert_close(by_bias[2:], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("estimator", ["analytic", "k1", "k2", "k3"])
def test_beta_multiplies_the_rate(estimator):
    """loss = D + beta R for the reported D and R, and so for the gradients; the reported elbo stays -(D + R)."""
    theory = orthogonal()
    model, x = theory.vae((6,), shift=0.7), theory.sample(4)
    draw = model(x, num_samples=3)
    distortion, rate = -draw.log_px.mean(), kl(draw.latent, estimator).mean()
    for beta in (0, 0.25, 1.0, 4):
        terms = ELBO(beta=beta, kl=estimator)(draw, step=0)
        torch.testing.assert_close(terms["loss"], distortion + beta * rate, rtol=0, atol=1e-12)
        torch.testing.assert_close(terms["elbo"], -(distortion + rate), rtol=0, atol=1e-12)
        assert set(terms) == {"loss", "elbo", "distortion", "rate"}
        whole, parts = encoder_gradients(model, terms["loss"]), encoder_gradients(model, distortion)
        for total, of_distortion, of_rate in zip(whole, parts, encoder_gradients(model, rate), strict=True):
            torch.testing.assert_close(total, of_distortion + beta * of_rate, rtol=0, atol=1e-12)


def test_only_the_loss_carries_a_gradient():
    """What is logged beside the loss is detached."""
    theory = orthogonal()
    terms = ELBO(beta=Linear(steps=4), capacity=Linear(steps=4))(theory.vae((6,))(theory.sample(4)), step=1)
    assert {name for name, value in terms.items() if value.requires_grad} == {"loss"}


def with_rates(rates: Tensor) -> tuple[Draw, Tensor, Tensor]:
    """A draw whose q = N(mu, I) has these KLs (B, d) to N(0, I), mu = sqrt(2 R), and whose x knows nothing of z; with mu and log sigma."""
    loc = (2 * rates).sqrt().requires_grad_()
    log_scale = torch.zeros_like(rates).requires_grad_()
    q, p = Independent(Normal(loc, log_scale.exp()), 1), Independent(Normal(torch.zeros(rates.shape[1]), 1.0), 1)
    z = q.rsample((2,))
    p_x = Independent(Normal(torch.zeros(2, len(rates), 3), 1.0), 1)
    return Draw(x=torch.ones(len(rates), 3), y=None, p_x=p_x, latents=(Latent(z=z, q=q, p=p, log_q=q.log_prob(z)),)), loc, log_scale


DISTORTION = 1.5 * math.log(2 * math.pi) + 1.5  # three ones under N(0, 1)


def test_a_beta_schedule_reads_the_step():
    """loss = D + beta(step) R, and beta is among the terms."""
    draw, _, _ = with_rates(torch.tensor([[0.5, 1.0], [1.5, 2.0]]))  # rates 1.5 and 3.5, 2.5 in the mean
    objective = ELBO(beta=Linear(start=0.0, end=2.0, steps=4))
    for step, beta in ((0, 0.0), (1, 0.5), (4, 2.0), (100, 2.0)):
        terms = objective(draw, step)
        assert terms["beta"].item() == beta
        assert terms["loss"].item() == pytest.approx(DISTORTION + beta * 2.5, abs=1e-12)
        assert terms["elbo"].item() == pytest.approx(-DISTORTION - 2.5, abs=1e-12)


def test_capacity_holds_the_rate_to_a_target():
    """loss = D + gamma |R - C| (Burgess et al., 2018): the gradient of the rate points down above C, and up below it."""
    rates = torch.tensor([[0.5, 1.0], [1.5, 2.0]])
    objective = ELBO(beta=10.0, capacity=Linear(start=0.0, end=4.0, steps=4))
    for step, capacity in ((0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (9, 4.0)):
        draw, loc, _ = with_rates(rates)
        terms = objective(draw, step)
        assert terms["capacity"].item() == capacity
        assert terms["loss"].item() == pytest.approx(DISTORTION + 10 * abs(2.5 - capacity), abs=1e-12)
        assert terms["elbo"].item() == pytest.approx(-DISTORTION - 2.5, abs=1e-12)
        terms["loss"].backward()
        sign = 1 if capacity < 2.5 else -1
        torch.testing.assert_close(loc.grad, sign * 10 * loc.detach() / 2)  # dR/dmu = mu, over a batch of 2
    constant = ELBO(capacity=2.0)(with_rates(rates)[0], step=0)
    assert constant["loss"].item() == pytest.approx(DISTORTION + 0.5, abs=1e-12)


def test_free_bits_stop_pressing_a_dimension_below_lambda():
    """D + beta sum_j max(lambda, R_j): no gradient for a dimension below lambda, the full one above it (Kingma et al., 2016).

    The rate of a dimension is its mean over the minibatch: an example below lambda is still pressed if its dimension is above.
    """
    rates = torch.tensor([[0.1, 0.2, 3.0, 0.0], [0.3, 1.8, 1.0, 0.0]])  # in the mean 0.2, 1.0, 2.0, 0.0
    draw, loc, log_scale = with_rates(rates)
    terms = ELBO(beta=3.0, free_bits=0.5)(draw, step=0)
    assert terms["loss"].item() == pytest.approx(DISTORTION + 3 * (0.5 + 1.0 + 2.0 + 0.5), abs=1e-12)
    assert terms["rate"].item() == pytest.approx(3.2, abs=1e-12)
    assert terms["elbo"].item() == pytest.approx(-DISTORTION - 3.2, abs=1e-12)
    terms["loss"].backward()
    assert (loc.grad[:, [0, 3]] == 0).all()
    assert (log_scale.grad == 0).all()  # dR / d log sigma = sigma^2 - 1, which is 0 here
    torch.testing.assert_close(loc.grad[:, 1:3], 3 * loc.detach()[:, 1:3] / 2)


def test_free_bits_stop_the_scale_as_well():
    """The same for log sigma, whose own gradient is (sigma^2 - 1) / B above lambda."""
    log_scale = torch.tensor([[-0.1, -2.0]]).expand(2, 2).clone().requires_grad_()  # rates 0.009 and 1.509
    q, p = Independent(Normal(torch.zeros(2, 2), log_scale.exp()), 1), Independent(Normal(torch.zeros(2), 1.0), 1)
    z = q.rsample((1,))
    p_x = Independent(Normal(torch.zeros(1, 2, 3), 1.0), 1)
    draw = Draw(x=torch.ones(2, 3), y=None, p_x=p_x, latents=(Latent(z=z, q=q, p=p, log_q=q.log_prob(z)),))
    ELBO(free_bits=0.1)(draw, step=0)["loss"].backward()
    assert (log_scale.grad[:, 0] == 0).all()
    torch.testing.assert_close(log_scale.grad[:, 1], torch.full((2,), (math.exp(-4) - 1) / 2))


def test_zero_free_bits_are_the_elbo():
    """max(0, R_j) = R_j."""
    draw, _, _ = with_rates(torch.tensor([[0.5, 1.0], [1.5, 2.0]]))
    assert ELBO(free_bits=0.0)(draw, step=0)["loss"].item() == pytest.approx(DISTORTION + 2.5, abs=1e-12)
