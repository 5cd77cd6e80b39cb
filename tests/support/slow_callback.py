"""A callback that gives a test the time to kill its run."""

import time
from pathlib import Path

from lightning import Callback


class SlowFrom(Callback):
    """From an epoch on, writes a file `slow` in the run folder and waits in each step."""

    def __init__(self, epoch: int, seconds: float) -> None:
        self.epoch, self.seconds = epoch, seconds

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.current_epoch >= self.epoch:
            (Path(trainer.default_root_dir) / "slow").touch()
            time.sleep(self.seconds)
