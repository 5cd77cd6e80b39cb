"""Callbacks that let a test kill its run, or fill its disk, at a moment of its choice."""

import os
import resource
import signal

from lightning import Callback


class SignalAt(Callback):
    """Sends this process a signal at the end of a step, or in the validation that follows it.

    Args:
        step: optimiser steps until then.
        signum: SIGKILL, SIGTERM, ...
        validation: whether to wait for the validation.
        rank: of the process that it is sent to.
    """

    def __init__(self, step: int, signum: int = signal.SIGTERM, validation: bool = False, rank: int = 0) -> None:
        self.step, self.signum, self.validation, self.rank = step, signum, validation, rank

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.step and not self.validation and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.signum)

    def on_validation_start(self, trainer, pl_module) -> None:
        if trainer.global_step == self.step and self.validation and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.signum)


class FullDiskAt(Callback):
    """Lets no file of this process grow beyond some bytes from a step on, as on a disk that is full.

    Args:
        step: optimiser steps until then.
        bytes: that a file may have.
    """

    def __init__(self, step: int, bytes: int = 50_000) -> None:
        self.step, self.bytes = step, bytes

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.bytes, self.bytes))
