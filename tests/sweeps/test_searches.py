"""Searches that share a study: of several processes and machines, killed or not."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from forked_scripts import ROOT
from optuna.trial import FrozenTrial, TrialState
from small_runs import SMALL, SUPPORT

from vaelab.sweeps.trials import storage

QUICK = [*SMALL, "trainer.max_epochs=1", "evaluation.figures=false", "evaluation.report=false", "~callbacks.pictures"]
QUICK += ["~callbacks.first_batch", "hparams_search=optuna"]
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]),
}


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    line = [sys.executable, str(ROOT / "scripts" / "train.py"), "-m", *QUICK, *words]
    return subprocess.Popen(line, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    told, _ = process.communicate(timeout=400)
    assert process.returncode == code, told[-3000:]
    return told


def trials(where: str, name: str, *states: TrialState) -> list[FrozenTrial]:
    try:
        return optuna.load_study(study_name=name, storage=storage(where)).get_trials(states=states or None)
    except KeyError:  # not yet
        return []


def assert_each_once(where: str, name: str, total: int) -> None:
    done = trials(where, name, TrialState.COMPLETE)
    assert len(done) == total
    assert len({tuple(trial.params.items()) for trial in done}) == total
    assert not trials(where, name, TrialState.RUNNING)


def test_two_machines_share_a_database_and_one_of_them_dies(tmp_path: Path) -> None:
    """Each has a folder of its own. What the killed one was computing, the other one computes."""
    url = f"sqlite:///{tmp_path}/study.db"
    words = ["sweep=shared", "optimizer.lr=tag(log,interval(1e-4,1e-1))", "hydra.sweeper.n_trials=5", f"hydra.sweeper.storage={url}"]
    one, other = (started(tmp_path / name, *words) for name in ("one", "other"))
    while not [trial for trial in trials(url, "shared", TrialState.RUNNING) if trial.user_attrs.get("owner", "").endswith(f":{one.pid}")]:
        assert one.poll() is None, one.communicate()[0]
        time.sleep(0.2)
    one.send_signal(signal.SIGKILL)
    one.communicate()
    ended(other)
    assert_each_once(url, "shared", 5)
    with sqlite3.connect(tmp_path / "study.db") as database:
        beating = database.execute("SELECT COUNT(*) FROM trial_heartbeats JOIN trials USING (trial_id) WHERE state = 'COMPLETE'")
        assert beating.fetchone() == (5,)
    lost = [trial.params for trial in trials(url, "shared", TrialState.FAIL) if trial.user_attrs["owner"].endswith(f":{one.pid}")]
    assert lost
    assert all(params in [trial.params for trial in trials(url, "shared", TrialState.COMPLETE)] for params in lost)
    ended(started(tmp_path / "one", *words))
    assert_each_once(url, "shared", 5)
    (best,) = json.loads((tmp_path / "one/outputs/sweeps/shared/best.json").read_text())
    assert Path(best["folder"]).parent == tmp_path / "other/outputs/sweeps/shared"
    folders = (tmp_path / "other").glob("outputs/sweeps/shared/*/results.json")
    assert best["values"] == [max(json.loads(path.read_text())["val"]["elbo"] for path in folders)]


def test_two_processes_share_a_folder_and_a_grid(tmp_path: Path) -> None:
    """They queue the same points, and compute each once; one that fails is counted by neither, and tried again by the same line."""
    words = ["sweep=grid", "hydra.sweeper.sampler=grid", "objective.beta=1,2,4,-1", "latent_dim=2", "hydra.sweeper.n_jobs=2"]
    words += ["hydra.launcher.n_jobs=2"]
    processes = [started(tmp_path, *words) for _ in range(2)]
    told = [process.communicate(timeout=400)[0] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1], told
    journal = str(tmp_path / "outputs/sweeps/grid/study.journal")
    assert_each_once(journal, "grid", 3)
    again = ended(started(tmp_path, *words), code=1)
    assert "1 points of the grid failed; the same line tries them again" in again
    assert again.count("] starts") == 1
    assert "Warning" not in again
    assert_each_once(journal, "grid", 3)


def test_a_grid_that_is_killed_computes_each_point_once(tmp_path: Path) -> None:
    words = ["sweep=grid", "hydra.sweeper.sampler=grid", "objective.beta=1,2,4", "hydra.sweeper.n_jobs=2", "hydra.launcher.n_jobs=2"]
    journal = tmp_path / "outputs/sweeps/grid/study.journal"
    search = started(tmp_path, *words)
    while not (journal.is_file() and len(trials(str(journal), "grid", TrialState.RUNNING)) == 2):
        assert search.poll() is None, search.communicate()[0]
        time.sleep(0.2)
    search.send_signal(signal.SIGKILL)
    search.communicate()
    ended(started(tmp_path, *words))
    assert_each_once(str(journal), "grid", 3)


def test_a_trial_of_another_machine_whose_heart_no_longer_beats_is_queued_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="stale", storage=storage(url), direction="maximize")
    trial = study.ask({"optimizer.lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)})
    trial.set_user_attr("owner", "elsewhere:1")
    storage(url).record_heartbeat(trial._trial_id)
    words = ["sweep=stale", "optimizer.lr=tag(log,interval(1e-4,1e-1))", "hydra.sweeper.n_trials=1", f"hydra.sweeper.storage={url}"]
    assert "trial 0 is still running in another search, elsewhere:1" in ended(started(tmp_path, *words))
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-3 minutes')")
    ended(started(tmp_path, *words))
    assert_each_once(url, "stale", 1)
    assert [done.params for done in trials(url, "stale", TrialState.COMPLETE)] == [trial.params]


@pytest.mark.parametrize("url", ["sqlite:////no/such/folder/study.db", "postgresql+nothing://me:secret@localhost/study"])
def test_a_database_that_cannot_be_used_is_refused_in_words(url: str, tmp_path: Path) -> None:
    told = ended(started(tmp_path, "seed=0,1", f"hydra.sweeper.storage={url}"), code=1)
    assert "hydra.sweeper.storage cannot be used: " in told
    assert "Traceback" not in told
    assert "secret" not in told


@pytest.mark.parametrize(("rank", "state"), [(0, TrialState.PRUNED), (1, TrialState.COMPLETE)])
def test_the_first_of_two_processes_decides_whether_both_are_pruned(rank: int, state: TrialState, tmp_path: Path) -> None:
    """As other trials go on meanwhile, the two might be told different things."""
    words = ["sweep=pruned", "seed=0,1", "hydra.sweeper.n_trials=1", "trainer=ddp_cpu", "trainer.max_epochs=2"]
    told = ended(started(tmp_path, *words, f"hydra.sweeper.pruner={{_target_: failing_callbacks.GivenUpByRank, rank: {rank}}}"))
    (trial,) = trials(str(tmp_path / "outputs/sweeps/pruned/study.journal"), "pruned")
    assert trial.state == state, told
    assert list(trial.intermediate_values) == [3, 6][: 1 + rank]
