"""GECO's multiplier step by step, and the constrained optimum that it leads to (Rezende & Viola, 2018)."""

import math

import pytest
import torch
from linear_gaussian import LinearGaussian, at_sigma_points, orthogonal
from torch.distributions import Independent, Normal

from vaelab import Draw, Latent
from vaelab.objectives import GECO

pytestmark = pytest.mark.usefixtures("double")


def draw_of(distortion: float, rate: float) -> Draw:
    """A draw with this distortion, and q = N(sqrt(2 R), 1) with this rate."""
    q, p = Independent(Normal(torch.full((2, 1), math.sqrt(2 * rate)), 1.0), 1), Independent(Normal(torch.zeros(1), 1.0), 1)
    z = q.rsample((1,))
    p_x = Independent(Normal(torch.zeros(1, 2, 1), math.exp(distortion - 0.5 * math.log(2 * math.pi))), 1)
    return Draw(x=torch.zeros(2, 1), y=None, p_x=p_x, latents=(Latent(z=z, q=q, p=p, log_q=q.log_prob(z)),))


@pytest.mark.parametrize("target", [20.0, -4.0])
def test_the_multiplier_moves_as_computed_by_hand(target):
    """C = .75 C + .25 (D - target), starting at the first excess; log lambda += .1 C / |target|, at most .1 either way.

    loss = R + lambda (D - target).
    """
    objective = GECO(target, step_size=0.1, decay=0.75)
    log_multiplier, constraint = 0.0, None
    for step, (distortion, rate) in enumerate([(30.0, 1.0), (26.0, 2.0), (12.0, 3.0), (target, 2.5), (-10.0, 0.5)]):
        terms = objective(draw_of(distortion, rate), step)
        excess = distortion - target
        assert terms["loss"].item() == pytest.approx(rate + math.exp(log_multiplier) * excess, abs=1e-10)
        assert terms["multiplier"].item() == pytest.approx(math.exp(log_multiplier), abs=1e-12)  # the one that was used
        assert terms["distortion"].item() == pytest.approx(distortion, abs=1e-10)
        assert terms["rate"].item() == pytest.approx(rate, abs=1e-10)
        assert terms["elbo"].item() == pytest.approx(-distortion - rate, abs=1e-10)
        constraint = excess if constraint is None else 0.75 * constraint + 0.25 * excess
        log_multiplier += 0.1 * max(-1.0, min(constraint / abs(target), 1.0))
        assert objective.constraint.item() == pytest.approx(constraint, abs=1e-10)
        assert objective.log_multiplier.item() == pytest.approx(log_multiplier, abs=1e-10)


def test_it_moves_in_training_only():
    """Not in evaluation mode, and not without gradients; and then goes on from where it was."""
    objective = GECO(20.0, step_size=0.02, decay=0.99)
    objective(draw_of(30.0, 1.0), 0)
    state = {name: value.clone() for name, value in objective.state_dict().items()}
    assert set(state) == {"log_multiplier", "constraint"}
    with torch.no_grad():
        objective(draw_of(50.0, 1.0), 1)
    objective.eval()
    terms = objective(draw_of(50.0, 1.0), 1)
    assert terms["multiplier"].item() == pytest.approx(math.exp(0.02 * 10 / 20), abs=1e-12)
    torch.testing.assert_close(objective.state_dict(), state, rtol=0, atol=0)
    again = GECO(20.0, step_size=0.02, decay=0.99)
    again.load_state_dict(state)
    for one in (objective.train(), again):
        one(draw_of(22.0, 1.0), 2)
    torch.testing.assert_close(objective.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert objective.constraint.item() == pytest.approx(0.99 * 10 + 0.01 * 2)


def test_a_target_out_of_reach_does_not_raise_the_multiplier_without_end():
    """log lambda stays within [-10, 10]; what the loss used before stays what it was, for its backward pass comes later."""
    high, low = GECO(1.0, step_size=1.0), GECO(1.0, step_size=1.0)
    for _ in range(20):
        first = high(draw_of(3.0, 1.0), 0)
        low(draw_of(-3.0, 1.0), 0)
    assert (high.log_multiplier.item(), low.log_multiplier.item()) == (10, -10)
    assert first["loss"].item() == pytest.approx(1 + 2 * math.exp(10), rel=1e-12)


def test_it_finds_the_posterior_that_meets_the_constraint():
    """Least rate with D = target: q is the posterior for a noise of sigma^2 / lambda. A target that belongs to lambda = 3 leads there.

    Only the posterior is trained, without noise, from the posterior for lambda = 1 on.
    """
    theory = orthogonal()
    x, model = theory.sample(20), theory.vae((6,))
    optimum = LinearGaussian(theory.weight, theory.bias, theory.sigma / math.sqrt(3))
    tempered = optimum.vae((6,))
    tempered.likelihood = model.likelihood
    target = -at_sigma_points(tempered, x).log_px.mean().item()
    assert -at_sigma_points(model, x).log_px.mean().item() > target + 0.1

    objective = GECO(target, step_size=0.1, decay=0.5)
    optimizer = torch.optim.Adam(model.posterior.parameters(), lr=0.03)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000, eta_min=1e-4)
    for step in range(1000):
        optimizer.zero_grad()
        terms = objective(at_sigma_points(model, x), step)
        terms["loss"].backward()
        optimizer.step()
        scheduler.step()
    assert terms["distortion"].item() == pytest.approx(target, abs=1e-3)
    assert terms["multiplier"].item() == pytest.approx(3, rel=0.01)
    q = model.encode(x)
    torch.testing.assert_close(q.mean.detach(), optimum.posterior(x).mean, rtol=0, atol=0.01)
    torch.testing.assert_close(q.variance.detach(), optimum.posterior(x).variance.expand(20, 2), rtol=0, atol=0.01)


@pytest.mark.parametrize("wrong", [{"target": 0.0}, {"step_size": 0.0}, {"step_size": -1.0}, {"decay": 1.0}, {"decay": -0.1}])
def test_it_refuses_what_has_no_meaning(wrong):
    with pytest.raises(ValueError, match=r"objective.target other than 0, 0 <= decay < 1 and step_size > 0, but they are"):
        GECO(**{"target": 1.0} | wrong)


def test_it_refuses_what_the_elbo_refuses():
    with pytest.raises(ValueError, match=r"num_samples=0 must be a whole number of at least 1"):
        GECO(1.0, num_samples=0)
    with pytest.raises(ValueError, match=r"kl=k4 is unknown: choose analytic, k1, k2 or k3"):
        GECO(1.0, kl="k4")
