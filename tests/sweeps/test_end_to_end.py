"""A sweep as a user types it, on this machine, killed and continued."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import forked_runs
import torch
from forked_scripts import ROOT, command
from small_runs import QUICK, SMALL

from vaelab.runs.folder import RunFolder


def sweep(folder: Path, *words: str) -> str:
    return command("train.py", "-m", *SMALL, *QUICK, *words, cwd=folder).stdout


def test_a_sweep_that_is_killed_within_an_epoch_ends_bit_for_bit_as_one_that_was_not(tmp_path: Path) -> None:
    """One job is of two processes: as each job is its own command line, its second rank joins it, and not a sweep of its own."""
    slow = f"{{_target_: slow_callback.SlowFrom, epoch: 1, seconds: 300, until: {tmp_path / 'killed'}}}"
    words = ["trainer=cpu,ddp_cpu", "seed=0", "hydra.launcher.n_jobs=2", f"+callbacks.slow={slow}"]
    runs = [RunFolder(tmp_path / "outputs/sweeps/killed" / f"trainer={name}") for name in ("cpu", "ddp_cpu")]
    line = [sys.executable, str(ROOT / "scripts" / "train.py"), "-m", *SMALL, *QUICK, "sweep=killed", *words]
    with subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:  # whose jobs are its children, and end with it
        while not all((run.path / "slow").exists() for run in runs):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    (tmp_path / "killed").touch()
    while any(run.state == "running" for run in runs):  # the jobs, which are told to end
        time.sleep(0.1)
    for run, num_processes in zip(runs, (1, 2), strict=True):
        place = torch.load(run.last_checkpoint, weights_only=True)["place"]
        assert (place["epoch"], place["num_processes"]) == (1, num_processes)
        assert place["batch"] > 0
    assert "2 to go on, 0 to start" in sweep(tmp_path, "sweep=killed", *words)
    straight = [tmp_path / "one_process", tmp_path / "two_processes"]
    assert forked_runs.run(straight[0], *SMALL, *QUICK, "seed=0")[0] == 0
    assert forked_runs.run_ranks(straight[1], 2, *SMALL, *QUICK, "seed=0", "trainer=ddp_cpu")[0] == [0, 0]
    for run, other in zip(runs, map(RunFolder, straight), strict=True):
        assert run.results()["test"] == other.results()["test"]
        after, expected = (torch.load(folder.last_checkpoint, weights_only=True) for folder in (run, other))
        assert after["global_step"] == expected["global_step"]
        assert all(torch.equal(after["state_dict"][key], expected["state_dict"][key]) for key in expected["state_dict"])
