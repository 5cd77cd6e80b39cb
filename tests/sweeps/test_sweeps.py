"""Sweeps that are killed, fail and are continued."""

import csv
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import torch
from forked_scripts import ROOT
from optuna.trial import TrialState
from small_runs import SMALL, SUPPORT
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context

QUICK = [*SMALL, "evaluation.figures=false", "evaluation.report=false", "~callbacks.pictures", "~callbacks.first_batch"]
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]),
}


def line(*words: str) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / "train.py"), "-m", *QUICK, *words]


def sweep(folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(line(*words), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=400, check=False)
    assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


def killed(folder: Path, seconds: float, *words: str) -> None:
    """kill -9 of the sweep after so many seconds; its jobs end with it."""
    with subprocess.Popen(line(*words), cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)


def results(sweep_folder: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in sweep_folder.glob("*/results.json")}


def test_a_sweep_killed_five_times_ends_as_one_that_was_not(tmp_path: Path) -> None:
    words = ["objective.beta=1,2,4", "seed=range(2)", "trainer.max_epochs=3", "hydra.launcher.n_jobs=2"]
    moments, first = random.Random(0), {}
    for _ in range(5):
        killed(tmp_path, moments.uniform(4, 14), "sweep=killed", *words)
        for name, record in results(tmp_path / "outputs/sweeps/killed").items():
            first.setdefault(name, record["finished"])
    sweep(tmp_path, "sweep=killed", *words)
    after = results(tmp_path / "outputs/sweeps/killed")
    assert len(after) == 6
    assert {name: after[name]["finished"] for name in first} == first  # what was finished has not been run again
    sweep(tmp_path, "sweep=straight", "hydra/launcher=basic", *words[:-1])
    straight = results(tmp_path / "outputs/sweeps/straight")
    assert {name: record["test"] for name, record in after.items()} == {name: record["test"] for name, record in straight.items()}
    assert "6 of them finished" in sweep(tmp_path, "sweep=killed", *words).stdout


@pytest.mark.parametrize("launcher", [["hydra.launcher.n_jobs=2"], ["launcher=ray"]], ids=["local", "ray"])
def test_three_jobs_that_die_do_not_stop_the_others_and_are_named(launcher: list[str], tmp_path: Path) -> None:
    words = ["+callbacks.fate._target_=failing_callbacks.Fate", "+callbacks.fate.how=lives,raises,is_killed,fills_the_disk", *launcher]
    done = sweep(tmp_path, "sweep=fates", *words, check=False)
    assert done.returncode != 0
    assert list(results(tmp_path / "outputs/sweeps/fates")) == ["callbacks.fate.how=lives"]
    told = done.stdout + done.stderr
    for how, why in (("raises", "this run was to fail"), ("is_killed", "killed by SIGKILL"), ("fills_the_disk", "No space left on device")):
        assert f"failed: callbacks.fate.how={how}" in told
        assert why in told
    assert "3 of 4 jobs failed" in told


def test_another_config_under_the_same_name_is_refused(tmp_path: Path) -> None:
    sweep(tmp_path, "sweep=one", "seed=0,1", "trainer.max_epochs=1", "hydra.launcher.n_jobs=2")
    refused = sweep(tmp_path, "sweep=one", "seed=0,1,2", "trainer.max_epochs=1", "objective.beta=2", check=False)
    assert refused.returncode != 0
    assert "objective.beta: 1.0, now 2  (2 jobs)" in refused.stderr
    assert not (tmp_path / "outputs/sweeps/one/seed=2").exists()


def test_the_table_at_the_end_is_right(tmp_path: Path) -> None:
    sweep(tmp_path, "sweep=table", "seed=range(3)", "trainer.max_epochs=1", "hydra.launcher.n_jobs=3")
    elbos = [record["test"]["elbo"] for record in results(tmp_path / "outputs/sweeps/table").values()]
    (row,) = csv.DictReader((tmp_path / "outputs/sweeps/table/summary/summary.csv").open())
    assert float(row["elbo_mean"]) == pytest.approx(statistics.mean(elbos), rel=1e-6)
    assert float(row["elbo_std"]) == pytest.approx(statistics.stdev(elbos), rel=1e-6)
    half = 4.302652729911275 * statistics.stdev(elbos) / 3**0.5  # Student's t with two degrees of freedom
    assert float(row["elbo_half_width"]) == pytest.approx(half, rel=1e-6)


def test_a_search_that_is_killed_reaches_its_total_without_a_point_twice(tmp_path: Path) -> None:
    words = ["hparams_search=optuna", "sweep=search", "optimizer.lr=tag(log,interval(1e-4,1e-1))", "latent_dim=range(1,4)"]
    words += ["hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=2", "hydra.launcher.n_jobs=2", "trainer.max_epochs=1"]
    killed(tmp_path, 15, *words)
    sweep(tmp_path, *words)
    folder = tmp_path / "outputs/sweeps/search"
    study = optuna.load_study(study_name="search", storage=storage_of(folder))
    done = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert len(done) == 5
    assert len({tuple(trial.params.items()) for trial in done}) == 5
    assert not [trial for trial in study.trials if trial.state == TrialState.RUNNING]
    (best,) = json.loads((folder / "best.json").read_text())
    assert best["values"] == [max(record["val"]["elbo"] for record in results(folder).values())]
    assert {path.name for path in (folder / "summary").glob("*.png")} >= {"history.png", "metrics.png"}
    assert "history" in (folder / "summary" / "summary.html").read_text()


def test_bad_trials_are_pruned_from_inside(tmp_path: Path) -> None:
    words = ["hparams_search=optuna", "sweep=pruned", "optimizer.lr=0.01,1e-7", "hydra.sweeper.sampler=grid", "hydra.sweeper.n_trials=2"]
    words += ["hydra.sweeper.pruner={_target_: optuna.pruners.ThresholdPruner, lower: -160}", "hydra.launcher.n_jobs=1"]
    done = sweep(tmp_path, *words)
    study = optuna.load_study(study_name="pruned", storage=storage_of(tmp_path / "outputs/sweeps/pruned"))
    assert [(trial.params["optimizer.lr"], trial.state) for trial in study.trials] == [
        ("0.01", TrialState.COMPLETE),
        ("1e-07", TrialState.PRUNED),
    ]
    assert study.trials[0].intermediate_values
    assert "pruned by its search: outputs/sweeps/pruned/optimizer.lr=1e-07" in done.stdout


def test_tensorboard_shows_all_parameters_and_final_metrics_of_runs_with_different_keys(tmp_path: Path) -> None:
    """Read back through the data layer of its HPARAMS page."""
    words = ["prior=standard_normal,vamp", "objective.beta=1,2", "objective.kl=k1", "trainer.max_epochs=1", "hydra.launcher.n_jobs=2"]
    sweep(tmp_path, "sweep=priors", *words)
    folder = tmp_path / "outputs/sweeps/priors"
    events = EventMultiplexer()
    events.AddRunsFromDirectory(str(folder))
    events.Reload()
    context, request = Context(TBContext(data_provider=MultiplexerDataProvider(events, str(folder)), logdir=str(folder))), RequestContext()
    metadata = context.hparams_metadata(request, "")
    experiment = context.experiment_from_metadata(request, "", True, metadata, context.hparams_from_data_provider(request, "", limit=1000))
    assert {"objective.beta", "prior._target_", "prior.num_components"} <= {info.name for info in experiment.hparam_infos}
    asked = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=100, allowed_statuses=[api_pb2.STATUS_SUCCESS, api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_RUNNING]
    )
    asked.col_params.add(metric=api_pb2.MetricName(tag="test/elbo"))
    groups = list_session_groups.Handler(request, context, "", asked).run().session_groups
    shown = {}
    for group in groups:
        (value,) = [metric.value for metric in group.metric_values if metric.name.tag == "test/elbo"]
        shown[group.hparams["objective.beta"].number_value, "vamp" in str(group.hparams["prior._target_"]).lower()] = value
    for name, record in results(folder).items():
        beta = 2.0 if "beta=2" in name else 1.0
        assert shown[beta, "vamp" in name] == pytest.approx(record["test"]["elbo"], rel=1e-5)


def storage_of(folder: Path) -> optuna.storages.JournalStorage:
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "study.journal")))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=0,1", "hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs=0 must be at least 1"),
        (["hparams_search=optuna", "seed=0"], "nothing to search"),
        (["hparams_search=optuna", "seed=0,1", "hydra.sweeper.sampler=tpa"], "hydra.sweeper.sampler=tpa must be one of tpe"),
        (["hparams_search=optuna", "seed=0,1", "hydra.sweeper.metrics=[val/elbo,test/mig]"], "need as many directions"),
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
    refused = sweep(tmp_path, *words, check=False)
    assert refused.returncode != 0
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.glob("outputs/sweeps/*/*/checkpoints"))


@pytest.mark.parametrize("launcher", ["local", "ray"])
def test_a_sweep_within_processes_that_each_start_another(launcher: str, tmp_path: Path) -> None:
    """Each job is its own command line, so that its second rank joins it, and not a sweep of its own."""
    words = ["sweep=ddp", "seed=0,1", "trainer=ddp_cpu", "trainer.max_epochs=1", f"launcher={launcher}"]
    sweep(tmp_path, *words)
    assert set(results(tmp_path / "outputs/sweeps/ddp")) == {"seed=0", "seed=1"}
    assert "2 of them finished" in sweep(tmp_path, *words).stdout


def test_a_job_of_two_processes_that_is_told_to_end_goes_on_bit_for_bit(tmp_path: Path) -> None:
    words = ["trainer=ddp_cpu", "seed=0", "+callbacks.slow={_target_: slow_callback.SlowFrom, epoch: 1, seconds: 0.5}"]
    job = tmp_path / "outputs/sweeps/told/run"
    with subprocess.Popen(line("sweep=told", *words), cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL) as process:
        while not (job / "slow").exists():
            assert process.poll() is None
            time.sleep(0.1)
        process.terminate()
    place = torch.load(job / "checkpoints/last.ckpt", weights_only=True)["place"]
    assert (place["epoch"], place["num_processes"]) == (1, 2)
    assert place["batch"] > 0
    sweep(tmp_path, "sweep=told", *words)
    sweep(tmp_path, "sweep=straight", *words)
    jobs = [tmp_path / "outputs/sweeps" / name / "run" for name in ("told", "straight")]
    told, straight = (torch.load(folder / "checkpoints/last.ckpt", weights_only=True) for folder in jobs)
    assert told["global_step"] == straight["global_step"] == 6
    assert all(torch.equal(told["state_dict"][key], straight["state_dict"][key]) for key in straight["state_dict"])
    one, other = (json.loads((folder / "results.json").read_text()) for folder in jobs)
    assert one["test"] == other["test"]


def test_a_sweep_on_ray_that_is_told_to_end_leaves_checkpoints_to_go_on_from(tmp_path: Path) -> None:
    words = ["sweep=stopped", "seed=0", "launcher=ray", "trainer.max_epochs=10000"]
    folder = tmp_path / "outputs/sweeps/stopped/run"
    with subprocess.Popen(line(*words), cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (folder / "checkpoints/last.ckpt").is_file():
            time.sleep(0.5)
        process.terminate()
        process.wait(120)
    assert "stopped by SIGTERM in epoch" in (folder / "console.log").read_text()
    refused = sweep(tmp_path, *words, "hydra.launcher.num_cpus=1000", check=False)
    assert "1 to go on, 0 to start" in refused.stdout
    assert "hydra.launcher asks for {'CPU': 1000, 'GPU': 0} for a job, but the machines have" in refused.stdout
