"""Short steps: weights, checkpoints and logs are bit for bit those of Lightning's own loop, under every option that may meet them."""

import csv
from pathlib import Path
from typing import Any

import pytest
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback, LearningRateMonitor, Timer
from small_runs import QUICK, train_small
from torch import Tensor

from vaelab.runs.files import read_checkpoint
from vaelab.training import lit
from vaelab.training.callbacks import EMA, LastCheckpoint, Throughput
from vaelab.training.steps import ShortSteps, watches_steps

# six batches an epoch, of which two are logged; last.ckpt is written in between, and evaluation is left out
RUN = [*QUICK, "evaluation.enabled=false", "trainer.log_every_n_steps=3", "callbacks.last.every_n_steps=5"]

STEP_LR = "+scheduler={_target_: torch.optim.lr_scheduler.StepLR, _partial_: true, step_size: 1, interval: epoch}"
OPTIONS = {
    "none": [],
    "logging every step": ["trainer.log_every_n_steps=1", "trainer.max_epochs=1"],
    "accumulation, clipping and a schedule of steps": [
        "trainer.accumulate_grad_batches=4",
        "trainer.gradient_clip_val=0.1",
        "scheduler=warmup_cosine",
        "scheduler.warmup_steps=1",
    ],
    "clipping of values, a plateau and averaged weights": [
        "trainer.gradient_clip_val=0.01",
        "+trainer.gradient_clip_algorithm=value",
        "scheduler=plateau",
        "callbacks=[default,ema]",
    ],
    "no logging, a schedule of epochs and max_steps": ["trainer.log_every_n_steps=0", STEP_LR, "trainer.max_steps=8"],
    "validation within an epoch of half the batches": ["+trainer.val_check_interval=2", "trainer.limit_train_batches=0.5"],
    "validation across epochs": ["+trainer.val_check_interval=4", "trainer.check_val_every_n_epoch=null"],
    "the same batches, another optimizer": ["+trainer.overfit_batches=2", "optimizer=sgd", "+trainer.detect_anomaly=true"],
    "an objective with weights of its own": ["objective=factor_tc", "objective.tc.discriminator.hidden=[16]"],
    "updates that are skipped": [
        "callbacks=[default,skip_updates]",
        "callbacks.skip_updates.warmup=2",
        "callbacks.skip_updates.factor=0.95",
        "trainer.gradient_clip_val=0.1",
    ],
    "codes that follow averages": [
        "posterior=vector_quantized",
        "posterior.num_codes=8",
        "prior=uniform_codes",
        "objective=vq",
        "z_shape=[4,2]",
    ],
}


def logged(run: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    return [{name: value for name, value in row.items() if "per_second" not in name} for row in rows]


def plain(value: Any) -> Any:
    """Without what tells the time and the place."""
    if isinstance(value, dict):
        kept = {key: part for key, part in value.items() if key not in ("before", "seconds", "config")}
        return {key: plain(part) for key, part in kept.items() if "Checkpoint" not in str(key)}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value.tolist() if isinstance(value, Tensor) else value


@pytest.mark.parametrize("case", OPTIONS)
def test_they_are_those_of_lightning(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = list[int]()
    step = ShortSteps.step

    def counted(self: ShortSteps, batch: Any, index: int) -> Tensor:
        taken.append(index)
        return step(self, batch, index)

    monkeypatch.setattr(ShortSteps, "step", counted)
    short = train_small(tmp_path / "short", *RUN, *OPTIONS[case])
    assert bool(taken) == (case != "logging every step")
    num_short = len(taken)
    monkeypatch.setattr(lit, "shorten_steps", lambda trainer, module: None)
    long = train_small(tmp_path / "long", *RUN, *OPTIONS[case])
    assert len(taken) == num_short
    assert logged(short) == logged(long)
    for name in ("last.ckpt", "last.ckpt.previous", "best.ckpt"):
        checkpoints = [read_checkpoint(run / "checkpoints" / name) for run in (short, long)]
        assert all(checkpoint.pop("train_time") > 0 for checkpoint in checkpoints)  # by the clock
        assert plain(checkpoints[0]) == plain(checkpoints[1])


class Watching(Callback):
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None: ...


class Within(EMA):
    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None: ...


def test_who_watches_steps(tmp_path: Path) -> None:
    """Callbacks of others, and whatever lies between a step's start and its end."""
    for callback in (Throughput(), EMA(), LastCheckpoint(str(tmp_path)), LearningRateMonitor(), Timer("1:00:00:00"), Callback()):
        assert not watches_steps(callback)
    for callback in (Watching(), Within(), LambdaCallback(on_train_batch_end=lambda *arguments: None)):
        assert watches_steps(callback)


@pytest.mark.parametrize(
    ("option", "part"),
    [
        ("trainer.log_every_n_steps=2", None),
        ("+trainer.profiler=simple", "SimpleProfiler"),
        ("trainer.precision=bf16-mixed", "trainer.precision=bf16-mixed"),
    ],
)
def test_what_keeps_the_longer_way_is_named(option: str, part: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_small(tmp_path / "run", *QUICK, "evaluation.enabled=false", "trainer.max_epochs=1", "trainer.limit_train_batches=1", option)
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")]
    said = f"note: {part} may use each step, so each step runs through all of Lightning's loop, which takes longer"
    assert notes == ([said] if part else [])
