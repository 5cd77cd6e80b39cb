"""Searches that share a study: of several processes and machines, killed or not. Their trials are runs that take no time."""

import json
import signal
import sqlite3
import time
from pathlib import Path

import optuna
import pytest
from forked_scripts import Script
from optuna.trial import FrozenTrial, TrialState
from stub_sweeps import STUB, results

from vaelab.sweeps.trials import storage

LR = "optimizer.lr=tag(log,interval(1e-4,1e-1))"
TWO = ["hydra.sweeper.n_jobs=2", "hydra.launcher.n_jobs=2"]  # at a time
GRID = ["sweep=grid", "hydra.sweeper.sampler=grid", *TWO]
UNTABLED = "hydra.sweeper.summarize=false"
SLOW = ["trainer.max_epochs=20", "seconds=0.1"]  # slow enough to be killed meanwhile


def started(folder: Path, *words: str) -> Script:
    folder.mkdir(exist_ok=True)
    return Script(STUB, "-m", "hparams_search=optuna", *words, cwd=folder)


def ended(search: Script, code: int = 0) -> str:
    done = search.wait()
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def killed(search: Script) -> None:
    search.send_signal(signal.SIGKILL)
    search.wait()


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
    words = ["sweep=shared", LR, "hydra.sweeper.n_trials=5", f"hydra.sweeper.storage={url}", UNTABLED, *SLOW]
    one, other = (started(tmp_path / name, *words) for name in ("one", "other"))
    while not [trial for trial in trials(url, "shared", TrialState.RUNNING) if trial.user_attrs.get("owner", "").endswith(f":{one.pid}")]:
        assert one.poll() is None, one.wait()
        time.sleep(0.2)
    killed(one)
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
    assert best["values"] == [max(record["val"]["elbo"] for record in results(tmp_path / "other", "shared").values())]


def test_two_processes_share_a_folder_and_a_grid(tmp_path: Path) -> None:
    """They queue the same points, and compute each once; one that fails is counted by neither, and tried again by the same line."""
    words = [*GRID, "objective.beta=1,2,4,-1", "latent_dim=2", UNTABLED]
    done = [search.wait() for search in [started(tmp_path, *words) for _ in range(2)]]
    assert sorted(one.returncode for one in done) == [0, 1], done
    journal = str(tmp_path / "outputs/sweeps/grid/study.journal")
    assert_each_once(journal, "grid", 3)
    again = ended(started(tmp_path, *words), code=1)
    assert "1 points of the grid failed; the same line tries them again" in again
    assert again.count("] starts") == 1
    assert "Warning" not in again
    assert_each_once(journal, "grid", 3)


def test_a_grid_that_is_killed_computes_each_point_once(tmp_path: Path) -> None:
    words = [*GRID, "objective.beta=1,2,4", UNTABLED, *SLOW]
    journal = tmp_path / "outputs/sweeps/grid/study.journal"
    search = started(tmp_path, *words)
    while not (journal.is_file() and len(trials(str(journal), "grid", TrialState.RUNNING)) == 2):
        assert search.poll() is None, search.wait()
        time.sleep(0.2)
    killed(search)
    ended(started(tmp_path, *words))
    assert_each_once(str(journal), "grid", 3)


def test_a_search_that_is_killed_reaches_its_total_without_a_point_twice(tmp_path: Path) -> None:
    """Whenever it is killed: as soon as it begins, while trials run, and when some are complete."""
    words = ["sweep=search", LR, "latent_dim=range(1,4)", "hydra.sweeper.n_trials=6", *TWO, "trainer.max_epochs=5", "seconds=0.1"]
    folder = tmp_path / "outputs/sweeps/search"
    for seen in ("study.journal", "*/epochs.txt", "*/results.json"):
        search = started(tmp_path, *words)
        while not list(folder.glob(seen)):
            assert search.poll() is None, search.wait()
            time.sleep(0.05)
        killed(search)
    finished = {name: record["finished"] for name, record in results(tmp_path, "search").items()}
    ended(started(tmp_path, *words))
    assert_each_once(str(folder / "study.journal"), "search", 6)
    after = results(tmp_path, "search")
    assert finished.items() <= {name: record["finished"] for name, record in after.items()}.items()
    (best,) = json.loads((folder / "best.json").read_text())
    assert best["values"] == [max(record["val"]["elbo"] for record in after.values())]
    assert {path.name for path in (folder / "summary").glob("*.png")} >= {"history.png", "metrics.png"}
    assert "history" in (folder / "summary" / "summary.html").read_text()


def test_a_trial_of_another_machine_whose_heart_no_longer_beats_is_queued_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="stale", storage=storage(url), direction="maximize")
    trial = study.ask({"optimizer.lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)})
    trial.set_user_attr("owner", "elsewhere:1")
    storage(url).record_heartbeat(trial._trial_id)
    words = ["sweep=stale", LR, "hydra.sweeper.n_trials=1", f"hydra.sweeper.storage={url}"]
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
