"""Sweeps on a real SLURM: a cluster of one node, started for these tests and stopped after them."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forked_scripts import ROOT
from small_runs import SMALL, SUPPORT

CLUSTER = Path(__file__).with_name("cluster.sh")
PROGRAMS = ("sbatch", "slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd")
POSSIBLE = os.geteuid() == 0 and all(shutil.which(name) for name in PROGRAMS)
pytestmark = pytest.mark.skipif(not POSSIBLE and "CI" not in os.environ, reason="needs root and slurm-wlm munge slurmdbd mariadb-server")

QUICK = [*SMALL, "evaluation.figures=false", "evaluation.report=false", "~callbacks.pictures", "~callbacks.first_batch", "launcher=slurm"]
QUICK += [f"hydra.launcher.{option}" for option in ("cpus_per_task=1", "mem_gb=2", "timeout_min=5", "signal_delay_s=30")]
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]),
}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    started = subprocess.run([str(CLUSTER), "start"], capture_output=True, text=True, timeout=120, check=False)
    try:
        assert "idle" in started.stdout, started.stdout + started.stderr
        yield
    finally:
        subprocess.run(["scancel", "--user", "root"], check=False)
        subprocess.run([str(CLUSTER), "stop"], check=True, timeout=120)


def sweep(folder: Path, *words: str) -> subprocess.Popen[str]:
    line = [sys.executable, str(ROOT / "scripts" / "train.py"), "-m", *QUICK, *words]
    return subprocess.Popen(line, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen[str], seconds: float = 300) -> str:
    told, _ = process.communicate(timeout=seconds)
    return told


def results(folder: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/results.json")}


def test_a_sweep_with_a_job_that_fails(tmp_path: Path) -> None:
    process = sweep(tmp_path, "sweep=s", "objective.beta=1,2,-1")
    told = finished(process)
    assert process.returncode != 0
    assert set(results(tmp_path / "outputs/sweeps/s")) == {"objective.beta=1", "objective.beta=2"}, told
    assert "failed: objective.beta=-1" in told
    assert "must not be negative" in told
    assert (tmp_path / "outputs/sweeps/s/summary/summary.csv").is_file()


def test_a_job_of_two_tasks_is_one_run(tmp_path: Path) -> None:
    process = sweep(tmp_path, "sweep=ddp", "seed=0", "trainer=ddp_cpu", "hydra.launcher.tasks_per_node=2")
    told = finished(process)
    assert process.returncode == 0, told
    assert set(results(tmp_path / "outputs/sweeps/ddp")) == {"run"}
    assert (tmp_path / "outputs/sweeps/ddp/run/.hydra").is_dir()
    assert not (tmp_path / "outputs/sweeps/ddp/run/resumed").exists()  # of a second task that takes the first one's .hydra for a run's


def until(done: Callable[[], bool]) -> None:
    """Waits; but a job that SLURM has queued again not for the two minutes that it would."""
    deadline = time.monotonic() + 240
    while not done():
        assert time.monotonic() < deadline
        queue = subprocess.run(["squeue", "-h", "-o", "%i %r"], capture_output=True, text=True, check=True).stdout
        for number in re.findall(r"^(\S+) BeginTime", queue, re.MULTILINE):
            time.sleep(3)  # what starts in the second in which its job was stopped is refused: "Job credential revoked"
            subprocess.run(["scontrol", "update", f"jobid={number}", "StartTime=now"], check=False)
        time.sleep(0.5)


def test_a_job_that_is_stopped_by_its_time_limit_is_queued_again_and_finishes(tmp_path: Path) -> None:
    """SLURM's shortest limit is a minute. The job is told before, writes a checkpoint within an epoch, and goes on."""
    slow = "+callbacks.slow={_target_: slow_callback.SlowFrom, epoch: 0, seconds: 2}"
    words = ["sweep=long", "seed=0", "hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=35", "scheduler=cosine", slow]
    process = sweep(tmp_path, *words)
    until(lambda: process.poll() is not None)
    told = finished(process, 10)
    assert process.returncode == 0, told
    (record,) = results(tmp_path / "outputs/sweeps/long").values()
    assert record["epochs"] == 2
    (log,) = tmp_path.glob("outputs/sweeps/long/.submitit/*/*_log.out")
    assert re.search(r"stopped by SIGUSR2 in epoch \d, after step \d+: go on", log.read_text())


def test_a_script_for_sbatch_of_two_tasks_goes_on_when_it_is_stopped(tmp_path: Path) -> None:
    """srun starts a process for each device. They share a folder, although its name would hold a time, and are started again."""
    words = [
        *SMALL,
        "trainer=ddp_cpu",
        "evaluation.figures=false",
        "+callbacks.slow={_target_: slow_callback.SlowFrom, epoch: 1, seconds: 1}",
    ]
    line = shlex.join([sys.executable, str(ROOT / "scripts" / "train.py"), *words])
    options = ["--ntasks-per-node=2", "--cpus-per-task=1", "--mem=4G", "--time=5", "--signal=USR1@30", "--requeue", "--open-mode=append"]
    script = "\n".join(["#!/bin/bash", *[f"#SBATCH {option}" for option in options], f"srun {line}"])
    submitted = subprocess.run(
        ["sbatch", "--parsable", "--output=log"], input=script, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    job, folder = submitted.stdout.strip(), tmp_path / "outputs/circles" / f"slurm-{submitted.stdout.strip()}.0"
    until((folder / "slow").exists)
    subprocess.run(["scancel", "--signal=USR1", job], check=True)  # as before its time limit
    until(lambda: not subprocess.run(["squeue", "-h", "-j", job], capture_output=True, text=True, check=True).stdout)
    told = (tmp_path / "log").read_text()
    assert json.loads((folder / "results.json").read_text())["epochs"] == 2, told
    assert "stopped by SIGUSR1 in epoch 1, after step " in told
    assert f"SLURM will start job {job} again" in told
    assert len(list((folder / "resumed").iterdir())) == 1
    assert {path.name for path in folder.glob("*.log")} == {"train.log", "train_rank_1.log"}
