"""Weights that change while training: a number that is documented as "a number or a schedule" may be either.

A schedule is a callable from the optimiser step to a float. `at(weight, step)` reads either kind.
"""

import math
from collections.abc import Callable

from torch import Tensor

Schedule = Callable[[int], float]


def at(weight: float | Tensor | Schedule, step: int) -> float | Tensor:
    """The value of a weight, constant or scheduled, at an optimiser step; that of a model in a stack is a tensor."""
    return weight(step) if callable(weight) else weight


class Linear:
    """start until step `delay`, then a straight line to `end` over `steps`, then `end`.

    KL annealing (Bowman et al., 2016, https://arxiv.org/abs/1511.06349) and the capacity of Burgess et al. (2018,
    https://arxiv.org/abs/1804.03599).

    Raises:
        ValueError: if steps < 1 or delay < 0.
    """

    def __init__(self, start: float = 0.0, end: float = 1.0, steps: int = 1000, delay: int = 0) -> None:
        if steps < 1 or delay < 0:
            raise ValueError(f"a linear schedule needs steps >= 1 and delay >= 0, but steps={steps} and delay={delay}")
        self.start, self.end, self.steps, self.delay = start, end, steps, delay

    def __call__(self, step: int) -> float:
        progress = min(max(step - self.delay, 0) / self.steps, 1.0)
        return self.start + (self.end - self.start) * progress


class Sigmoid:
    """start + (end - start) / (1 + exp(-(step - center) / width)): half way at `center` (Bowman et al., 2016).

    Raises:
        ValueError: if width is not positive.
    """

    def __init__(self, start: float = 0.0, end: float = 1.0, center: float = 2500.0, width: float = 400.0) -> None:
        if width <= 0:
            raise ValueError(f"a sigmoid schedule needs width > 0, but width={width}")
        self.start, self.end, self.center, self.width = start, end, center, width

    def __call__(self, step: int) -> float:
        # tanh is the sigmoid that cannot overflow
        return self.start + (self.end - self.start) * (0.5 + 0.5 * math.tanh((step - self.center) / (2 * self.width)))


class Cyclical:
    """Every `period` steps: a straight line from start to end over the first `ratio` of the period, then `end`.

    Cyclical annealing (Fu et al., 2019, https://arxiv.org/abs/1903.10145; the paper's ratio is 0.5).

    Raises:
        ValueError: if period < 1 or ratio is outside (0, 1].
    """

    def __init__(self, start: float = 0.0, end: float = 1.0, period: int = 5000, ratio: float = 0.5) -> None:
        if period < 1 or not 0 < ratio <= 1:
            raise ValueError(f"a cyclical schedule needs period >= 1 and 0 < ratio <= 1, but period={period} and ratio={ratio}")
        self.start, self.end, self.period, self.ratio = start, end, period, ratio

    def __call__(self, step: int) -> float:
        progress = (step % self.period) / (self.period * self.ratio)
        return self.start + (self.end - self.start) * min(progress, 1.0)
