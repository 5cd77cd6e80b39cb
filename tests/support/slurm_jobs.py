"""A cluster of one node, and the jobs that the tests of SLURM look at: all at once, in the background, while other tests run.

python tests/support/slurm_jobs.py <folder>

Each job has a folder of its own below; when it has ended, told.txt there is what it printed, and code.txt its exit code. If the cluster
does not start, or a job does not end, failed.txt says so.
"""

import ctypes
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from forked_scripts import ROOT
from small_runs import QUICK, SMALL
from stub_sweeps import STUB

CLUSTER = Path(__file__).with_name("slurm_cluster.sh")
PACKAGES = {"sbatch": "slurm-wlm", "slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "slurmdbd": "slurmdbd", "munged": "munge"}
PACKAGES |= {"mariadbd": "mariadb-server"}
TRAIN = [sys.executable, str(ROOT / "scripts" / "train.py")]
LAUNCHER = [
    "launcher=slurm",
    *[f"hydra.launcher.{option}" for option in ("cpus_per_task=1", "mem_gb=2", "timeout_min=5", "signal_delay_s=30")],
]
BATCH = ["--ntasks-per-node=2", "--cpus-per-task=1", "--mem=4G", "--time=5", "--signal=USR1@30", "--requeue", "--open-mode=append"]
SECONDS = 900  # in which all jobs end
PR_SET_PDEATHSIG = 1  # of Linux' prctl


def lacking() -> str:
    """What has to be done before there can be a cluster; "" if nothing."""
    packages = {package for program, package in PACKAGES.items() if shutil.which(program) is None}
    if packages:
        return f"apt-get install --no-install-recommends {' '.join(sorted(packages))}"
    return "" if os.geteuid() == 0 else "be root, who alone can start a cluster"


def begin(folder: Path) -> subprocess.Popen[bytes]:
    """The process that does all this."""
    return subprocess.Popen([sys.executable, __file__, str(folder)])


def ended(folder: Path, name: str) -> tuple[int, str]:
    """The exit code of a job, and what it printed; it is waited for.

    Raises:
        AssertionError: if the cluster did not start, or a job does not end.
    """
    deadline = time.monotonic() + SECONDS + 60
    while not (folder / name / "code.txt").exists():
        assert not (folder / "failed.txt").exists(), (folder / "failed.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return int((folder / name / "code.txt").read_text()), (folder / name / "told.txt").read_text()


def slow_until_resumed(run: str, epoch: int, seconds: int) -> str:
    """An override that gives every step of a run so many seconds, until the run has been stopped and goes on."""
    return f"+callbacks.slow={{_target_: slow_callback.SlowFrom, epoch: {epoch}, seconds: {seconds}, until: {run}/resumed}}"


def sweeps(folder: Path) -> dict[str, list[str]]:
    """The command line of each sweep, by the name of its folder."""
    quick, run = [*TRAIN, "-m", *SMALL, *QUICK, *LAUNCHER, "sweep=s", "seed=0"], folder / "time_limit/outputs/sweeps/s/run"
    # it looks at its limits every half minute: this run is told 85 to 115 seconds after its start
    limit = ["hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=35", "scheduler=cosine", slow_until_resumed(str(run), 0, 10)]
    return {
        "time_limit": [*quick, *limit],
        "two_tasks": [*quick, "trainer=ddp_cpu", "hydra.launcher.tasks_per_node=2"],
        "failing": [sys.executable, str(STUB), "-m", *LAUNCHER, "sweep=s", "objective.beta=1,2,-1"],
    }


def submitted(folder: Path) -> str:
    """The number of a job whose script a user has written."""
    line = shlex.join([*TRAIN, *SMALL, "trainer=ddp_cpu", "evaluation.figures=false"])
    slow = slow_until_resumed("$PWD/outputs/circles/slurm-$SLURM_JOB_ID.0", 1, 3)
    script = "\n".join(["#!/bin/bash", *[f"#SBATCH {option}" for option in BATCH], f'srun {line} "{slow}"'])
    options = ["sbatch", "--parsable", "--output=told.txt"]
    return subprocess.run(options, input=script, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def queued() -> dict[str, str]:
    """The reason why each job waits, by its number; a job that runs waits for nothing."""
    told = subprocess.run(["squeue", "-h", "-o", "%i %r"], capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^(\S+) (.*)$", told, re.MULTILINE))


def run_all(folder: Path) -> None:
    """Start the cluster and everything on it, and wait until it has ended."""
    cluster = subprocess.run([str(CLUSTER), "start"], capture_output=True, text=True, timeout=120, check=False)
    assert "idle" in cluster.stdout, cluster.stdout + cluster.stderr
    running: dict[str, subprocess.Popen[bytes]] = {}
    for name, line in sweeps(folder).items():
        (folder / name).mkdir()
        with (folder / name / "told.txt").open("w") as told:
            running[name] = subprocess.Popen(line, cwd=folder / name, stdout=told, stderr=subprocess.STDOUT)
        while not queued() and running[name].poll() is None:  # what takes longest, and is first, runs first
            time.sleep(0.5)
    (folder / "batch").mkdir()
    batch: str | None = submitted(folder / "batch")
    stopped, deadline = False, time.monotonic() + SECONDS
    while running or batch:
        assert time.monotonic() < deadline, f"{[*running, batch]} did not end"
        time.sleep(1)
        for name in [name for name, process in running.items() if process.poll() is not None]:
            (folder / name / "code.txt").write_text(str(running.pop(name).returncode))
        queue = queued()
        if batch and not stopped and (folder / f"batch/outputs/circles/slurm-{batch}.0/slow").exists():
            subprocess.run(["scancel", "--signal=USR1", batch], check=True)  # as before its time limit
            stopped = True
        if batch and batch not in queue:
            (folder / "batch" / "code.txt").write_text("0")
            batch = None
        again = [number for number, reason in queue.items() if reason == "BeginTime"]  # which would wait for two minutes
        if again:
            time.sleep(3)  # what starts in the second in which its job was stopped is refused: "Job credential revoked"
        for number in again:
            subprocess.run(["scontrol", "update", f"jobid={number}", "StartTime=now"], check=False)


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # when the tests are killed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    here = Path(sys.argv[1])
    try:
        run_all(here)
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        (here / "failed.txt").write_text(str(error))
    finally:
        subprocess.run(["scancel", "--user", "root"], check=False)
        subprocess.run([str(CLUSTER), "stop"], check=True, timeout=120)
