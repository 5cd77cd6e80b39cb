"""UDR of runs that differ in their seeds alone, from their folders."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from forked_scripts import command
from small_runs import train_small

from vaelab.build import load, open_run
from vaelab.metrics.disentanglement import udr
from vaelab.runs.find import other_seeds
from vaelab.runs.folder import RunFolder

QUICK = ["trainer.max_epochs=1", "evaluation.figures=false", "evaluation.report=false", "logger=csv", "~callbacks.pictures"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of a setting, one of another, and a run that was stopped."""
    folder = tmp_path_factory.mktemp("udr") / "sweep"
    for beta, seed in ((1, 0), (1, 1), (1, 2), (4, 0)):
        train_small(folder / f"objective.beta={beta},seed={seed}", f"objective.beta={beta}", f"seed={seed}", *QUICK)
    shutil.copytree(folder / "objective.beta=1,seed=0", folder / "stopped")
    (folder / "stopped" / "results.json").unlink()
    return folder


def test_seeds_of_the_same_setting_that_are_finished_are_compared(sweep: Path) -> None:
    runs = [sweep / f"objective.beta=1,seed={seed}" for seed in range(3)]

    def found(run: Path, *folders: Path) -> dict[int, Path]:
        return {seed: other.path for seed, other in other_seeds(RunFolder(run), map(str, folders)).items()}

    assert found(runs[1], sweep) == {0: runs[0], 2: runs[2]}
    assert found(runs[1], *runs[:2]) == {0: runs[0]}
    assert found(sweep / "objective.beta=4,seed=0", sweep) == {}


def test_the_command_gives_what_the_function_does(sweep: Path, tmp_path: Path) -> None:
    """A setting of which there is one seed alone is told so, and the others are evaluated."""
    folder = Path(shutil.copytree(sweep, tmp_path / "sweep"))
    done = command("evaluate.py", f"run='{folder}/objective*'", "metrics=[udr]", "report=false", check=False, cwd=tmp_path)
    assert done.returncode != 0
    assert "no finished run in" in done.stderr
    assert "this one with another seed: train some (-m seed=range(5))" in done.stderr
    found: list[dict[str, Any]] = []
    for seed in range(3):
        found.append(json.loads((folder / f"objective.beta=1,seed={seed}" / "results.json").read_text())["test"])
        assert found[-1]["udr_seeds"] == [other for other in range(3) if other != seed]
    models = [load(folder / f"objective.beta=1,seed={seed}") for seed in range(3)]
    data = open_run(folder / "objective.beta=1,seed=0").datamodule
    assert found[0]["udr_with_each"] == pytest.approx(udr(models[0], data, models[1:])["udr_with_each"], rel=1e-5)
    assert "udr" not in json.loads((folder / "objective.beta=4,seed=0" / "results.json").read_text())["test"]
    table = command("summarize.py", "sweep", "--metrics", "udr", cwd=tmp_path).stdout
    assert "best run by udr" in table
