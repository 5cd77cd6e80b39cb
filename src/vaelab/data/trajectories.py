"""Series that are rendered from their factors of variation: no file, no download, and the whole grid of factors at hand."""

from collections.abc import Callable, Sequence
from math import pi

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vaelab.checks import check_at_least, check_choice, check_whole
from vaelab.data.synthetic import Rendered

STEPS_BETWEEN = 10  # of integration, between two times
TIMES = 64


def spread(index: Int[Tensor, "n"], size: int, low: float, high: float) -> Float[Tensor, "n"]:
    """Factor indices 0 ... size - 1 as equally spaced values from low to high."""
    return low + (high - low) * index.double() / (size - 1)


def swung(angle: Float[Tensor, "n"], length: Float[Tensor, "n"], damping: Float[Tensor, "n"], times: int) -> Float[Tensor, "n 2 t"]:
    """The position x, y of a pendulum that is let go, in metres below its pivot: l (sin a, -cos a), with a'' = -(g / l) sin a - c a'.

    By the semi-implicit Euler method over 6 seconds, g = 9.81 m/s^2.

    Args:
        angle: at which it is let go, in radians.
        length: l, in metres.
        damping: c, per second.
        times: T.
    """
    step, speed = 6.0 / (times * STEPS_BETWEEN), torch.zeros_like(angle)
    seen = []
    for i in range(times * STEPS_BETWEEN):
        if i % STEPS_BETWEEN == 0:
            seen.append(torch.stack([length * angle.sin(), -length * angle.cos()], dim=1))
        speed = speed - step * (9.81 / length * angle.sin() + damping * speed)
        angle = angle + step * speed
    return torch.stack(seen, dim=-1)


def bounced(height: Float[Tensor, "n"], gravity: Float[Tensor, "n"], elasticity: Float[Tensor, "n"], times: int) -> Float[Tensor, "n 2 t"]:
    """Height and speed of a ball that is dropped, in metres and metres per second, over 4 seconds.

    When it hits the ground, it keeps elasticity times its speed.

    Args:
        height: from which it is dropped, in metres.
        gravity: in m/s^2.
        elasticity: in (0, 1).
        times: T.
    """
    step, speed = 4.0 / (times * STEPS_BETWEEN), torch.zeros_like(height)
    seen = []
    for i in range(times * STEPS_BETWEEN):
        if i % STEPS_BETWEEN == 0:
            seen.append(torch.stack([height, speed], dim=1))
        speed = speed - step * gravity
        height = height + step * speed
        hits = (height < 0) & (speed < 0)
        speed, height = torch.where(hits, -elasticity * speed, speed), torch.where(hits, -height, height)
    return torch.stack(seen, dim=-1)


# names of the factors of each kind, how many values they have, and from where to where these go
FACTORS = {
    "pendulum": {"angle": (32, -0.8 * pi, 0.8 * pi), "length": (16, 0.5, 2.0), "damping": (16, 0.0, 0.8)},
    "ball": {"height": (32, 0.5, 3.0), "gravity": (16, 2.0, 15.0), "elasticity": (16, 0.3, 0.95)},
}
MOTIONS: dict[str, Callable[..., Tensor]] = {"pendulum": swung, "ball": bounced}


def trajectories(
    split: str,
    kind: str = "pendulum",
    times: int = TIMES,
    noise: float = 0.02,
    num_train: int = 6_000,
    num_test: int = 1_000,
    seed: int = 0,
) -> Rendered:
    """Noisy series of a pendulum or of a bouncing ball, (2, times), with the factors that made them: 8,192 of each kind.

    Factors of the pendulum: the angle at which it is let go (32), length (16) and damping (16); its two channels are x and y. Those of the
    ball: height (32), gravity (16) and elasticity (16); its channels are height and speed. The noise of an example is always the same.

    Args:
        split: "train" or "test".
        kind: "pendulum" or "ball".
        times: T, over 6 or 4 seconds.
        noise: its standard deviation, in the units of the channels.
        num_train, num_test: how many series each split has.
        seed: of which part of the grid of factors each has.

    Raises:
        ValueError: if the kind or the split is unknown, a number is out of range, or the grid has too few points.
    """
    check_choice(FACTORS, kind=kind)
    check_whole(2, times=times)
    check_at_least(0, noise=noise)
    factors = FACTORS[kind]
    sizes = [size for size, _, _ in factors.values()]

    def render(index: Tensor) -> Tensor:
        values = [spread(column, *scale) for column, scale in zip(index.unbind(1), factors.values(), strict=True)]
        clean = MOTIONS[kind](*values, times)
        return (clean + noise * noise_of(index, sizes, clean[0].shape)).float()

    return Rendered(render, tuple(factors), sizes, split, num_train, num_test, seed)


def noise_of(index: Int[Tensor, "n f"], sizes: Sequence[int], shape: Sequence[int]) -> Float[Tensor, "n c t"]:
    """Standard normal noise that depends on the point of the grid alone."""
    places = index[:, 0]
    for column, size in zip(index.unbind(1)[1:], sizes[1:], strict=True):
        places = places * size + column
    draws = [torch.randn(*shape, generator=torch.Generator().manual_seed(place), dtype=torch.float64) for place in places.tolist()]
    return torch.stack(draws)
