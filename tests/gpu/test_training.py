"""Training on a GPU by the command that people type."""

import csv
import gc
import json
import signal
from pathlib import Path
from typing import Any

import forked_runs
import pytest
import torch
from forked_scripts import command
from small_runs import QUICK, SMALL, composed, same
from test_steps import errors_if_waiting

from vaelab.commands.train import train
from vaelab.training.steps import ShortSteps

# twelve batches of 16 in each epoch
OPTIONS = [word for word in SMALL if word != "trainer=cpu"] + [*QUICK, "data.batch_size=16", "trainer.max_epochs=4"]
SPEEDS = {
    "float32": [],
    "data resident": ["data.device_resident=true"],
    "random pixels": ["+data.transform._target_=vaelab.data.Binarize", "data.device_resident=true"],
    "bf16": ["speed.bf16=true"],
}


def on(device: torch.device) -> str:
    return f"trainer.accelerator={'gpu' if device.type == 'cuda' else 'cpu'}"


def last(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)


def assert_trains(device: torch.device, run: Path, *words: str) -> None:
    command("train.py", *OPTIONS, *words, on(device), f"hydra.run.dir={run}")
    results = json.loads((run / "results.json").read_text())
    bounds = [float(row["val/elbo"]) for row in csv.DictReader((run / "metrics.csv").open()) if row["val/elbo"]]
    assert len(bounds) == 4
    assert bounds == sorted(bounds)  # far from the optimum, each epoch is better than the one before
    assert results["test"]["elbo"] > bounds[0]
    if device.type == "cuda":
        assert results["device"] == torch.cuda.get_device_name(device)
        assert results["peak_device_memory_mib"] > 0


@pytest.mark.parametrize("speed", SPEEDS)
def test_the_command_trains(speed: str, device: torch.device, tmp_path: Path) -> None:
    assert_trains(device, tmp_path / "run", *SPEEDS[speed])


@pytest.fixture(scope="module")
def straight(device: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not interrupted."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    code, printed = forked_runs.run(folder, *OPTIONS, on(device))
    assert code == 0, printed
    return folder


def assert_same(run: Path, straight: Path) -> None:
    """Bit for bit: a GPU adds up the products of matrices in an order that depends on their shapes alone."""
    for part in ("state_dict", "optimizer_states", "generators", "global_step"):
        assert same(last(run)[part], last(straight)[part]), part


def test_killed_and_resumed_equals_uninterrupted(device: torch.device, straight: Path, tmp_path: Path) -> None:
    killer = f"+callbacks.stop={{_target_: signal_callback.SignalAt, step: 17, signum: {int(signal.SIGKILL)}, validation: false, rank: 0}}"
    words = [*OPTIONS, on(device), "callbacks.last.every_n_steps=5"]
    assert forked_runs.run(tmp_path / "run", *words, killer)[0] == -signal.SIGKILL
    assert last(tmp_path / "run")["global_step"] == 15
    code, printed = forked_runs.run(tmp_path / "run", *words, "existing=resume")
    assert code == 0, printed
    assert_same(tmp_path / "run", straight)


def test_resident_data_train_to_the_same(device: torch.device, straight: Path, tmp_path: Path) -> None:
    code, printed = forked_runs.run(tmp_path / "run", *OPTIONS, on(device), "data.device_resident=true")
    assert code == 0, printed
    assert_same(tmp_path / "run", straight)


@pytest.mark.parametrize("resident", [False, True], ids=["copied", "resident"])
def test_steps_do_not_wait_and_keep_their_memory(
    resident: bool, device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a step, from the batch to the optimizer, but for those in which something is logged. The first epoch is a warm-up."""
    advance, memory, places = ShortSteps.advance, dict[int, list[int]](), set[str]()

    def watched(steps: ShortSteps, fetcher: Any) -> None:
        epoch = steps.trainer.current_epoch
        if epoch == 0:
            advance(steps, fetcher)
            return
        with errors_if_waiting(device):
            advance(steps, fetcher)
        gc.collect()
        memory.setdefault(epoch, []).append(torch.cuda.memory_allocated(device) if device.type == "cuda" else 0)
        places.add(steps.trainer.datamodule.splits["train"].dataset.x.device.type)  # type: ignore[attr-defined]

    monkeypatch.setattr(ShortSteps, "advance", watched)
    train(composed([*OPTIONS, on(device), f"data.device_resident={str(resident).lower()}"], tmp_path / "run"))
    assert len(memory[1]) == 8  # of twelve; every third is logged
    assert memory[2] == memory[3]
    assert places == {device.type if resident else "cpu"}


def test_the_command_trains_what_is_compiled(device: torch.device, tmp_path: Path) -> None:
    """The last of all: it takes longest."""
    assert_trains(device, tmp_path / "run", "speed=fast")
