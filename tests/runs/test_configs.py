"""Is this the same run? One table of answers, asked where a user meets them: resume, sweeps, searches, summaries, UDR and HPARAMS."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from hydra.errors import CompactHydraException
from omegaconf import OmegaConf
from small_runs import composed

from vaelab.commands.train import hparams_of
from vaelab.runs.configs import IMMATERIAL, Use, differences, flatten, is_immaterial, material, value_at, with_moved_targets
from vaelab.runs.find import other_seeds
from vaelab.runs.folder import RunFolder
from vaelab.runs.summary import summarize
from vaelab.sweeps.jobs import Job
from vaelab.sweeps.search import OptunaSweeper, SearchConf
from vaelab.training.resume import check_same_run

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
STOPPING = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/elbo"}
EVERYWHERE = "resume sweep comparison"
# key, value before, value after; for whom it is the same run then; whether TensorBoard's HPARAMS has a column of it
ANSWERS: list[tuple[str, Any, Any, str, bool]] = [
    # where files are, and what they are called
    ("download", False, True, EVERYWHERE, False),
    ("name", "circles", "other", EVERYWHERE, False),
    ("sweep", "one", "other", EVERYWHERE, False),
    ("paths.data_dir", "data", "/elsewhere", EVERYWHERE, False),
    ("paths.run_dir", "/a", "/b", EVERYWHERE, False),
    ("data.root", "/a", "/b", "resume", True),
    ("data.file", "/a", "/b", "resume", True),
    ("logger.csv.save_dir", "/a", "/b", EVERYWHERE, False),
    ("existing", "refuse", "resume", EVERYWHERE, False),
    ("resume", None, "outputs/x", EVERYWHERE, False),
    # what is shown, and how it is judged: the results say how they were found
    ("trainer.enable_progress_bar", True, False, EVERYWHERE, False),
    ("trainer.enable_model_summary", False, True, EVERYWHERE, False),
    ("trainer.log_every_n_steps", 50, 1, EVERYWHERE, False),
    ("callbacks.pictures.every_n_epochs", 5, 1, EVERYWHERE, False),
    ("callbacks.pictures", {"every_n_epochs": 5}, None, EVERYWHERE, False),
    ("callbacks.progress.refresh_rate", 4, 1, EVERYWHERE, False),
    ("callbacks.last.every_n_minutes", 10, 1, EVERYWHERE, False),
    ("evaluation.num_images", 1000, 50, EVERYWHERE, False),
    ("evaluation.figures", True, False, EVERYWHERE, False),
    ("evaluation.metrics.latent", None, {"_target_": "vaelab.metrics.latent"}, EVERYWHERE, False),
    # how fast: the same numbers, up to rounding
    ("data.num_workers", 4, 2, EVERYWHERE, False),
    ("data.eval_batch_size", 500, 100, EVERYWHERE, False),
    ("data.device_resident", False, True, EVERYWHERE, False),
    ("trainer.accelerator", "auto", "cpu", EVERYWHERE, False),
    ("speed.bf16", False, True, "", True),
    # how long, and on how many devices: a run may go on, but it is another one
    ("trainer.max_epochs", 12, 20, "resume", True),
    ("trainer.devices", 1, 2, "resume", True),
    ("trainer.gradient_clip_val", None, 1.0, "resume", True),
    ("callbacks.early_stopping", None, STOPPING, "resume", False),
    ("callbacks.best.monitor", "val/elbo", "val/rate", "resume", False),
    # what is learned
    ("seed", 0, 1, "comparison", True),
    ("latent_dim", 2, 4, "", True),
    ("objective.beta", 1.0, 4, "", True),
    ("objective.beta", 1, 1.0, EVERYWHERE, True),
    ("optimizer.lr", 1e-3, 1e-4, "", True),
    ("data.batch_size", 32, 64, "", True),
    ("data.val_size", 64, 32, "", True),
    ("missing", False, True, "", True),
    ("encoder.hidden", [32], [32, 32], "", True),
]
Same = Callable[[dict[str, Any], dict[str, Any], Path], bool]  # of two configs, with a folder to write to


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    words = ["data=circles", "encoder=mlp", "decoder=mlp", "latent_dim=2", "logger=csv"]
    return json.dumps(OmegaConf.to_container(composed(words, tmp_path_factory.mktemp("base")), resolve=False))


def changed(base: str, key: str, value: Any) -> dict[str, Any]:
    """The config with another value at a dotted key."""
    config = node = json.loads(base)
    *path, last = key.split(".")
    for name in path:
        node = node.setdefault(name, {})
    node[last] = value
    return config


def write(folder: Path, config: dict[str, Any]) -> RunFolder:
    """A finished run."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(yaml.dump(config, Dumper=DUMPER))
    (folder / "results.json").write_text(json.dumps({"test": {"elbo": -90.0}, "val": {}, "checkpoint": "checkpoints/best.ckpt"}))
    return RunFolder(folder)


def resumes(before: dict[str, Any], after: dict[str, Any], folder: Path) -> bool:
    try:
        check_same_run(RunFolder(folder), before, after)
        return True
    except ValueError:
        return False


def sweep_goes_on(before: dict[str, Any], after: dict[str, Any], folder: Path) -> bool:
    return not Job("run", (), write(folder / "job", before)).changes(after)


def is_one_setting(before: dict[str, Any], after: dict[str, Any], folder: Path) -> bool:
    write(folder / "one" / "a", before)
    write(folder / "one" / "b", after)
    return len(summarize([str(folder / "one")]).settings) == 1


def are_seeds_of_one_setting(before: dict[str, Any], after: dict[str, Any], folder: Path) -> bool:
    run = write(folder / "two" / "a", before | {"seed": 0})
    write(folder / "two" / "b", after | {"seed": 1})
    return list(other_seeds(run, [str(folder / "two")])) == [1]


ASKERS: list[tuple[str, Same]] = [
    ("resume", resumes),
    ("sweep", sweep_goes_on),
    ("comparison", is_one_setting),
    ("comparison", are_seeds_of_one_setting),
]


@pytest.mark.parametrize(("key", "before", "after", "same", "column"), ANSWERS)
def test_is_this_the_same_run(key: str, before: Any, after: Any, same: str, column: bool, base: str, tmp_path: Path) -> None:
    configs = [changed(base, key, value) for value in (before, after)]
    for use, ask in ASKERS:
        assert ask(*configs, tmp_path) == (use in same.split()), ask.__name__
    shown = hparams_of(configs[1])
    assert any(f"{name}.".startswith(f"{key}.") for name in shown) == column


@pytest.mark.parametrize(("key", "before", "after", "same", "column"), ANSWERS)
def test_a_search_may_go_on_with_what_a_grid_may(key: str, before: Any, after: Any, same: str, column: bool) -> None:
    """It knows the words of its command line alone."""
    study = optuna.create_study()
    for value in (before, after):
        search = OptunaSweeper(**{name: option for name, option in vars(SearchConf()).items() if not name.startswith("_")})
        search.study, search.space, search.fixed = study, {}, [f"+{key}={value}"]
        if value == before or "sweep" in same.split():
            search.check_unchanged()
        else:
            with pytest.raises(CompactHydraException, match="this search was started with other"):
                search.check_unchanged()


def test_every_row_of_the_table_has_a_reason_and_says_something_new() -> None:
    assert all(row.why and row.uses for row in IMMATERIAL)
    for i, row in enumerate(IMMATERIAL):
        for other in IMMATERIAL[:i]:
            assert not (f"{row.key}.".startswith(f"{other.key}.") and row.uses <= other.uses), (other.key, row.key)


def test_a_key_is_not_its_prefix() -> None:
    assert is_immaterial("paths", Use.SWEEP)
    assert is_immaterial("paths.data_dir", Use.SWEEP)
    assert not is_immaterial("paths_of_flows", Use.SWEEP)
    assert not is_immaterial("data.num_workers_of_x", Use.SWEEP)
    assert not is_immaterial("data", Use.SWEEP)


def test_of_a_run_that_another_started_from_the_same_keys_are_immaterial() -> None:
    config = {"seed": 0, "pretrained": {"seed": 1, "name": "x", "data": {"num_workers": 3}, "latent_dim": 2, "pretrained": {"seed": 2}}}
    assert material(config, Use.COMPARISON) == {"pretrained": {"latent_dim": 2}}
    assert material({"pretrained": "outputs/x"}, Use.COMPARISON) == {"pretrained": "outputs/x"}


def test_differences_are_said_with_both_values() -> None:
    stored = {"a": {"b": 1, "c": [1, 2], "d": "x"}, "paths": {"data_dir": "x"}, "gone": 3, "nothing": None}
    now = {"a": {"b": 2, "c": [1.0, 2], "d": "x"}, "paths": {"data_dir": "y"}, "new": {"e": {}}}
    assert differences(stored, now, Use.SWEEP) == ["a.b: 1, now 2", "gone: 3, now None", "new.e: None, now {}"]


def test_values_at_keys() -> None:
    config = {"a": {"b": 0, "c": [1]}}
    assert flatten(config) == {"a.b": 0, "a.c": [1]}
    assert [value_at(config, key, "none") for key in ("a.b", "a", "a.b.c", "x", "a.c.0")] == [0, config["a"], "none", "none", "none"]


def test_classes_of_older_runs_are_where_they_live_today() -> None:
    """Wherever they are named, and no others."""
    stored = {"callbacks": {"p": {"_target_": "vaelab.callbacks.Pictures", "n": 1}}, "list": [{"_target_": "vaelab.callbacks.Pruning"}]}
    assert with_moved_targets(stored) == {
        "callbacks": {"p": {"_target_": "vaelab.training.callbacks.Pictures", "n": 1}},
        "list": [{"_target_": "vaelab.sweeps.pruning.Pruning"}],
    }
    other = {"_target_": "vaelab.callbacks_of_mine.X", "text": "vaelab.callbacks.Pictures"}
    assert with_moved_targets(other) == other
