"""Updates that are left out because their gradient is far too large (Child, 2021, https://arxiv.org/abs/2011.10650)."""

from collections import deque
from math import inf, isfinite
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy
from torch.optim import Optimizer

from vaelab.checks import check_all, check_positive, check_whole
from vaelab.runs.log import tell
from vaelab.training.lit import LitVAE


class SkipUpdates(Callback):
    """Leaves out each update whose gradient norm is not finite, or above `factor` times a quantile of the latest norms.

    The norm is that of the whole gradient before it is clipped. The window of latest norms takes in those that were skipped, so that after
    a lasting change of their size updates go on as soon as a share of 1 - `quantile` of the window is new; norms that are not finite stay
    outside. A skipped step counts as a step, for schedules too; weights and the optimizer's averages stay what they were, and what the
    forward pass changed (running means of batch-norm, codes that follow averages) stays changed. On a GPU each step waits for its norm.

    Logs train/gradient_norm and train/skipped_updates, how many there were so far. Says once if at least a share `alarm` of the window was
    skipped.

    Args:
        quantile: of the window, in (0, 1).
        factor: of the quantile, which a norm may reach.
        window: steps whose norms are remembered.
        warmup: norms there must be before one can be too large.
        alarm: share of skipped steps, in (0, 1].

    Raises:
        ValueError: if an option is out of range; or in a fit, if processes share out the gradient.
    """

    def __init__(self, quantile: float = 0.99, factor: float = 2.0, window: int = 1000, warmup: int = 100, alarm: float = 0.1) -> None:
        check_all(lambda share: 0 < share < 1, "in (0, 1)", {"quantile": quantile})
        check_all(lambda share: 0 < share <= 1, "in (0, 1]", {"alarm": alarm})
        check_positive(factor=factor)
        check_whole(2, window=window, warmup=warmup)
        if warmup > window:
            raise ValueError(f"warmup={warmup} must not be larger than window={window}, which holds the norms")
        self.quantile, self.factor, self.warmup, self.alarm = quantile, factor, warmup, alarm
        self.norms, self.skipped = deque[float](maxlen=window), deque[bool](maxlen=window)
        self.num_skipped, self.told = 0, False

    def limit(self) -> float:
        """The largest norm that an update may have now; infinity during the warm-up."""
        return inf if len(self.norms) < self.warmup else self.factor * float(np.quantile(np.array(self.norms), self.quantile))

    def skips(self, norm: float) -> bool:
        """True if the update of a gradient of this norm is left out; the norm is remembered."""
        skipped = not norm <= self.limit() or not isfinite(norm)
        if isfinite(norm):
            self.norms.append(norm)
        self.skipped.append(skipped)
        self.num_skipped += skipped
        return skipped

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LitVAE)
        pl_module.stops_at_nan = False  # which is what is skipped here
        if isinstance(trainer.strategy, FSDPStrategy):
            raise ValueError("trainer=fsdp is not for callbacks.skip_updates, which needs the whole gradient: set trainer=ddp")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        assert isinstance(pl_module, LitVAE)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters]).item()
        if self.skips(norm):
            for parameter in parameters:
                parameter.grad = None  # for which torch's optimizers change neither the parameter nor what they remember of it
        if pl_module.logs_next_step():
            pl_module.log_dict({"train/gradient_norm": norm, "train/skipped_updates": float(self.num_skipped)})
        share = sum(self.skipped) / len(self.skipped)
        if share >= self.alarm and len(self.skipped) >= self.warmup and not self.told:
            self.told = True
            if trainer.is_global_zero:
                tell(
                    f"warning: {sum(self.skipped)} of the last {len(self.skipped)} updates were skipped, because their gradients were too"
                    f" large (above {self.limit():.3g}) or not finite. Lower optimizer.lr, set trainer.gradient_clip_val=1, or raise"
                    " callbacks.skip_updates.factor"
                )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.num_skipped and trainer.is_global_zero:
            tell(f"\n{self.num_skipped} of {trainer.global_step} updates were skipped for their gradients")

    def state_dict(self) -> dict[str, Any]:
        return {"norms": list(self.norms), "skipped": list(self.skipped), "num_skipped": self.num_skipped, "told": self.told}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.norms.extend(state_dict["norms"])
        self.skipped.extend(state_dict["skipped"])
        self.num_skipped, self.told = state_dict["num_skipped"], state_dict["told"]
