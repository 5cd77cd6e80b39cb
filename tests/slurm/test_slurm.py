"""Sweeps on a real SLURM: a cluster of one node, started for these tests and stopped after them."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import ROOT, SMALL

CLUSTER = Path(__file__).with_name("cluster.sh")
PROGRAMS = ("sbatch", "slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd")
POSSIBLE = os.geteuid() == 0 and all(shutil.which(name) for name in PROGRAMS)
pytestmark = pytest.mark.skipif(not POSSIBLE and "CI" not in os.environ, reason="needs root and slurm-wlm munge slurmdbd mariadb-server")

QUICK = [*SMALL, "evaluation.figures=false", "evaluation.report=false", "~callbacks.pictures", "~callbacks.first_batch", "launcher=slurm"]
QUICK += [f"hydra.launcher.{option}" for option in ("cpus_per_task=1", "mem_gb=2", "timeout_min=5", "signal_delay_s=30")]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    started = subprocess.run([str(CLUSTER), "start"], capture_output=True, text=True, timeout=120, check=False)
    assert "idle" in started.stdout, started.stdout + started.stderr
    yield
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


def test_a_job_that_is_stopped_by_its_time_limit_is_queued_again_and_finishes(tmp_path: Path) -> None:
    """SLURM's shortest limit is a minute. The job is told half a minute before, writes a checkpoint within an epoch, and goes on."""
    slow = "+callbacks.slow={_target_: slow.SlowFrom, epoch: 0, seconds: 2}"
    words = ["sweep=long", "seed=0", "hydra.launcher.timeout_min=1", "trainer.max_epochs=3", "scheduler=cosine", slow]
    process = sweep(tmp_path, *words)
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        queue = subprocess.run(["squeue", "-h", "-o", "%i %t"], capture_output=True, text=True, check=True).stdout
        for number in re.findall(r"^\s*(\S+) PD", queue, re.MULTILINE):
            subprocess.run(["scontrol", "update", f"jobid={number}", "StartTime=now"], check=False)  # a requeued job waits two minutes
        time.sleep(1)
    told = finished(process, 10)
    assert process.returncode == 0, told
    (record,) = results(tmp_path / "outputs/sweeps/long").values()
    assert record["epochs"] == 3
