"""Sweeps of the stub application."""

import json
import signal
import subprocess
import time
from pathlib import Path

from forked_scripts import Script, command

STUB = Path(__file__).with_name("stub_application.py")


def sweep(folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """How a sweep in `folder` ended, and what it printed."""
    return command(STUB, "-m", *words, check=check, cwd=folder)


def results(folder: Path, name: str) -> dict[str, dict]:
    """results.json of the finished runs of a sweep, by their names."""
    return {path.parent.name: json.loads(path.read_text()) for path in (folder / "outputs/sweeps" / name).glob("*/results.json")}


def three_jobs_die(folder: Path, *launcher: str) -> None:
    """Assert that three jobs that die do not stop the fourth, and are named."""
    done = sweep(folder, "sweep=ends", "end=finished,raises,is_killed,fills_the_disk", *launcher, check=False)
    assert done.returncode != 0
    assert list(results(folder, "ends")) == ["end=finished"]
    told = done.stdout + done.stderr
    for how, why in (("raises", "this run was to fail"), ("is_killed", "killed by SIGKILL"), ("fills_the_disk", "No space left on device")):
        assert f"failed: end={how}" in told
        assert why in told
    assert "3 of 4 jobs failed" in told


def is_told_to_end(folder: Path, *launcher: str) -> list[str]:
    """Assert that a sweep that is told to end leaves checkpoints to go on from; return its words."""
    words = ["sweep=told", "seed=0,1", "trainer.max_epochs=10000", "seconds=0.1", "hydra.sweeper.summarize=false", *launcher]
    runs = [folder / "outputs/sweeps/told" / name for name in ("seed=0", "seed=1")]
    process = Script(STUB, "-m", *words, cwd=folder)
    while not all((run / "checkpoints/last.ckpt").is_file() for run in runs):
        assert process.poll() is None, process.wait()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    told = process.wait(120)
    assert told.returncode == 130
    assert "stopped: what runs writes a checkpoint and ends; the same line goes on" in told.stdout
    for run in runs:
        assert "stopped by SIGTERM in epoch" in (run / "console.log").read_text()
    return words
