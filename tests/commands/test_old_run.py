"""A run folder that an older version left still opens: tests/commands/old_run, of circles of 8 x 8 pixels, trained for one epoch.

That version named callbacks, loggers and options of evaluation otherwise, had no metric in `evaluation`, and let evaluate.py add to
results.json. Its config names no folder that exists.
"""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from forked_scripts import ROOT, command
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

OLD = Path(__file__).with_name("old_run")


def composed(script: str, run: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose(script, [f"run='{run}'", *overrides])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "run"))


def test_its_config_is_that_of_today() -> None:
    from vaelab.runs.folder import RunFolder

    config = RunFolder(OLD).config
    assert config["callbacks"]["last"]["_target_"] == "vaelab.training.callbacks.LastCheckpoint"
    assert config["logger"]["csv"]["_target_"] == "vaelab.training.metrics_csv.MetricsCSV"
    likelihood = {"_target_": "vaelab.metrics.evaluate_test_data", "_partial_": True, "num_samples": 2, "chunk_size": None, "num_images": 6}
    others = {"enabled": True, "checkpoint": "best", "figures": False, "report": False}
    assert config["evaluation"] == {**others, "metrics": {"likelihood": likelihood}}


def test_its_model_and_its_numbers_are_what_they_were(run: Path) -> None:
    """The noise of an evaluation is that of its seed."""
    from vaelab.build import load
    from vaelab.commands.evaluate import evaluate_runs

    assert load(run).encode(torch.zeros(1, 1, 8, 8)).event_shape == (2,)
    before = json.loads((run / "results.json").read_text())
    options = ["metrics.likelihood.num_samples=3", "metrics.likelihood.num_images=5", "again=true"]
    evaluate_runs(composed("evaluate", run, *options))
    after = json.loads((run / "results.json").read_text())
    assert after["val"] == before["val"]
    assert after["evaluations"]["latent"] == before["evaluations"]["latent"]
    assert after["evaluations"]["likelihood"]["finished"] > before["evaluations"]["likelihood"]["finished"]
    assert after["test"].keys() == before["test"].keys()
    for name in ("elbo", "rate", "log_likelihood", "effective_sample_size"):
        assert after["test"][name] == pytest.approx(before["test"][name], rel=1e-4)
    assert (run / "report.html").is_file()


def test_it_is_pictured(run: Path) -> None:
    from vaelab.commands.generate import generate

    generate(composed("generate", run))
    assert {"reconstructions", "samples", "manifold"} <= {path.stem for path in (run / "figures").glob("*.png")}


def test_it_goes_on(run: Path) -> None:
    command("train.py", f"resume={run}", "trainer.max_epochs=2")
    results = json.loads((run / "results.json").read_text())
    assert results["epochs"] == 2
    assert results["test"]["num_samples"] == 2
    assert results["test"]["num_images_log_likelihood"] == 6
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert stored["config"]["callbacks"]["last"]["_target_"] == "vaelab.training.callbacks.LastCheckpoint"
    assert stored["config"]["evaluation"]["metrics"]["likelihood"]["num_samples"] == 2


@pytest.mark.parametrize(("script", "words"), [("runs", ["show"]), ("summarize", [])])
def test_it_is_listed(
    script: str, words: list[str], run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *words, str(run)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "scripts" / f"{script}.py"), run_name="__main__")
    assert ended.value.code == 0
    assert "-45.4" in capsys.readouterr().out
