"""The speed of training."""

import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs train/images_per_second over all devices, for each epoch and without its validation.

    The time between being stopped and going on does not count, and the images of steps that were lost do not either.
    """

    def __init__(self) -> None:
        self.start, self.images = time.perf_counter(), 0
        self.seconds: float | None = None  # of the epoch, when its last batch is done
        self._before = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.perf_counter() - self._before

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start, self.images, self.seconds = time.perf_counter(), 0, None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.images += len(batch[0])
        if trainer.is_last_batch:
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize(pl_module.device)  # once an epoch: its steps have been asked for, and may not be done
            self.seconds = time.perf_counter() - self.start

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.seconds is not None:
            rate = self.images / self.seconds
            pl_module.log("train/images_per_second", rate, on_step=False, on_epoch=True, reduce_fx="sum", sync_dist=True)

    def state_dict(self) -> dict[str, Any]:
        return {"images": self.images, "before": time.perf_counter() - self.start, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.images, self._before, self.seconds = state_dict["images"], state_dict["before"], state_dict["seconds"]
