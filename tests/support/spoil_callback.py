"""Callbacks that spoil a run, or end it."""

import torch
from lightning import Callback, LightningModule, Trainer


class Spoil(Callback):
    """Sets all weights to 0.5, which fits no data, before each validation but those of the first epoch."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch > 0:
            for parameter in pl_module.parameters():
                torch.nn.init.constant_(parameter, 0.5)


class StopAfter(Callback):
    """Ends a run after an epoch, counted from 1."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epoch
