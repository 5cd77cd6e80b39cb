"""Pendulums and balls against their closed forms."""

import math

import pytest
import torch

from vaelab.data import trajectories
from vaelab.data.trajectories import FACTORS, bounced, swung


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_small_swing_is_a_cosine() -> None:
    """x = l a cos(sqrt(g / l) t), without damping; within the square of the angle and a step of integration."""
    length, angle, times = column(0.5, 1.0, 2.0), column(0.02, 0.02, 0.02), 200
    x = swung(angle, length, torch.zeros(3, dtype=torch.float64), times)[:, 0]
    t = 6 * torch.arange(times) / times
    expected = (length * angle)[:, None] * ((9.81 / length).sqrt()[:, None] * t).cos()
    torch.testing.assert_close(x, expected, rtol=0, atol=2e-4)


def test_a_swing_stays_on_its_circle_and_keeps_its_energy() -> None:
    x, y = swung(column(2.5), column(1.3), column(0.0), 400).unbind(1)
    torch.testing.assert_close(x.square() + y.square(), torch.full_like(x, 1.3**2))
    assert float(y.max()) == pytest.approx(-1.3 * math.cos(2.5), abs=0.01)  # it comes back to where it was let go
    damped = swung(column(2.5), column(1.3), column(0.8), 400)[:, 1]
    assert float(damped[:, 300:].max()) < float(y[:, 300:].max()) - 0.5


def test_a_ball_falls_by_a_parabola_and_bounces_to_the_square_of_its_elasticity() -> None:
    height, speed = bounced(column(2.0), column(10.0), column(0.5), 800).unbind(1)
    t = 4 * torch.arange(800) / 800
    falls = t < math.sqrt(2 * 2 / 10) - 0.01
    torch.testing.assert_close(height[0, falls], (2 - 5 * t.double() ** 2)[falls], rtol=0, atol=0.02)
    torch.testing.assert_close(speed[0, falls], (-10 * t.double())[falls], rtol=0, atol=0.02)
    after = (t > 0.65) & (t < 1.2)
    assert float(height[0, after].max()) == pytest.approx(2 * 0.5**2, abs=0.02)
    assert float(height.min()) >= 0


@pytest.mark.parametrize("kind", ["pendulum", "ball"])
def test_splits_are_disjoint_parts_of_the_grid_with_noise_of_their_own(kind: str) -> None:
    train, test = (trajectories(split, kind, times=16, num_train=60, num_test=30) for split in ("train", "test"))
    assert train.x.shape == (60, 2, 16)
    assert train.y_names == tuple(FACTORS[kind])
    assert not {tuple(y) for y in train.y.tolist()} & {tuple(y) for y in test.y.tolist()}
    assert torch.equal(train.render(train.y[7:9]), train.x[7:9])
    quiet = trajectories("train", kind, times=16, noise=0, num_train=60, num_test=30)
    assert float((train.x - quiet.x).std()) == pytest.approx(0.02, rel=0.1)
    with pytest.raises(ValueError, match=r"kind=spring is unknown: choose pendulum or ball"):
        trajectories("train", "spring")
