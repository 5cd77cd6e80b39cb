"""A callback that keeps what a run goes through."""

import torch
from lightning import Callback, LightningModule, Trainer


class Weights(Callback):
    """Writes the state of the model after each step."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.steps: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self.steps.append({name: value.clone() for name, value in pl_module.model.state_dict().items()})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        torch.save(self.steps, self.path)
