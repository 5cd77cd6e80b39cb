"""Sweeps on Ray, which is started on this machine: jobs that die, an end that is asked for, and a search that prunes."""

import json
from pathlib import Path

import optuna
import pytest
from forked_scripts import command
from optuna.trial import TrialState
from small_runs import QUICK, SMALL
from stub_sweeps import is_told_to_end, results, sweep, three_jobs_die

from vaelab.sweeps.search import storage


def test_three_jobs_that_die_do_not_stop_the_others_and_are_named(tmp_path: Path) -> None:
    three_jobs_die(tmp_path, "launcher=ray")


def test_a_sweep_that_is_told_to_end_leaves_checkpoints_to_go_on_from(tmp_path: Path) -> None:
    words = is_told_to_end(tmp_path, "launcher=ray")
    refused = sweep(tmp_path, *words, "hydra.launcher.num_cpus=1000", check=False)
    assert "2 to go on, 0 to start" in refused.stdout
    assert "hydra.launcher asks for {'CPU': 1000, 'GPU': 0} for a job, but the machines have" in refused.stdout


def test_a_search_on_ray_prunes_bad_trials_from_inside(tmp_path: Path) -> None:
    words = ["hparams_search=optuna", "sweep=pruned", "optimizer.lr=0.01,1e-7", "hydra.sweeper.sampler=grid", "hydra.sweeper.n_trials=2"]
    words += ["hydra.sweeper.pruner={_target_: optuna.pruners.ThresholdPruner, lower: -172}", "launcher=ray"]
    told = command("train.py", "-m", *SMALL, *QUICK, *words, cwd=tmp_path).stdout
    folder = tmp_path / "outputs/sweeps/pruned"
    study = optuna.load_study(study_name="pruned", storage=storage(str(folder / "study.journal")))
    assert [(trial.params["optimizer.lr"], trial.state) for trial in study.trials] == [
        ("0.01", TrialState.COMPLETE),
        ("1e-07", TrialState.PRUNED),
    ]
    assert study.trials[0].intermediate_values
    assert "pruned by its search: outputs/sweeps/pruned/optimizer.lr=1e-07" in told
    (best,) = json.loads((folder / "best.json").read_text())
    assert best["values"] == [pytest.approx(results(tmp_path, "pruned")["optimizer.lr=0.01"]["val"]["elbo"])]
