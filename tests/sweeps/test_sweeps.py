"""Grids that are killed, fail and are continued, of an application that takes no time."""

import csv
import json
import random
import signal
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from forked_scripts import Script, command
from small_runs import SMALL
from stub_sweeps import STUB, is_told_to_end, results, sweep, three_jobs_die

from vaelab.runs.claims import made_anew

SEARCH = "hparams_search=optuna"


def killed_often(folder: Path, name: str, times: int, *words: str) -> dict[str, str]:
    """Start a sweep and kill it (-9), again and again; its jobs end with it. When each run was finished that has been seen to be."""
    moments, seconds, first = random.Random(name), None, {}
    for _ in range(times):
        start = time.monotonic()
        process = Script(STUB, "-m", f"sweep={name}", *words, cwd=folder)
        if seconds is None:  # how long it takes until jobs run
            while not list(folder.glob(f"outputs/sweeps/{name}/*/epochs.txt")):
                assert process.poll() is None, process.wait()
                time.sleep(0.05)
            seconds = time.monotonic() - start
        else:
            process.process.join(moments.uniform(0, 2 * seconds))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for run, record in results(folder, name).items():
            first.setdefault(run, record["finished"])
    return first


def test_sweeps_killed_at_52_random_moments_end_as_one_that_was_not(tmp_path: Path) -> None:
    words = ["seed=range(3)", "trainer.max_epochs=60", "hydra.sweeper.summarize=false"]
    sweeps = {f"{n_jobs}_at_a_time_{i}": [*words, "seconds=0.05", f"hydra.launcher.n_jobs={n_jobs}"] for n_jobs in (1, 2) for i in (0, 1)}
    with ThreadPoolExecutor(len(sweeps)) as pool:
        finished_first = list(pool.map(lambda name: killed_often(tmp_path, name, 13, *sweeps[name]), sweeps))
        list(pool.map(lambda name: sweep(tmp_path, f"sweep={name}", *sweeps[name]), sweeps))
    assert any(finished_first)
    sweep(tmp_path, "sweep=straight", "hydra/launcher=basic", *words)
    straight = results(tmp_path, "straight")
    assert len(straight) == 3
    for name, first in zip(sweeps, finished_first, strict=True):
        after = results(tmp_path, name)
        assert {run: after[run]["finished"] for run in first} == first  # what was finished has not been run again
        assert {run: record["test"] for run, record in after.items()} == {run: record["test"] for run, record in straight.items()}
        for run in after:
            epochs = (tmp_path / "outputs/sweeps" / name / run / "epochs.txt").read_text().split()
            assert list(map(int, epochs)) == list(range(60))  # each once: all went on from where they had stopped
        assert "3 of them finished" in sweep(tmp_path, f"sweep={name}", *sweeps[name]).stdout


def test_three_jobs_that_die_do_not_stop_the_others_and_are_named(tmp_path: Path) -> None:
    three_jobs_die(tmp_path, "hydra.launcher.n_jobs=2")


def test_another_config_under_the_same_name_is_refused(tmp_path: Path) -> None:
    words = ["sweep=one", "hydra.launcher.n_jobs=2", "hydra.sweeper.summarize=false"]
    sweep(tmp_path, *words, "seed=0,1")
    refused = sweep(tmp_path, *words, "seed=0,1,2", "objective.beta=2", check=False)
    assert refused.returncode != 0
    assert "objective.beta: 1.0, now 2  (2 jobs)" in refused.stderr
    assert not (tmp_path / "outputs/sweeps/one/seed=2").exists()


def test_the_table_at_the_end_is_right(tmp_path: Path) -> None:
    sweep(tmp_path, "sweep=table", "seed=range(3)", "hydra.launcher.n_jobs=3")
    elbos = [record["test"]["elbo"] for record in results(tmp_path, "table").values()]
    (row,) = csv.DictReader((tmp_path / "outputs/sweeps/table/summary/summary.csv").open())
    assert float(row["elbo_mean"]) == pytest.approx(statistics.mean(elbos), rel=1e-6)
    assert float(row["elbo_std"]) == pytest.approx(statistics.stdev(elbos), rel=1e-6)
    half = 4.302652729911275 * statistics.stdev(elbos) / 3**0.5  # Student's t with two degrees of freedom
    assert float(row["elbo_half_width"]) == pytest.approx(half, rel=1e-6)


def test_a_sweep_that_is_told_to_end_leaves_checkpoints_to_go_on_from(tmp_path: Path) -> None:
    is_told_to_end(tmp_path, "hydra.launcher.n_jobs=2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=0,1", "hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs=0 must be at least 1"),
        ([SEARCH, "seed=0"], "nothing to search"),
        ([SEARCH, "seed=0,1", "hydra.sweeper.sampler=tpa"], "hydra.sweeper.sampler=tpa must be one of tpe"),
        ([SEARCH, "seed=0,1", "hydra.sweeper.metrics=[val/elbo,test/mig]"], "need as many directions"),
        (["objective.beta=1,2", "objective.betta=1"], "objective.betta"),
        (["seed=0,1", "trainer.devices=2", "launcher=joblib"], "launcher=local"),
        (["seed=0,1", "trainer.devices=2", "launcher=slurm"], "trainer.devices=2, but hydra.launcher.tasks_per_node=1"),
        (["seed=0,1", "launcher=slurm", "hydra.launcher.tasks_per_node=2"], "trainer.devices=1, but hydra.launcher.tasks_per_node=2"),
        (["seed=0,1", "launcher=slurm", "trainer.num_nodes=2"], "trainer.num_nodes=2, but hydra.launcher.nodes=1"),
        (["seed=0,1", "launcher=slurm", "hydra.launcher.nodes=2"], "trainer.num_nodes=1, but hydra.launcher.nodes=2"),
        (["seed=0,1", "trainer.num_nodes=2"], "trainer.num_nodes=2 needs launcher=slurm"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(words: list[str], message: str, tmp_path: Path) -> None:
    refused = command("train.py", "-m", *SMALL, *words, check=False, cwd=tmp_path)
    assert refused.returncode != 0
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.glob("outputs/sweeps/*/*/checkpoints"))


def test_sweeps_and_runs_that_start_in_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    """Six sweeps and six runs, which nobody has named: each finds its own jobs, and no other's."""
    words = ["hydra.sweeper.summarize=false", "hydra/launcher=basic"]
    sweeps = [Script(STUB, "-m", f"objective.beta={beta},{beta + 10}", *words, cwd=tmp_path) for beta in range(1, 7)]
    ends = [process.wait() for process in sweeps]
    assert [end.returncode for end in ends] == [0] * 6, ends
    found = [sorted(path.name for path in folder.glob("*/")) for folder in (tmp_path / "outputs/sweeps").iterdir()]
    assert sorted(found) == sorted(sorted([f"objective.beta={beta}", f"objective.beta={beta + 10}"]) for beta in range(1, 7))
    for path in tmp_path.glob("outputs/sweeps/*/*/results.json"):
        assert json.loads(path.read_text())["test"]["rate"] == float(path.parent.name.partition("=")[2])


def test_of_folders_with_one_name_each_process_makes_its_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: made_anew(tmp_path / "a" / "b"), range(40)))
    assert len({path.resolve() for path in made}) == 40
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        made_anew(tmp_path / "file" / "x")
