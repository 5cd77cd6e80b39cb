"""Which jobs a sweep has, and how they are called."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from forked_scripts import ROOT
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from vaelab.runs.configs import Use, differences
from vaelab.runs.folder import RunFolder
from vaelab.sweeps.grid import GridSweeper, failure
from vaelab.sweeps.jobs import LONGEST, Job, folder_of, jobs_of, name_of
from vaelab.sweeps.search import OptunaSweeper, SearchConf, distribution, values_of


def parsed(*line: str):
    return OverridesParser.create().parse_overrides(list(line))


def test_every_combination_is_a_job_named_by_what_is_swept_alone() -> None:
    jobs = jobs_of(parsed("data=circles", "seed=range(2)", "objective.beta=1,4", "latent_dim=2"), Path("sweep"))
    assert [job.name for job in jobs] == [f"objective.beta={beta},seed={seed}" for seed in (0, 1) for beta in (1, 4)]
    assert jobs[0].overrides == ("data=circles", "seed=0", "objective.beta=1", "latent_dim=2")
    assert jobs[0].run.path == Path("sweep", "objective.beta=1,seed=0")


def test_the_name_does_not_depend_on_the_order_of_the_command_line() -> None:
    one, other = (jobs_of(parsed(*line), Path()) for line in (("a=1,2", "b=3,4"), ("b=3,4", "a=1,2")))
    assert {job.name for job in one} == {job.name for job in other}


def test_jobs_that_differ_in_numbers_alone_are_composed_once(tmp_path: Path) -> None:
    """And each has the config that Hydra composes of its words."""
    words = ("objective=elbo,iwae", "seed=range(2)", "optimizer.lr=1e-3,0.5", "data.augment=flip", "encoder.hidden=[8]", "speed.bf16=true")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        sweeper = GridSweeper({}, summarize=False)
        sweeper.loader = loader
        sweeper.config = loader.load_configuration("config", ["data=circles", "encoder=mlp", "decoder=mlp"], RunMode.MULTIRUN)
        composed: dict[tuple[str, ...], dict[str, Any]] = {}
        jobs = jobs_of(parsed(*words), tmp_path)
        assert len(jobs) == 8
        assert all(sweeper.config_of(job, composed) == sweeper.compose(job) for job in jobs)
    assert len(composed) == 2


def test_a_single_job_has_a_name() -> None:
    (job,) = jobs_of(parsed("objective.beta=4"), Path())
    assert job.name == "run"


@pytest.mark.parametrize("words", [["encoder.hidden=[32,32]"], ["name='a/b'"], ["x=" + "y" * 300], ["a=../../etc"]])
def test_a_name_is_one_folder_and_not_too_long(words: list[str]) -> None:
    name = name_of(words)
    assert len(name) <= LONGEST + 9
    assert "/" not in name
    assert name not in (".", "..")


def test_names_that_look_the_same_once_shortened_differ() -> None:
    assert name_of(["a=[1,2]"]) != name_of(["a=(1,2)"])
    assert name_of(["x=" + "y" * 300 + "1"]) != name_of(["x=" + "y" * 300 + "2"])


def test_a_job_that_is_asked_for_twice_is_refused() -> None:
    with pytest.raises(CompactHydraException, match="more than once: seed=0"):
        jobs_of(parsed("seed=0,1,0"), Path())


def test_an_interval_is_no_grid() -> None:
    with pytest.raises(CompactHydraException, match=r"optimizer.lr=interval\(0.1,1\): a grid takes lists.*hparams_search=optuna"):
        jobs_of(parsed("optimizer.lr=interval(0.1,1)"), Path())


def test_what_changes_no_number_is_no_difference() -> None:
    stored = {"a": {"b": 1, "c": [1, 2]}, "paths": {"data_dir": "x"}, "sweep": "s"}
    now = {"a": {"b": 2, "c": [1, 2]}, "paths": {"data_dir": "y"}, "sweep": "t"}
    assert differences(stored, now, Use.SWEEP) == ["a.b: 1, now 2"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("x=interval(0.1,2)", FloatDistribution(0.1, 2)),
        ("x=tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("x=int(interval(1,8))", IntDistribution(1, 8)),
        ("x=tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("x=range(2,9)", IntDistribution(2, 8)),  # Hydra's range, without its end
        ("x=range(2,9,3)", IntDistribution(2, 8, step=3)),
        ("x=elbo,iwae", CategoricalDistribution(["elbo", "iwae"])),
    ],
)
def test_what_hydra_calls_an_interval_is_optuna_s(override: str, expected: object) -> None:
    (one,) = parsed(override)
    assert distribution(one) == expected


def test_a_grid_sampler_is_given_every_value() -> None:
    space = {key: distribution(one) for key, one in zip("ab", parsed("a=range(2,9,3)", "b=u,v"), strict=True)}
    assert values_of(space) == {"a": [2, 5, 8], "b": ["u", "v"]}


@pytest.mark.parametrize("override", ["x=interval(1e-2,1e-4)", "x=tag(log,interval(0,1e-2))"])
def test_an_interval_that_has_no_values_is_refused(override: str) -> None:
    with pytest.raises(CompactHydraException, match="must hold"):
        distribution(parsed(override)[0])


@pytest.mark.parametrize("name", ["", "../elsewhere", "/elsewhere"])
def test_a_sweep_stays_below_the_folder_of_sweeps(name: str, tmp_path: Path) -> None:
    config = OmegaConf.create({"sweep": name, "hydra": {"sweep": {"dir": str(tmp_path / "new")}}})
    with pytest.raises(CompactHydraException, match=f"sweep={name} must name a folder below outputs/sweeps"):
        folder_of(config)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CompactHydraException, match=r"cannot write to .*: Not a directory; choose another place"):
        folder_of(OmegaConf.create({"sweep": "s", "hydra": {"sweep": {"dir": str(tmp_path / "file" / "s")}}}))


def searching(**options: Any) -> OptunaSweeper:
    return OptunaSweeper(**{key: value for key, value in vars(SearchConf(**options)).items() if not key.startswith("_")})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_trials": 0}, "hydra.sweeper.n_trials=0 and hydra.sweeper.n_jobs=1 must be at least 1"),
        ({"n_jobs": 0}, "hydra.sweeper.n_jobs=0 must be at least 1"),
        ({"directions": ["up"]}, "must be maximize or minimize"),
        ({"metrics": ["val/elbo", "test/mig"], "directions": ["maximize", "maximize"], "pruner": "median"}, "pruned by one metric"),
    ],
)
def test_a_search_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CompactHydraException, match=message):
        searching(**options)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["x=1,2"], "searched: .*'3'.*, now"), (["x=1,2,3", "y=interval(0,1)"], "searched"), (["x=1,2,3", "z=4"], "values")],
)
def test_a_study_is_of_one_search(words: list[str], message: str) -> None:
    """Of the same values; an interval may be made wider."""
    study = optuna.create_study()

    def asked(*line: str) -> None:
        search, overrides = searching(), parsed(*line)
        search.study = study
        search.space = {override.get_key_element(): distribution(override) for override in overrides if override.is_sweep_override()}
        search.fixed = [str(override.input_line) for override in overrides if not override.is_sweep_override()]
        search.check_unchanged()

    asked("x=1,2,3")
    asked("x=1,2,3")
    with pytest.raises(CompactHydraException, match=f"was started with other\n  {message}"):
        asked(*words)


@pytest.mark.parametrize(
    ("finished", "status", "error", "reason"),
    [
        (True, JobStatus.COMPLETED, None, None),
        (True, None, None, None),  # finished before the launcher stopped
        (False, JobStatus.COMPLETED, None, "it did not return"),
        (False, None, None, "it did not return"),
        (False, JobStatus.FAILED, CompactHydraException("exit code 1: lr=abc"), "exit code 1: lr=abc"),
        (False, JobStatus.FAILED, RuntimeError("no memory"), "RuntimeError: no memory"),
        (True, JobStatus.FAILED, CompactHydraException("another process is at work"), "another process is at work"),
    ],
)
def test_a_job_is_judged_by_what_it_returned(
    finished: bool, status: JobStatus | None, error: Exception | None, reason: str | None, tmp_path: Path
) -> None:
    """Also if another sweep of the same name has finished a run in its folder meanwhile."""
    run = RunFolder(tmp_path)
    if finished:
        run.write_results({"val": {"elbo": -1.0}})
    ret = None if status is None else JobReturn(status=status)
    if ret is not None:
        ret._return_value = error
    assert failure(Job("seed=1", (), run), ret) == reason
