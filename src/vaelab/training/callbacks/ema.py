"""The exponential moving average of the weights."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class EMA(WeightAveraging):
    """Averages the weights over the steps; the averages are what is validated, pictured, written as weights, evaluated and loaded.

    average = d average + (1 - d) weights after each step, with d = min(decay, (1 + n) / (10 + n)) at the n-th: at first, when the weights
    change fast, over few steps (Polyak & Juditsky, 1992; with this start in TensorFlow). Buffers, as the means of batch-norm, are averaged
    like weights; whole numbers are copied. Training goes on with its own weights, which a checkpoint holds, too.

    Args:
        decay: of the average: about 1 / (1 - decay) steps are averaged.

    Raises:
        ValueError: if decay is not in [0, 1).
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay} must be at least 0 and less than 1")
        self.decay = decay
        self._is_swapped = False
        super().__init__(avg_fn=self._mean)

    def _mean(self, average: Tensor, value: Tensor, num_averaged: Tensor | int) -> Tensor:
        if not value.is_floating_point():
            return value
        n = torch.as_tensor(num_averaged, dtype=torch.float32)
        return torch.lerp(value, average, ((1 + n) / (10 + n)).clamp(max=self.decay).to(value))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._average_model is not None
        self._average_model.to(pl_module.device)  # where the weights were not yet when Lightning copied them

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_start(trainer, pl_module)
        self._is_swapped = True

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing yet: other callbacks draw pictures of what was validated."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_end(trainer, pl_module)
        self._is_swapped = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._is_swapped:  # within a validation, when a signal asks for the end
            names = "state_dict", "current_model_state"
            checkpoint[names[0]], checkpoint[names[1]] = checkpoint[names[1]], checkpoint[names[0]]
