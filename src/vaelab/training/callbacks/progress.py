"""The progress bar."""

import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Lightning's bar of rich, which is changed as often as it is drawn, and at the end of an epoch.

    Lightning changes it after each step, and collects all metrics for it: .3 ms, as long as a third of a step of a small model.

    Args:
        refresh_rate: how many times a second it is drawn; 0: never.
        options: of Lightning's bar.
    """

    def __init__(self, refresh_rate: int = 4, **options: Any) -> None:
        super().__init__(refresh_rate, **options)
        self._changed = 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        now = time.monotonic()
        if trainer.is_last_batch or (now - self._changed) * self.refresh_rate >= 1:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            self._changed = now
