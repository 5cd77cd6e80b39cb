"""How fast training is."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs train/images_per_second over all devices, for each epoch and without its validation."""

    def __init__(self) -> None:
        self.start, self.images = time.perf_counter(), 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start, self.images = time.perf_counter(), 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.images += len(batch[0])
        if trainer.is_last_batch:
            rate = self.images / (time.perf_counter() - self.start)
            pl_module.log("train/images_per_second", rate, on_step=False, on_epoch=True, reduce_fx="sum", sync_dist=True)
