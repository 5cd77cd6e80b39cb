"""A killed run goes on, and ends where the run that was not killed ends, bit for bit."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from running import ROOT, SMALL, command, composed, train_small

OPTIONS = ["scheduler=cosine", "trainer.max_epochs=4", "evaluation.enabled=false", "evaluation.figures=false"]


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def last(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path) -> None:
    """kill -9 in the middle of the third epoch, which a callback makes slow."""
    slow = "+callbacks.slow={_target_: slow.SlowFrom, epoch: 2, seconds: 0.5}"
    line = [sys.executable, str(ROOT / "scripts" / "train.py"), *SMALL, *OPTIONS, slow, f"hydra.run.dir={tmp_path / 'killed'}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    with subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "killed" / "slow").exists():
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert last(tmp_path / "killed")["epoch"] == 1
    command("train.py", f"resume={tmp_path / 'killed'}", "+callbacks.slow.epoch=100", env=environment)
    straight = tmp_path / "straight"  # in a process of its own too: the tests' type checker draws from Python's generator
    command("train.py", *SMALL, *OPTIONS, f"hydra.run.dir={straight}")
    resumed, uninterrupted = last(tmp_path / "killed"), last(straight)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "generators", "epoch", "global_step"):
        assert equal(resumed[part], uninterrupted[part]), part
    rows = [list(csv.DictReader((run / "metrics.csv").open())) for run in (tmp_path / "killed", straight)]
    for row in rows[0] + rows[1]:
        row.pop("train/images_per_second")
    assert rows[0] == rows[1]  # nothing lost, nothing twice
    assert (tmp_path / "killed" / ".hydra" / "overrides.yaml").read_text().count("resume") == 0
    assert len(list((tmp_path / "killed" / "resumed").glob("*/.hydra/overrides.yaml"))) == 1


def test_a_learning_rate_that_was_planned_for_so_many_epochs_is_not_stretched(tmp_path: Path) -> None:
    """It would start to rise again."""
    run = train_small(tmp_path / "run", "scheduler=cosine", "trainer.max_epochs=1")
    refused = command("train.py", f"resume={run}", "trainer.max_epochs=3", check=False)
    assert "was planned for 1 epochs" in refused.stderr
    assert "pretrained=" in refused.stderr


def test_a_finished_run_can_be_trained_for_longer_after_it_was_moved(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run", "trainer.max_epochs=1")
    best = json.loads((run / "results.json").read_text())["val"]["elbo"]
    run = run.rename(tmp_path / "moved")
    command("train.py", f"resume={run}", "trainer.max_epochs=3")
    assert json.loads((run / "results.json").read_text())["epochs"] == 3
    assert not (tmp_path / "run").exists()
    score = next(state["best_model_score"] for key, state in last(run)["callbacks"].items() if "val/elbo" in key)
    assert score >= best - 1e-4


@pytest.mark.parametrize("override", ["objective.beta=4", "latent_dim=3", "seed=1", "data.batch_size=8", "speed=fast"])
def test_what_is_learned_cannot_change_on_the_way(override: str, tmp_path: Path) -> None:
    from vaelab.experiment import changed

    with pytest.raises(ValueError, match="cannot be changed when a run is continued"):
        changed(composed(SMALL, tmp_path), ["resume=somewhere", override])


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run", "trainer.max_epochs=1", "evaluation.enabled=false")
    with pytest.raises(ValueError, match="already holds a run: go on with resume="):
        train_small(run)


def test_of_two_runs_that_start_at_once_in_one_folder_one_is_refused(tmp_path: Path) -> None:
    line = [sys.executable, str(ROOT / "scripts" / "train.py"), *SMALL, "evaluation.enabled=false", f"hydra.run.dir={tmp_path / 'run'}"]
    both = [subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    assert sum("already holds a run" in error for error in errors) == 1


def test_a_run_that_was_stopped_inside_an_epoch_says_so(tmp_path: Path) -> None:
    """6 steps are an epoch; a run goes on only from the end of one."""
    run = train_small(tmp_path / "run", "trainer.max_steps=9", "evaluation.enabled=false", "evaluation.figures=false")
    with pytest.raises(ValueError, match=r"stopped in the middle of an epoch, at step 9, by trainer\.max_steps"):
        train_small(tmp_path / "other", f"resume={run}")


def test_a_finished_run_that_is_resumed_keeps_its_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_small(tmp_path / "run", *OPTIONS)
    before = json.loads((run / "results.json").read_text())
    train_small(tmp_path / "other", f"resume={run}")
    after = json.loads((run / "results.json").read_text())
    assert "nothing was left to train after 24 steps" in capsys.readouterr().out
    for key in ("val", "test", "steps", "epochs", "checkpoint"):
        assert after[key] == before[key]


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    slow = "+callbacks.slow={_target_: slow.SlowFrom, epoch: 1, seconds: 0.5}"
    line = [sys.executable, str(ROOT / "scripts" / "train.py"), *SMALL, *OPTIONS, slow, f"hydra.run.dir={tmp_path / 'run'}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "slow").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert f"stopped in epoch 1: go on with resume={tmp_path / 'run'}" in out
