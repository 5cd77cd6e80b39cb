"""The checkpoint that a run goes on from."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch.distributed import ReduceOp

from vaelab.checks import check_positive, given
from vaelab.training.lit import LitVAE
from vaelab.training.signals import Preempted, Signals

SAVE = 1  # what a process asks of all of them: to write a checkpoint, or, as 1 + the number of a signal, to end, too


class LastCheckpoint(Checkpoint):
    """Writes last.ckpt at the end of every epoch, between steps, and when a signal asks the run to end.

    A run that is killed loses what it did since. One that is told to end (see `vaelab.training.signals`) loses nothing: it writes after the
    step that it is in, or instead of the validation that it is in, and raises `Preempted`, on all processes at the same step.

    Args:
        dirpath: where to.
        every_n_steps: optimiser steps; None: never for their number.
        every_n_minutes: since the last one; None: never for the time.

    Raises:
        ValueError: if one of them is not positive.
    """

    def __init__(self, dirpath: str, every_n_steps: int | None = None, every_n_minutes: float | None = 10.0) -> None:
        check_positive(**given(every_n_steps=every_n_steps, every_n_minutes=every_n_minutes))
        self.path, self.every_n_steps, self.every_n_minutes = Path(dirpath) / "last.ckpt", every_n_steps, every_n_minutes
        self.signals = Signals()  # that nobody has entered: none is received
        self._group: Any = None
        self._wanted, self._step, self._time = 0, 0, 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.world_size > 1:
            self._group = torch.distributed.new_group(backend="gloo")  # numbers on the CPU: no GPU has to be waited for

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._wanted, self._step, self._time = 0, trainer.global_step, time.monotonic()
        self.signals.deferred = True
        self.signals.handle()  # which the trainer has just taken

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, LitVAE)
        if trainer.global_step == self._step:
            return  # gradients of further batches are being added
        self._step = trainer.global_step
        self._ask(trainer)
        if self.every_n_steps is not None and self._step % self.every_n_steps == 0:
            self._wanted = max(self._wanted, SAVE)
        if self._wanted:
            pl_module.remember_generators()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Write what is due, once the last step has been logged and validated; the states of the generators are those of its end."""
        if self._wanted:
            self._save(trainer)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        assert isinstance(pl_module, LitVAE)
        if trainer.sanity_checking or not self.signals.deferred:
            return
        self._ask(trainer)
        if self._wanted > SAVE:
            pl_module.validation_is_due = True
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, end=False)  # what is logged at the end of an epoch is written after this

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ask(trainer)
        self._end(trainer)
        self._wanted = 0  # the end of the last epoch has just been written

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ask(trainer)
        self.signals.deferred = False
        self._end(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.signals.deferred = False

    def _ask(self, trainer: Trainer) -> None:
        """Keeps the most that any process asks for; the time is that of the first one."""
        wanted = 0
        if self.every_n_minutes is not None and trainer.is_global_zero and time.monotonic() - self._time > 60 * self.every_n_minutes:
            wanted = SAVE
        if self.signals.received is not None:
            wanted = SAVE + self.signals.received
        self._wanted = max(self._wanted, self._most(wanted))

    def _most(self, value: int) -> int:
        """The largest of all processes' values."""
        if self._group is None:
            return value
        most = torch.tensor(value)
        torch.distributed.all_reduce(most, ReduceOp.MAX, self._group)
        return int(most)

    def _save(self, trainer: Trainer, end: bool = True) -> None:
        weights = trainer.lightning_module.parameters()
        if not self._most(not all(bool(weight.isfinite().all()) for weight in weights)):  # else the last good one is kept
            trainer.save_checkpoint(self.path)
        self._time = time.monotonic()
        if self._wanted <= SAVE:
            self._wanted = 0
        elif end:
            self._end(trainer)

    def _end(self, trainer: Trainer) -> None:
        if self._wanted > SAVE:
            raise Preempted(self._wanted - SAVE, f" in epoch {trainer.current_epoch}, after step {trainer.global_step}")
