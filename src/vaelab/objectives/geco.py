"""Taming VAEs (Rezende & Viola, 2018, https://arxiv.org/abs/1810.00597): the rate is minimised subject to a distortion."""

import torch
from torch import Tensor

from vaelab.checks import check_whole
from vaelab.collectives import all_mean
from vaelab.divergences import mean_rate
from vaelab.draw import Draw
from vaelab.objectives.base import Objective, check_kl

MAX_LOG_MULTIPLIER = 10.0  # a target that cannot be reached would otherwise raise lambda without end


class GECO(Objective):
    """loss = R + lambda (D - target), where lambda rises while D is above its target and falls while it is below.

    log lambda moves by step_size C / |target| a step, C being the running mean of D - target (algorithm 1, with the constraint taken
    relative to its target and within [-1, 1], so that one step size fits all scales). Both are kept in checkpoints, and are the same for
    several processes: D is then the mean of theirs.

    Args:
        target: the distortion in nats per example that is allowed.
        kl: as in `ELBO`.
        num_samples: of z for each example.
        step_size: of log lambda.
        decay: of the running mean.

    Raises:
        ValueError: if target is 0, or step_size or decay is out of range.
    """

    log_multiplier: Tensor
    constraint: Tensor

    def __init__(self, target: float, kl: str = "analytic", num_samples: int = 1, step_size: float = 0.01, decay: float = 0.9) -> None:
        super().__init__()
        if target == 0 or not 0 <= decay < 1 or step_size <= 0:
            raise ValueError(
                f"geco needs objective.target other than 0, 0 <= decay < 1 and step_size > 0, but they are {target}, {decay}, {step_size}"
            )
        self.target, self.step_size, self.decay = target, step_size, decay
        check_kl(kl)
        check_whole(1, num_samples=num_samples)
        self.kl, self.num_samples = kl, num_samples
        self.register_buffer("log_multiplier", torch.zeros(()))
        self.register_buffer("constraint", torch.full((), torch.nan))  # nothing was seen yet

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        distortion = -draw.log_px.mean()
        rate = mean_rate(draw, self.kl)
        multiplier = self.log_multiplier.exp()
        if self.training and torch.is_grad_enabled():
            self._move(all_mean(distortion.detach()) - self.target)
        return {
            "loss": rate + multiplier * (distortion - self.target),
            "elbo": -(distortion + rate).detach(),
            "distortion": distortion.detach(),
            "rate": rate.detach(),
            "multiplier": multiplier,
        }

    @property
    def not_a_bound(self) -> str:
        return f"the distortion is held to target={self.target:g}"

    def _move(self, excess: Tensor) -> None:
        mean = torch.where(self.constraint.isnan(), excess, torch.lerp(excess, self.constraint, self.decay))
        self.constraint = mean  # a new tensor: the old ones may be in the graph of the loss
        relative = (mean / abs(self.target)).clamp(-1, 1)  # a start far above the target would raise lambda much faster than it could fall
        self.log_multiplier = (self.log_multiplier + self.step_size * relative).clamp(-MAX_LOG_MULTIPLIER, MAX_LOG_MULTIPLIER)
