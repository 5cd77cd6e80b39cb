"""Learning rates that change while training, and when they do."""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from vaelab.checks import check_at_least, check_whole

MANY = 1_000_000  # steps, where it is not known yet how many


class Scheduling(NamedTuple):
    """A scheduler of torch, and what it is stepped by.

    Args:
        build: optimizer to scheduler; with `num_steps` among its arguments, it is planned over all steps of the optimizer.
        interval: "step" of the optimizer or "epoch", which the numbers of the scheduler count.
        monitor: the metric that a ReduceLROnPlateau watches; it is stepped after each validation.
    """

    build: Callable[..., Any]
    interval: str = "epoch"
    monitor: str = "val/bound"

    @property
    def is_planned(self) -> bool:
        """True if it takes the number of all steps of training, because it is not said how many it takes."""
        given = self.build.keywords if isinstance(self.build, partial) else {}
        return "num_steps" in inspect.signature(self.build).parameters and given.get("num_steps") is None

    def of(self, optimizer: Optimizer, num_steps: float | None) -> Any:
        """The scheduler of an optimizer that will be stepped so often; None: it is not known yet how often.

        Raises:
            ValueError: if it is planned over a training without an end, or cannot be stepped so often.
        """
        if self.is_planned and num_steps == math.inf:
            raise ValueError("the scheduler is planned over all of training: set trainer.max_epochs or trainer.max_steps, or its num_steps")
        scheduler = self.build(optimizer, num_steps=int(num_steps or MANY)) if self.is_planned else self.build(optimizer)
        if isinstance(scheduler, OneCycleLR) and num_steps is not None and scheduler.total_steps <= num_steps:
            raise ValueError(
                f"num_steps={scheduler.total_steps - 1} of a cycle are over before the {num_steps} steps of training: leave it null"
            )
        return scheduler


def cosine(optimizer: Optimizer, num_steps: int, warmup_steps: int = 0, final: float = 0.0) -> LRScheduler:
    """lr (t + 1) / w at the first w steps t, then half a cosine from lr down to final lr after the last step, and final lr from there on.

    Without a warm-up it is that of Loshchilov & Hutter (2017, https://arxiv.org/abs/1608.03983), without restarts. Groups of parameters
    with a learning rate of their own keep the ratio.

    Raises:
        ValueError: if a number is out of range, or the warm-up leaves no step.
    """
    check_whole(1, num_steps=num_steps)
    check_whole(0, warmup_steps=warmup_steps)
    check_at_least(0, final=final)
    if warmup_steps >= num_steps:
        raise ValueError(f"warmup_steps={warmup_steps} must be fewer than the {num_steps} steps of training")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min((step - warmup_steps) / (num_steps - warmup_steps), 1.0)
        return final + (1 - final) * (0.5 + 0.5 * math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def one_cycle(optimizer: Optimizer, num_steps: int, rising: float = 0.3, start: float = 0.04, final: float = 4e-6) -> LRScheduler:
    """A schedule from start lr up to lr and, after the last step, down to final lr, along half cosines.

    Smith & Topin (2018, https://arxiv.org/abs/1708.07120).

    torch's OneCycleLR, whose momentum goes the other way where the optimizer has one. Each group of parameters has its own lr as the top.

    Args:
        optimizer: its learning rates are the top.
        num_steps: of training.
        rising: the share of steps up to the top.
        start: times lr.
        final: times lr.

    Raises:
        ValueError: if a number is out of range.
    """
    check_whole(1, num_steps=num_steps)
    if not 0 < rising < 1 or not 0 < final < start <= 1:
        raise ValueError(f"a cycle needs 0 < rising < 1 and 0 < final < start <= 1, but they are {rising}, {final} and {start}")
    tops = [group["lr"] for group in optimizer.param_groups]
    momentum = any("betas" in group or group.get("momentum", 0) > 0 for group in optimizer.param_groups)
    return OneCycleLR(
        optimizer, tops, num_steps + 1, pct_start=rising, div_factor=1 / start, final_div_factor=start / final, cycle_momentum=momentum
    )
