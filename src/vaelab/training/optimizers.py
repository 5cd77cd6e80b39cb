"""Optimizers that torch does not have."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Adam


class AdamNormGrad(Adam):
    """Adam of gradients of length 1: g / (||g|| + 1e-7) of each tensor of weights in place of g.

    From the code of Tomczak & Welling (2018, https://arxiv.org/abs/1705.07120). Takes what `torch.optim.Adam` takes. To clip gradients
    by their norm before changes nothing.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Losses in float16 are scaled up. Fused Adam takes the scale out of the gradients inside its own step, which would make
        # gradients of length 1 as small as eps. With this flag, the GradScaler takes it out before the step.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step. A closure computes loss and gradients anew first, and its loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.grad.div_(weight.grad.norm() + 1e-7)
        super().step()
        return loss
