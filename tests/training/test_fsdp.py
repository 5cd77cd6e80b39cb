"""Two processes on the CPU share out the weights of one model."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_scripts import ROOT, command
from small_runs import SMALL

# without a GPU, on a machine with one too
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "support")]),
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
FSDP = ["trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy={_target_: fsdp_on_cpu.OnCPU}"]
# a prior and a decoder that start from data, and a norm of the gradient that only all processes know
MODEL = ["prior=vamp", "prior.num_components=20", "objective.kl=k1", "trainer.gradient_clip_val=1", "callbacks=[default,mean_output]"]


def run(folder: Path, *words: str, code: int = 0) -> Path:
    done = command("train.py", *SMALL, *words, f"hydra.run.dir={folder}", check=False, env=ENVIRONMENT)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def last(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def tensors(checkpoint: dict[str, Any]) -> list[torch.Tensor]:
    states = checkpoint["optimizer_states"][0]["state"]
    return [*checkpoint["state_dict"].values(), *(value for i in sorted(states) for value in states[i].values())]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("fsdp") / "run", *FSDP, *MODEL)


def test_shared_out_weights_train_to_those_of_two_processes_that_have_all(shared: Path, tmp_path: Path) -> None:
    """And what is written of them is the same: the checkpoint with the optimizer's state, the numbers, the pictures."""
    ddp = run(tmp_path / "ddp", "trainer=ddp_cpu", *MODEL)
    ours, theirs = last(shared), last(ddp)
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    assert ours["optimizer_states"][0]["param_groups"] == theirs["optimizer_states"][0]["param_groups"]
    for a, b in zip(tensors(ours), tensors(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    rows, others = (list(csv.DictReader((folder / "metrics.csv").open())) for folder in (shared, ddp))
    for row, other in zip(rows, others, strict=True):
        for key in row.keys() - {"train/images_per_second"}:
            assert row[key] == other[key] or float(row[key]) == pytest.approx(float(other[key]), rel=1e-4)
    mine, other = (json.loads((folder / "results.json").read_text()) for folder in (shared, ddp))
    assert mine["num_parameters"] == other["num_parameters"]
    assert {path.relative_to(shared) for path in shared.rglob("*.png")} == {path.relative_to(ddp) for path in ddp.rglob("*.png")}


def test_the_folder_is_opened_by_one_process(shared: Path) -> None:
    command("evaluate.py", f"run={shared}", "metrics.likelihood.num_samples=4", env=ENVIRONMENT)
    found = json.loads((shared / "results.json").read_text())
    assert found["test"]["num_images_log_likelihood"] == found["test"]["num_images"] == 96


def test_a_run_that_is_stopped_in_an_epoch_goes_on_bit_for_bit(shared: Path, tmp_path: Path) -> None:
    stop = "+callbacks.stop={_target_: signal_callback.SignalAt, step: 2}"
    folder = run(tmp_path / "stopped", *FSDP, *MODEL, stop, code=143)
    assert last(folder)["global_step"] == 2
    command("train.py", f"resume={folder}", "trust=true", env=ENVIRONMENT)
    for a, b in zip(tensors(last(shared)), tensors(last(folder)), strict=True):
        assert torch.equal(a, b)


NOT_FOR = (
    "trainer=fsdp is not for objective=factor_tc, which freezes its discriminator within a step, nor for batch-norm without"
    " trainer.sync_batchnorm=true, nor for optimizer=adam_norm_grad, which needs the length of whole gradients,"
    " nor for trainer.precision=bf16-mixed (speed=fast can be): set trainer=ddp"
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2"], "requires a GPU accelerator"),
        (
            [
                *FSDP,
                "objective=factor_tc",
                "optimizer=adam_norm_grad",
                "encoder=conv",
                "encoder.batch_norm=true",
                "trainer.precision=bf16-mixed",
            ],
            NOT_FOR,
        ),
    ],
)
def test_what_cannot_be_is_said_before_training(words: list[str], message: str, tmp_path: Path) -> None:
    folder = tmp_path / "refused"
    done = command("train.py", *SMALL, *words, f"hydra.run.dir={folder}", check=False, env=ENVIRONMENT)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(folder.glob("events.*"))
