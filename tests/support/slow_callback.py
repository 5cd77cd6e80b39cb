"""A callback that gives a test the time to kill its run."""

import time
from pathlib import Path

from lightning import Callback


class SlowFrom(Callback):
    """From an epoch on, writes a file `slow` in the run folder and waits in each step.

    Args:
        epoch: the first that is slow.
        seconds: of each of its steps.
        until: path of a file; once it is there, nothing is slow.
    """

    def __init__(self, epoch: int, seconds: float, until: str | None = None) -> None:
        self.epoch, self.seconds, self.until = epoch, seconds, until

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.current_epoch >= self.epoch:
            (Path(trainer.default_root_dir) / "slow").touch()
            deadline = time.monotonic() + self.seconds
            while time.monotonic() < deadline and not (self.until and Path(self.until).exists()):
                time.sleep(0.1)
