"""Steps of training without what Lightning's loop does around each of them."""

from functools import partial
from typing import Any, cast

from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.plugins import Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities import move_data_to_device
from torch import Tensor

from vaelab.runs.log import tell
from vaelab.training.speed import STEP_HOOKS, is_overridden

AROUND = ("on_train_batch_start", "on_train_batch_end")  # a step; the other hooks of STEP_HOOKS lie within it
BEFORE_UPDATE = "on_before_optimizer_step"
OF_THE_DATA = ("on_before_batch_transfer", "transfer_batch_to_device")


def shorten_steps(trainer: Trainer, module: LightningModule) -> None:
    """Makes the steps of a fit that has begun short, or says what prevents it."""
    parts = parts_that_use_steps(trainer)
    if not parts:
        trainer.fit_loop.epoch_loop.advance = ShortSteps(trainer, module)  # type: ignore[method-assign, assignment]
    elif trainer.is_global_zero:
        tell(f"note: {parts} may use each step, so each step runs through all of Lightning's loop, which takes longer")


def parts_that_use_steps(trainer: Trainer) -> str:
    """The parts of a trainer that may need what Lightning does around a step, in words."""
    datamodule, profiler = trainer.datamodule, trainer.profiler  # type: ignore[attr-defined]
    parts = []
    if type(trainer.strategy) is not SingleDeviceStrategy:
        parts.append(type(trainer.strategy).__name__)
    if type(trainer.precision_plugin) is not Precision:
        parts.append(f"trainer.precision={trainer.precision}")
    if type(profiler) is not PassThroughProfiler:
        parts.append(type(profiler).__name__)
    if datamodule is not None and any(is_overridden(datamodule, LightningDataModule, hook) for hook in OF_THE_DATA):
        parts.append(type(datamodule).__name__)
    watching = [type(callback).__name__ for callback in trainer.callbacks if watches_steps(callback)]  # type: ignore[attr-defined]
    return " and ".join(parts + watching)


def lengthen_steps(trainer: Trainer) -> None:
    """Gives the loop of a trainer its own steps back."""
    trainer.fit_loop.epoch_loop.__dict__.pop("advance", None)


def watches_steps(callback: Callback) -> bool:
    """True if a callback may need what Lightning does around a step.

    Those of this package and of Lightning log nothing in the steps between those that are logged.
    """
    used = {hook for hook in STEP_HOOKS if is_overridden(callback, Callback, hook)}
    known = type(callback).__module__.split(".")[0] in ("vaelab", "lightning") and not isinstance(callback, LambdaCallback)
    return bool(used - {*AROUND, BEFORE_UPDATE} if known else used)


class ShortSteps:
    """Takes the place of `advance` of Lightning's loop: steps in which nothing is logged go without its calls around each of them.

    Loss, gradient, clipping, optimizer and learning rate are those of Lightning's automatic optimization, in its order, and its counters
    are kept: weights, checkpoints and logs are bit for bit those of its own loop. A step in which something is logged, and the first one
    after a restart, are Lightning's.

    Args:
        trainer: in a fit on one device, in float32, without a profiler and without callbacks that watch steps.
        module: that is trained.
    """

    def __init__(self, trainer: Trainer, module: LightningModule) -> None:
        self.trainer, self.module = trainer, cast(Any, module)
        self.loop: Any = trainer.fit_loop.epoch_loop
        self.connector: Any = trainer._logger_connector
        self.own = partial(type(self.loop).advance, self.loop)
        parts = [*((callback, (trainer, module)) for callback in trainer.callbacks), (module, ())]  # type: ignore[attr-defined]
        hooks = (*AROUND, BEFORE_UPDATE)
        found = [[partial(getattr(part, hook), *first) for part, first in parts if callable(getattr(part, hook))] for hook in hooks]
        self.starts, self.ends, self.before_update = found

    def __call__(self, fetcher: Any) -> None:
        if self.module.logs_next_step() or self.connector.should_update_logs or self.loop.restarting:
            self.own(fetcher)
        else:
            self.advance(fetcher)

    def advance(self, fetcher: Any) -> None:
        """Trains on the next batch."""
        loop, trainer, progress = self.loop, self.trainer, self.loop.batch_progress
        loop.val_loop.restarting = False
        batch, _, _ = next(fetcher)
        index = loop.batch_idx + 1
        progress.is_last_batch = fetcher.done
        batch = move_data_to_device(batch, trainer.strategy.root_device)
        if trainer.datamodule is not None:  # type: ignore[attr-defined]
            batch = trainer.datamodule.on_after_batch_transfer(batch, 0)  # type: ignore[attr-defined]
        progress.increment_ready()
        self.connector._first_loop_iter = self.connector._first_loop_iter is None  # whether it is the first of the epoch
        for hook in self.starts:
            hook(batch, index)
        progress.increment_started()
        loss = self.step(batch, index)
        progress.increment_processed()
        loop.update_lr_schedulers("step", update_plateau_schedulers=False)
        if loop._num_ready_batches_reached():
            loop.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        for hook in self.ends:
            hook({"loss": loss}, batch, index)
        progress.increment_completed()

    def step(self, batch: Any, index: int) -> Tensor:
        """Adds the gradient of a batch to those before it and, when they are enough, changes the weights; returns the loss."""
        trainer, optimizer = self.trainer, self.trainer.optimizers[0]
        counters, share = self.loop.automatic_optimization.optim_progress.optimizer, trainer.accumulate_grad_batches
        last = not self.loop._should_accumulate()
        losses = list[Tensor]()

        def closure() -> Any:
            loss = self.module.training_step(batch, index)
            loss = loss / share if share > 1 else loss
            losses.append(loss.detach())
            if index % share == 0:
                counters.zero_grad.increment_ready()
                counters.zero_grad.increment_started()
                optimizer.zero_grad()
                counters.zero_grad.increment_completed()
            loss.backward()
            for hook in self.before_update if last else ():
                hook(optimizer)
            if last and trainer.gradient_clip_val:
                self.module.configure_gradient_clipping(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
            return loss

        if last:
            counters.step.increment_ready()
            optimizer.step(closure)
            counters.step.increment_completed()
        else:
            closure()
        return losses[-1]
