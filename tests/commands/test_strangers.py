"""A run folder that comes from a stranger runs nothing, and writes and deletes nothing elsewhere."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_scripts import command
from omegaconf import OmegaConf
from small_runs import QUICK, SMALL, composed, train_small

from vaelab.build import load
from vaelab.checks import check_flag
from vaelab.commands.evaluate import evaluate_runs
from vaelab.commands.runs import run_again
from vaelab.commands.train import train
from vaelab.runs.files import write_text
from vaelab.runs.folder import RunFolder
from vaelab.runs.housekeeping import delete_runs
from vaelab.runs.report import write_report
from vaelab.runs.summary import comma_separated, latex, markdown, summarize
from vaelab.runs.summary.formats import print_summary


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("strangers") / "run", *QUICK, "trainer.max_epochs=1", "evaluation.enabled=false")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def change(run: Path, key: str, value: Any) -> None:
    """Store something else in the configs of a run."""
    for path in (run / "checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        config = OmegaConf.create(checkpoint["config"])
        OmegaConf.update(config, key, value, force_add=True)
        checkpoint["config"] = OmegaConf.to_container(config, resolve=False)
        torch.save(checkpoint, path)
    (run / ".hydra").mkdir(exist_ok=True)
    OmegaConf.save(config, run / ".hydra" / "config.yaml")


def touch(folder: Path, target: str = "pathlib.Path.touch") -> dict[str, Any]:
    """The node of an object that is a file as soon as it is built."""
    return {"_target_": target, "_args_": [str(folder / "evil")]}


def resume(run: Path) -> None:
    train(composed([*SMALL, f"resume={run}", "trainer.max_epochs=2"], run))


USES: dict[str, Callable[[Path], Any]] = {"load": load, "resume": resume, "rerun": lambda run: run_again(str(run))}
NODES = ["callbacks.x", "optimizer", "logger.x", "scheduler", "trainer.plugins", "objective.x", "evaluation.metrics.x", "prior"]


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("use", ["resume", "rerun"])
def test_nothing_is_built_of_what_is_no_part_of_a_run(node: str, use: str, run: Path) -> None:
    change(run, node, touch(run))
    with pytest.raises(ValueError, match=r"the stored config would run pathlib\.Path\.touch.*trust=true"):
        USES[use](run)
    assert not (run / "evil").exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.nn",  # a module
        "torch.nn.Module.apply",  # a method
        "torch.nn.modules.module.torch.save",
        "vaelab.data.images.Path.touch",
        "vaelab.commands.train.train",
        "lightning.pytorch.callbacks.Callback.setup",
        5,
    ],
)
@pytest.mark.parametrize("use", USES)
def test_a_name_that_leads_elsewhere_is_refused(target: Any, use: str, run: Path) -> None:
    change(run, "encoder.activation", {"_target_": target})
    with pytest.raises(ValueError, match=r"the stored config would run"):
        USES[use](run)


@pytest.mark.parametrize("use", USES)
def test_a_class_that_is_not_there_is_said(use: str, run: Path) -> None:
    change(run, "encoder.activation", {"_target_": "torch.nn.NoSuchThing"})
    with pytest.raises(ValueError, match=r"names torch\.nn\.NoSuchThing, which this version does not have"):
        USES[use](run)


@pytest.mark.parametrize("use", USES)
def test_what_is_checked_is_what_is_built(use: str, run: Path) -> None:
    """`load` replaces config.speed: a target that refers to it must not be one thing when it is checked and another when it is built."""
    change(run, "speed.evil", "pathlib.Path.touch")
    change(run, "encoder.activation", touch(run, "${speed.evil}"))
    with pytest.raises(Exception, match=r"speed\.evil|would run pathlib"):
        USES[use](run)
    assert not (run / "evil").exists()


@pytest.mark.parametrize("text", ["${oc.env:SECRET}", "a${oc.env:${name}}", "${oc.${x}:SECRET}", "${oc.decode:${oc.env:SECRET}}"])
@pytest.mark.parametrize("use", USES)
def test_no_stored_config_reads_the_machine(text: str, use: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "secret")
    change(run, "data.root", text)
    with pytest.raises(ValueError, match=r"data\.root=.*reads the machine"):
        USES[use](run)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("callbacks.best.dirpath", "/elsewhere"),
        ("callbacks.best.filename", "../../elsewhere"),
        ("logger.tensorboard.save_dir", "elsewhere"),
        ("trainer.default_root_dir", "~"),
    ],
)
@pytest.mark.parametrize("use", ["resume", "rerun"])
def test_nothing_is_written_outside_of_the_folder(key: str, value: str, use: str, run: Path) -> None:
    change(run, key, value)
    with pytest.raises(ValueError, match=rf"would write to {key}={value}, which is not below"):
        USES[use](run)


def test_what_a_person_types_is_trusted_and_no_more(run: Path) -> None:
    """A stored path is not trusted because a longer one was typed."""
    change(run, "callbacks.best.dirpath", str(run.parent))
    done = command("train.py", f"resume={run}", "trainer.max_epochs=2", check=False)
    assert f"would write to callbacks.best.dirpath={run.parent}" in done.stderr
    command("train.py", f"resume={run}", "trainer.max_epochs=2", f"callbacks.best.dirpath={run.parent}")


@pytest.mark.parametrize("key", ["hydra.job_logging.handlers.file.filename", "defaults"])
@pytest.mark.parametrize("use", USES)
def test_a_stored_config_does_not_set_hydra(key: str, use: str, run: Path) -> None:
    change(run, key, "evil")
    with pytest.raises(ValueError, match=r"the stored config has (hydra|defaults), which no run stores"):
        USES[use](run)


@pytest.mark.parametrize("word", ["no", "false", "yes", 0, 1, None])
def test_trust_is_true_or_false(word: Any, run: Path) -> None:
    with pytest.raises(ValueError, match=f"trust={word} must be true or false"):
        check_flag(trust=word)
    with pytest.raises(ValueError, match=f"trust={word} must be true or false"):
        train(OmegaConf.merge(composed([*SMALL, f"resume={run}"], run), {"trust": word}))


def test_who_trusts_a_run_goes_on_with_it(run: Path) -> None:
    change(run, "callbacks.x", {"_target_": "slow_callback.SlowFrom", "epoch": 9, "seconds": 0, "until": "never"})
    train(composed([*SMALL, f"resume={run}", "trust=true"], run))
    (session,) = {
        torch.load(path, weights_only=True)["config"]["callbacks"]["x"]["epoch"] for path in (run / "checkpoints").glob("last.ckpt")
    }
    assert session == 9


@pytest.mark.parametrize(
    "name", [".lock", "results.json", "report.html", "figures/samples.png", "metrics.csv", "checkpoints/last.ckpt.part"]
)
def test_a_link_out_of_the_folder_is_not_written_through(name: str, run: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("{}")
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(kept)
    with pytest.raises(ValueError, match=rf"{name} is a link to .*kept, outside of the run folder"):
        resume(run)
    with pytest.raises(ValueError, match=rf"{name} is a link to .*kept, outside of the run folder"):
        evaluate_runs(composed([f"run={run}", "accelerator=cpu"], run, "evaluate"))
    assert kept.read_text() == "{}"


def test_files_take_the_place_of_links(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    for name in ("text", "text.part", ".lock"):
        (tmp_path / name).symlink_to("kept")
    write_text("new", tmp_path / "text")
    assert ((tmp_path / "text").read_text(), (tmp_path / "text").is_symlink()) == ("new", False)
    with pytest.raises(ValueError, match=r"\.lock is a link, and no lock of a run"), RunFolder(tmp_path).claim():
        pass
    assert (tmp_path / "kept").read_text() == "kept"


def test_a_run_within_another_is_not_deleted_unasked(run: Path, tmp_path: Path) -> None:
    inner = Path(shutil.copytree(run, run / "more" / "inner"))
    (inner / "results.json").unlink()
    with pytest.raises(ValueError, match=r"holds 1 other runs, such as .*inner"):
        delete_runs([str(tmp_path)], ["state=finished"], yes=True)
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert delete_runs([str(tmp_path)], yes=True) == 0
    assert not os.path.lexists(run)


def test_what_a_reader_is_shown_is_text(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A page has no tags, a spreadsheet no formulas, LaTeX no line break, a terminal no markup of a stranger."""
    nasty = ["=HYPERLINK(1)", "<script>|x</script>", "a\nb", "[bold]x[/bold]"]
    runs = [Path(shutil.copytree(run, tmp_path / "all" / f"[red]{i}")) for i in range(len(nasty))]
    for each, name in zip(runs, nasty, strict=True):
        change(each, "posterior.note", name)
        record = json.loads((each / "results.json").read_text())
        record |= {"test": {"elbo": -1.0, "rate": "<script>", "latent_dim": "<script>", "active_units": 2}, "epochs": "<script>"}
        write_text(json.dumps(record), each / "results.json")
        assert "<script>" not in write_report(RunFolder(each), "a: b").read_text()
    summary = summarize([str(tmp_path / "all")])
    assert "'=HYPERLINK(1)" in comma_separated(summary)
    assert "&lt;script&gt;\\|x&lt;/script&gt;" in markdown(summary)
    assert not re.search(r"<script>|a\nb", markdown(summary))
    assert "a b" in latex(summary)
    print_summary(summary)
    assert "[bold]x[/bold]" in capsys.readouterr().out


@pytest.mark.parametrize(
    "record",
    [
        {"test": {"elbo": -1.0, "elbo_std_error": "<b>"}},
        {"test": {"mig_ci": [1, 2, 3]}},
        {"test": {"mig_ci": ["a", 2]}},
        {"versions": ["torch"]},
        {"evaluations": {"likelihood": {"keys": "elbo"}}},
    ],
)
def test_results_of_another_shape_are_said(record: dict[str, Any], run: Path) -> None:
    write_text(json.dumps(record), run / "results.json")
    with pytest.raises(ValueError, match=r"results\.json cannot be read \(it was not written by vaelab"):
        RunFolder(run).results()
