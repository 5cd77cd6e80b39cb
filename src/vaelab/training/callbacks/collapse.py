"""A watch over the latent variables: are they used while they are learned?"""

from math import isclose
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import Strategy
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vaelab.checks import check_at_least
from vaelab.distributions import centre, is_euclidean
from vaelab.draw import Draw
from vaelab.objectives import Objective
from vaelab.runs.log import tell
from vaelab.schedules import Schedule
from vaelab.training.lit import LitVAE

HORIZON = 1_000_000  # steps, of a training without an end


class PosteriorCollapse(Callback):
    """Logs val/active_units, and says once if the posterior has collapsed to the prior: q(z | x) = p(z) for all x.

    It has when val/rate, of all latent variables, has been below `rate` for `patience` steps: z then tells next to nothing about x, because
    I_q(x; z) <= E_x KL(q(z | x) || p(z)) (Alemi et al., 2018, https://arxiv.org/abs/1711.00464). A model that has just begun may yet begin
    to use z; and while beta warms up or the capacity rises from zero, a small rate is what was asked for. So nothing is said before every
    weight of the objective has come to within 1 % of what it remains at until the end.

    Active units are those with Var_x(E_q(z_d | x)[z_d]) > threshold (Burda et al., 2016, https://arxiv.org/abs/1509.00519), of all
    validation data and all latent variables; none is logged where z is no vector of real numbers (codes, points of a sphere). They are
    counted of the draws that validation scores anyway. They do not say what a collapse is: a small z tells much where its noise is smaller.

    Args:
        threshold: of an active unit, the paper's 0.01.
        rate: in nats, below which z counts as not used.
        patience: optimiser steps of so small a rate.

    Raises:
        ValueError: if one of them is negative.
    """

    def __init__(self, threshold: float = 0.01, rate: float = 0.1, patience: int = 1000) -> None:
        check_at_least(0, threshold=threshold, rate=rate, patience=patience)
        self.threshold, self.rate, self.patience = threshold, rate, patience
        self.last_used: int | None = None
        self.told = False
        self._sums: Tensor | None = None
        self._hook: RemovableHandle | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.last_used is None:
            self.last_used = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        return {"last_used": self.last_used, "told": self.told}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.last_used, self.told = state_dict["last_used"], state_dict["told"]

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LitVAE)
        self._sums = None
        self._hook = pl_module.model.register_forward_hook(self._add)

    def _add(self, model: nn.Module, arguments: Any, draw: Draw) -> None:
        """One batch more: the number of its examples, and the sum and the sum of squares of each unit."""
        units = [centre(latent.q).expand(latent.z.shape)[0].flatten(1) for latent in draw.latents if is_euclidean(latent.q)]
        if units:
            means = torch.cat(units, dim=1)
            means = means if means.device.type == "mps" else means.double()  # which Apple's devices lack
            sums = torch.stack([torch.ones_like(means).sum(0), means.sum(0), means.square().sum(0)])
            self._sums = sums if self._sums is None else self._sums + sums

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._hook is not None
        self._hook.remove()
        active = self.active(trainer.strategy)
        if active is not None:
            pl_module.log("val/active_units", float(active), sync_dist=True, batch_size=1)

    def active(self, strategy: Strategy) -> int | None:
        """The active units of the examples of all processes; None if z has no units."""
        if self._sums is None:
            return None
        count, total, squares = strategy.reduce(self._sums, reduce_op="sum")
        return int((squares / count - (total / count).square() > self.threshold).sum())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say once that the posterior has collapsed, when val/rate is known."""
        assert isinstance(pl_module, LitVAE)
        if self.last_used is None:
            return  # a sanity check, before training
        step, rate = trainer.global_step, float(trainer.callback_metrics["val/rate"])
        if rate >= self.rate:
            self.last_used = step
        elif not self.told and step - self.last_used >= self.patience and settled(pl_module.objective, step, last_step(trainer)):
            self.told = True
            if trainer.is_global_zero:
                tell(
                    f"warning: the posterior has collapsed: its rate was below {self.rate:g} nats from step {self.last_used} to {step},"
                    " and z tells no more than that about x. Try a warm-up of beta (+schedule@objective.beta=linear), free bits"
                    " (objective.free_bits=0.1) or a smaller beta"
                )


def last_step(trainer: Trainer) -> int:
    """The step at which training will end."""
    return int(min(trainer.estimated_stepping_batches, trainer.global_step + HORIZON))


def settled(objective: nn.Module, step: int, last: int) -> bool:
    """True if every weight of the objective stays within 1 % of what it is at this step."""
    later = torch.linspace(step, max(step, last), 100).long().tolist()
    return all(isclose(weight(step), weight(then), rel_tol=0.01) for weight in schedules(objective) for then in later)


def schedules(objective: nn.Module) -> list[Schedule]:
    """The weights of an objective and of its parts that change while training."""
    found: list[Any] = []
    for part in objective.modules():
        if isinstance(part, Objective):
            found += [getattr(part, name, None) for name in ("beta", "capacity", "weight")]
            found += getattr(part, "weights", {}).values()
    return [weight for weight in found if callable(weight)]
