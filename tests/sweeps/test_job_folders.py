"""The jobs of a sweep and the run folders that are there already: what is the same job, and what its folder forbids."""

import json
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException

from vaelab.runs.folder import RunFolder
from vaelab.sweeps.jobs import Job, jobs_of, plain_numbers
from vaelab.sweeps.search import distribution, value_of


def jobs(folder: Path, *line: str) -> list[Job]:
    return jobs_of(OverridesParser.create().parse_overrides(list(line)), folder)


def started(folder: Path, config: dict[str, Any]) -> Job:
    """A job that has a config, and has written nothing else."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text(json.dumps(config))
    return Job(folder.name, (), RunFolder(folder))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("objective.beta=1.0,seed=0", "objective.beta=1,seed=0"),
        ("lr=1e-3", "lr=0.001"),
        ("lr=0.0010,data=x1.0", "lr=0.001,data=x1.0"),
        ("prior=vamp,seed=10", "prior=vamp,seed=1E+1"),
        ("seed=12345678901234567891", "seed=12345678901234567891"),
    ],
)
def test_a_number_has_one_name_however_it_was_written(name: str, plain: str) -> None:
    assert plain_numbers(name) == plain_numbers(plain) == plain


def test_a_job_that_was_typed_otherwise_goes_on_in_its_folder(tmp_path: Path) -> None:
    assert [job.name for job in jobs(tmp_path, "objective.beta=1.0,4")] == ["objective.beta=1.0", "objective.beta=4"]  # as it was typed
    first, _ = jobs(tmp_path, "objective.beta=1,4", "seed=0", "latent_dim=2")
    first.run.path.mkdir()
    again, other = jobs(tmp_path, "objective.beta=1.0,4", "seed=0", "latent_dim=2")
    assert again.run.path == first.run.path
    assert again.line[:1] == ["objective.beta=1.0"]
    assert "hydra.sweep.subdir='objective.beta=1'" in again.line
    assert other.name == "objective.beta=4"
    (tmp_path / "objective.beta=1.0").mkdir()
    assert jobs(tmp_path, "objective.beta=1.0,4")[0].name == "objective.beta=1.0"  # of an earlier version, which told them apart


@pytest.mark.parametrize("line", ["seed=0,1,0", "objective.beta=1,1.0", "optimizer.lr=1e-3,0.1,0.001"])
def test_a_value_that_is_written_in_two_ways_is_one_job(line: str, tmp_path: Path) -> None:
    with pytest.raises(CompactHydraException, match="asked for more than once"):
        jobs(tmp_path, line)
    with pytest.raises(CompactHydraException, match="asked for more than once"):
        distribution(OverridesParser.create().parse_overrides([line])[0])


def test_a_job_that_left_nothing_to_go_on_from_may_have_another_config(tmp_path: Path) -> None:
    """It failed before its first checkpoint. One that wrote a checkpoint, or results, may not."""
    job = started(tmp_path / "job", {"latent_dim": 2, "seed": 0})
    assert job.changes({"latent_dim": 4, "seed": 0}) == []
    (job.run.checkpoints / "last.ckpt").touch()
    assert job.changes({"latent_dim": 4, "seed": 0}) == ["latent_dim: 2, now 4"]
    assert job.changes({"latent_dim": 2.0, "seed": 0, "download": True}) == []
    (job.run.checkpoints / "last.ckpt").unlink()
    job.run.write_results({"val": {"elbo": -90.0}})
    assert job.changes({"latent_dim": 4, "seed": 0}) == ["latent_dim: 2, now 4"]


def test_a_job_that_was_started_by_an_older_version_is_the_same_job(tmp_path: Path) -> None:
    best = {"_target_": "vaelab.callbacks.LastCheckpoint"}
    job = started(tmp_path / "job", {"callbacks": {"best": best}})
    job.run.write_results({})
    assert job.changes({"callbacks": {"best": {"_target_": "vaelab.training.callbacks.LastCheckpoint"}}}) == []


@pytest.mark.parametrize("content", ["", '{"val": {"elbo": -9', "[1]", '{"val": 3}'])
def test_damaged_results_of_a_job_are_said_without_a_traceback(content: str, tmp_path: Path) -> None:
    job = started(tmp_path / "job", {"seed": 0})
    (job.run.path / "results.json").write_text(content)
    assert job.run.is_finished  # so it is not run again unless somebody removes them
    for read in (job.results, lambda: value_of(job, "val/elbo")):
        with pytest.raises(CompactHydraException, match=r"job/results\.json cannot be read .*: remove it, and evaluate again"):
            read()


def test_a_damaged_config_of_a_job_is_said_without_a_traceback(tmp_path: Path) -> None:
    job = started(tmp_path / "job", {})
    (job.run.path / ".hydra" / "config.yaml").write_text("seed: 0\nname: 'circ")
    (job.run.checkpoints / "last.ckpt").touch()
    with pytest.raises(CompactHydraException, match=r"job/\.hydra/config\.yaml cannot be read "):
        job.changes({"seed": 0})


def test_a_metric_that_results_do_not_have_is_said(tmp_path: Path) -> None:
    job = started(tmp_path / "job", {})
    job.run.write_results({"val": {"elbo": -90.0}, "test": None})
    assert value_of(job, "val/elbo") == -90.0
    with pytest.raises(CompactHydraException, match=r"the results in .*job have no number test/mig"):
        value_of(job, "test/mig")
