"""The line that says after each epoch how far training is."""

import re

import pytest
from lightning import LightningModule, Trainer
from torch import nn, optim, tensor
from torch.utils.data import DataLoader

from vaelab.training.callbacks import EpochLines

LINE = r"epoch +(\d+)(/\d+)?  step (\d+)  lr (\S+)  val/elbo (-\d+\.\d\d)(  \d+ s left)?"


class Slope(LightningModule):
    """Two steps an epoch, of which each halves the learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(tensor(0.0))

    def training_step(self, batch, batch_idx):  # type: ignore[no-untyped-def]  # Lightning's own signature
        self.log("val/elbo", -float(self.trainer.current_epoch) - 1)
        return self.weight

    def configure_optimizers(self):  # type: ignore[no-untyped-def]
        steps = optim.SGD(self.parameters(), lr=1.0)
        return {"optimizer": steps, "lr_scheduler": {"scheduler": optim.lr_scheduler.ExponentialLR(steps, 0.5), "interval": "step"}}


@pytest.mark.parametrize(
    ("limits", "epochs", "steps", "left"),
    [
        ({"max_epochs": 3}, ["1/3", "2/3", "3/3"], [2, 4, 6], [True, True, False]),
        ({"max_epochs": -1, "max_steps": 4}, ["1", "2"], [2, 4], [True, False]),
        ({"max_epochs": 10, "max_steps": 4}, ["1/10", "2/10"], [2, 4], [True, False]),
    ],
)
def test_epoch_steps_learning_rate_and_the_time_that_is_left(
    limits: dict[str, int], epochs: list[str], steps: list[int], left: list[bool], capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(**limits, **quiet, accelerator="cpu", callbacks=[EpochLines()]).fit(Slope(), DataLoader([0.0, 1.0]))
    found = [match for match in map(re.compile(LINE).fullmatch, capsys.readouterr().out.splitlines()) if match]
    assert [f"{match[1]}{match[2] or ''}" for match in found] == epochs
    assert [int(match[3]) for match in found] == steps
    assert [float(match[4]) for match in found] == [float(f"{0.5**step:.3g}") for step in steps]
    assert [float(match[5]) for match in found] == [-1.0 - i for i in range(len(found))]
    assert [match[6] is not None for match in found] == left
