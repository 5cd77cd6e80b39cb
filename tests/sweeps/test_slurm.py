"""Sweeps on a real SLURM. Their jobs are started before all tests and looked at after them: see tests/support/slurm_jobs.py."""

import json
import os
import re
from pathlib import Path

import pytest
from slurm_jobs import ended, lacking

pytestmark = pytest.mark.skipif(bool(lacking()) and "CI" not in os.environ, reason=f"needs a SLURM: {lacking()}")


def results(folder: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in (folder / "outputs/sweeps/s").glob("*/results.json")}


def test_a_sweep_with_a_job_that_fails(slurm_jobs: Path) -> None:
    code, told = ended(slurm_jobs, "failing")
    assert code != 0
    assert set(results(slurm_jobs / "failing")) == {"objective.beta=1", "objective.beta=2"}, told
    assert "failed: objective.beta=-1" in told
    assert "must not be negative" in told
    assert (slurm_jobs / "failing/outputs/sweeps/s/summary/summary.csv").is_file()


def test_a_job_of_two_tasks_is_one_run(slurm_jobs: Path) -> None:
    code, told = ended(slurm_jobs, "two_tasks")
    assert code == 0, told
    assert set(results(slurm_jobs / "two_tasks")) == {"run"}
    run = slurm_jobs / "two_tasks/outputs/sweeps/s/run"
    assert (run / ".hydra").is_dir()
    assert not (run / "resumed").exists()  # of a second task that takes the first one's .hydra for a run's


def test_a_job_that_is_stopped_by_its_time_limit_is_queued_again_and_finishes(slurm_jobs: Path) -> None:
    """It is told before, writes a checkpoint within an epoch, and goes on."""
    code, told = ended(slurm_jobs, "time_limit")
    assert code == 0, told
    (record,) = results(slurm_jobs / "time_limit").values()
    assert record["epochs"] == 2
    (log,) = (slurm_jobs / "time_limit").glob("outputs/sweeps/s/.submitit/*/*_log.out")
    assert re.search(r"stopped by SIGUSR2 in epoch \d, after step \d+: go on", log.read_text())


def test_a_script_for_sbatch_of_two_tasks_goes_on_when_it_is_stopped(slurm_jobs: Path) -> None:
    """srun starts a process for each device. They share a folder, although its name would hold a time, and are started again."""
    _, told = ended(slurm_jobs, "batch")
    (folder,) = (slurm_jobs / "batch/outputs/circles").iterdir()
    job, step = re.fullmatch(r"slurm-(\d+)\.(\d+)", folder.name).groups()
    assert step == "0"
    assert json.loads((folder / "results.json").read_text())["epochs"] == 2, told
    assert "stopped by SIGUSR1 in epoch 1, after step " in told
    assert f"SLURM will start job {job} again" in told
    assert len(list((folder / "resumed").iterdir())) == 1
    assert {path.name for path in folder.glob("*.log")} == {"train.log", "train_rank_1.log"}
