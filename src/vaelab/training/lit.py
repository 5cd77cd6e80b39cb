"""The LightningModule: draw, score, log."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from math import inf, isfinite
from typing import Any, Protocol, runtime_checkable

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from vaelab import rng
from vaelab.data import DataModule
from vaelab.models import Model
from vaelab.objectives import Objective
from vaelab.runs.log import tell
from vaelab.training.checkpoints import move_best, place, set_loops
from vaelab.training.fsdp import whole
from vaelab.training.schedulers import Scheduling
from vaelab.training.speed import ask_cuda_cheaply, leave_out_idle_hooks
from vaelab.training.steps import lengthen_steps, shorten_steps
from vaelab.training.validation import bounds

Batch = Sequence[Tensor]  # x, y


@runtime_checkable
class StartsFromData(Protocol):
    """A part that starts from `num_initial` training examples, such as the pseudo-inputs of a VampPrior; from all if that is infinite."""

    num_initial: float

    def initialise(self, x: Tensor) -> None: ...


def local_to_each_process(module: nn.Module) -> list[str]:
    """The parts that each of several processes computes of its own batch alone, and one process of the whole batch, in words."""
    notes = [part.local for part in module.modules() if isinstance(part, Objective) and part.local]
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # and not SyncBatchNorm
    if any(isinstance(part, norms) for part in module.modules()):
        notes.append("batch-norm: each process takes mean and variance of its own batch (set trainer.sync_batchnorm=true on GPUs)")
    return notes


class LitVAE(LightningModule):
    """Trains a model on an objective, and validates it on its ELBO at beta = 1 whatever the objective, so that runs stay comparable.

    A checkpoint holds, besides what Lightning saves, the config as plain types, its place in training and the generators of every
    process: training that is resumed from it, also in the middle of an epoch, goes on exactly as if it had not stopped.

    Args:
        model: x, y, num_samples to `Draw`.
        objective: `Draw`, step to terms.
        optimizer: groups of parameters to optimizer.
        scheduling: how the learning rate changes; None: it does not.
        config: what the run was composed of, stored in its checkpoints.
    """

    model: Model
    objective: Objective

    def __init__(
        self,
        model: Model,
        objective: Objective,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        scheduling: Scheduling | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self.optimizer, self.scheduling, self.config = optimizer, scheduling, config
        self.validation_is_due = False
        self.started = time.monotonic()  # less what former parts of the run took
        self.stops_at_nan = True  # a loss that is not finite ends training, if no callback leaves such updates out
        self._resumed: list[dict[str, Any]] | None = None
        self._after_step: dict[str, Any] | None = None
        self._evaluation = ExitStack()

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute; the name of the hook that is called, which Lightning sets some forty times a step, past torch's checks."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def train_time(self) -> float:
        """Seconds since this object was made, and those of former parts of the run, up to their last checkpoint."""
        return time.monotonic() - self.started

    def on_fit_start(self) -> None:
        """Tells the parts what they ask of the training data: their number, and examples to start from. A resumed run knows both."""
        leave_out_idle_hooks(self.trainer, self)
        self.model.units = self.trainer.datamodule.modality.scaling  # type: ignore[attr-defined]
        ask_cuda_cheaply()
        if type(self) is LitVAE:  # another's training_step may log whenever it likes
            shorten_steps(self.trainer, self)
        train = self.trainer.datamodule.splits["train"]  # type: ignore[attr-defined]
        for part in self.objective.modules():
            if isinstance(part, Objective) and part.num_examples is None:
                part.num_examples = len(train)
        if self.trainer.world_size > 1 and self.trainer.is_global_zero:
            for note in local_to_each_process(self):
                tell(f"note: {note}, so {self.trainer.world_size} processes do not train to exactly what one would")
        for part in self.model.modules() if self._resumed is None else ():
            if isinstance(part, StartsFromData) and part.num_initial:
                num = len(train) if part.num_initial == inf else int(part.num_initial)
                x, _ = train.scaled(torch.arange(num) % len(train), self.device)
                with whole(self.trainer):
                    part.initialise(x)

    def logs_next_step(self) -> bool:
        """True if the step that comes is one of every trainer.log_every_n_steps; of 0, none is."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return every > 0 and (self.global_step + 1) % every == 0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The objective of one batch, logged every trainer.log_every_n_steps steps.

        Raises:
            ValueError: if the loss is not a finite number, with the step and the terms.
        """
        x, y = batch
        terms = self.objective(self.objective.draw(self.model, x, y), self.global_step)
        logging = self.logs_next_step()
        # asking a GPU for the value of the loss makes it wait, so there it is asked only when it is logged anyway
        if self.stops_at_nan and (logging or x.device.type == "cpu") and not isfinite(terms["loss"].item()):
            raise ValueError(self._not_finite(terms))
        if logging:
            self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"])
            self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()}, sync_dist=True, batch_size=len(x))
        return terms["loss"]

    def _not_finite(self, terms: Mapping[str, Tensor | float]) -> str:
        values = ", ".join(f"{name}={float(torch.as_tensor(value).detach()):.6g}" for name, value in terms.items())
        return (
            f"training stopped at step {self.global_step} of epoch {self.current_epoch} because the loss is not finite ({values})."
            " Checkpoints up to the last finished epoch are kept. Lower optimizer.lr or set trainer.gradient_clip_val=1"
        )

    def remember_generators(self) -> None:
        """Checkpoints hold the generators as they are now, until training goes on: the next batch's transform may draw before it does."""
        self._after_step = rng.state()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self._after_step = None

    def on_validation_start(self) -> None:
        self.remember_generators()
        self._evaluation.enter_context(rng.fork(seed=self.global_rank))
        self._sums: dict[str, Tensor] = {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        x, y = batch
        terms = {name: value.sum() for name, value in bounds(self.model, self.objective, x, y).items()}
        terms |= {"count": torch.full((), len(x), device=x.device)}
        self._sums = {name: self._sums.get(name, 0) + value for name, value in terms.items()}

    def on_validation_epoch_end(self) -> None:
        """The mean over all examples of all processes, whose numbers of examples may differ.

        Raises:
            ValueError: if it is not finite, before a checkpoint is written over the last good one.
        """
        sums = {name: self.trainer.strategy.reduce(value.clone(), reduce_op="sum") for name, value in self._sums.items()}
        count = sums.pop("count")
        means = {f"val/{name}": value / count for name, value in sums.items()}
        if not bool(means["val/elbo"].isfinite() & means["val/bound"].isfinite()):
            raise ValueError(self._not_finite(means))
        for name, value in means.items():
            self.log(name, value, prog_bar=name == "val/elbo", sync_dist=True, batch_size=1)
        self._step_on_plateau(means)

    def _step_on_plateau(self, means: dict[str, Tensor]) -> None:
        """Step a scheduler that watches a metric, before a checkpoint is written: Lightning would after it, and not when a run goes on.

        Raises:
            ValueError: if the metric is not logged.
        """
        for scheduler in [config.scheduler for config in self.trainer.lr_scheduler_configs if not self.trainer.sanity_checking]:
            if isinstance(scheduler, ReduceLROnPlateau):
                assert self.scheduling is not None
                monitor, known = self.scheduling.monitor, self.trainer.callback_metrics | means
                if monitor not in known:
                    raise ValueError(f"scheduler.monitor={monitor} is not logged: there are {', '.join(sorted(known))}")
                scheduler.step(float(known[monitor]))

    def on_validation_end(self) -> None:
        self._evaluation.close()

    def on_train_epoch_end(self) -> None:
        self._after_step = None

    def configure_optimizers(self) -> Any:
        # what the objective owns, such as a discriminator, is a group with options of its own
        optimizer = self.optimizer([{"params": list(self.model.parameters())}, *self.objective.parameter_groups()])
        if self.scheduling is None:
            return optimizer
        scheduler, interval = self.scheduling.of(optimizer, self.trainer.estimated_stepping_batches), self.scheduling.interval
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval, "reduce_on_plateau": False}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if not isinstance(scheduler, ReduceLROnPlateau):  # see _step_on_plateau
            scheduler.step()

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: int | float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip by the norm of the whole gradient, also where each process has a share of it, which Lightning leaves to us."""
        model = self.trainer.model
        if isinstance(model, FullyShardedDataParallel) and gradient_clip_val and gradient_clip_algorithm != "value":
            model.clip_grad_norm_(gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_fit_end(self) -> None:
        lengthen_steps(self.trainer)

    def on_train_start(self) -> None:
        if self._resumed is not None:
            rng.restore(self._resumed[self.global_rank % len(self._resumed)])
            self._resumed = None
        elif self.global_rank:
            torch.manual_seed(torch.initial_seed() + self.global_rank)  # else every process would draw the same noise

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        mine = self._after_step or rng.state()
        states: list[Any] = [mine]
        if self.trainer.world_size > 1:
            states = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(states, mine)
        checkpoint["generators"], checkpoint["config"] = states, self.config
        checkpoint["place"] = place(self.trainer, self.validation_is_due)
        checkpoint["train_time"] = self.train_time

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._resumed = checkpoint["generators"]
        move_best(checkpoint, self.trainer)
        if "place" in checkpoint:  # older ones are of the end of an epoch
            set_loops(checkpoint, self.trainer)
            datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
            if isinstance(datamodule, DataModule):
                datamodule.resumed = checkpoint["place"]["epoch"], checkpoint["place"]["batch"]
