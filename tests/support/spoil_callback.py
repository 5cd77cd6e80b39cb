"""A callback that spoils a run."""

import torch
from lightning import Callback, LightningModule, Trainer


class Spoil(Callback):
    """Sets all weights to 0 before each validation but the first of a run."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch > 0:
            for parameter in pl_module.parameters():
                torch.nn.init.zeros_(parameter)
