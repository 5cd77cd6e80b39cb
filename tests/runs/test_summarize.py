"""scripts/summarize.py on runs that were trained."""

import csv
import json
import runpy
import shutil
import statistics
from pathlib import Path

import pytest
from forked_scripts import ROOT, command
from small_runs import SMALL

QUICK = ["trainer.max_epochs=1", "evaluation.figures=false", "~callbacks.pictures", "~callbacks.first_batch", "logger=csv"]


def test_a_sweep_over_beta_becomes_a_rate_distortion_curve(tmp_path: Path) -> None:
    """Two commands give a table of the numbers in results.json, and figures; .hydra or the checkpoints say what the runs are."""
    sweep = tmp_path / "sweep"
    command("train.py", "-m", *SMALL, *QUICK, "objective.beta=0.1,10", "seed=0,1", f"hydra.sweep.dir={sweep}", cwd=tmp_path)
    done = command("summarize.py", "sweep", "output=table", cwd=tmp_path)
    assert "4 runs of 2 settings on circles" in done.stdout
    assert str(tmp_path) not in done.stdout
    table = (tmp_path / "table" / "summary.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    assert [(row["objective.beta"], row["seeds"]) for row in rows] == [("0.1", "0 1"), ("10", "0 1")]
    jobs = [sweep / f"objective.beta={beta},seed={seed}" for beta in (0.1, 10) for seed in (0, 1)]
    elbos = [json.loads((job / "results.json").read_text())["test"]["elbo"] for job in jobs]
    assert float(rows[0]["elbo_mean"]) == pytest.approx(statistics.fmean(elbos[:2]), rel=1e-12)
    assert float(rows[1]["elbo_std"]) == pytest.approx(statistics.stdev(elbos[2:]), rel=1e-12)
    assert {path.name for path in (tmp_path / "table").glob("*.png")} == {"metrics.png", "rate_distortion.png"}
    shutil.rmtree(jobs[0] / ".hydra")
    (jobs[1] / "resumed").mkdir()  # of a run that was continued, .hydra knows the start alone
    (jobs[1] / ".hydra" / "config.yaml").write_text("trainer: {max_epochs: 0}")
    assert command("summarize.py", "sweep", "--format", "csv", cwd=tmp_path).stdout == table


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text("{seed: 0, data: {name: circles}}")
    (tmp_path / "run" / "results.json").write_text('{"test": {"elbo": -90.0}}')
    return tmp_path / "run"


def typed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of a command line."""
    monkeypatch.setattr("sys.argv", ["summarize.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "scripts" / "summarize.py"), run_name="__main__")
    return ended.value.code  # type: ignore[return-value]


@pytest.mark.parametrize("format", ["csv", "markdown", "latex"])
def test_formats_that_are_printed(format: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from vaelab.runs.summary import FORMATS, summarize

    assert typed(monkeypatch, str(run), "--format", format) == 0
    assert capsys.readouterr().out == FORMATS[format](summarize([str(run)]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["{run}", "--metrics", "elbow"], "no run has the metric elbow; nearest are elbo"),
        (["{run}", "--baseline", "beta=1"], "--baseline beta=1: beta is none of the columns that differ (none does)"),
        (["{run}", "output={run}/results.json/x"], "cannot write to {run}/results.json/x: Not a directory"),
    ],
)
def test_a_wrong_command_is_told_in_a_line_and_ends_with_2(
    arguments: list[str], message: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, *(argument.format(run=run) for argument in arguments)) == 2
    assert capsys.readouterr().err == f"vaelab summarize: {message.format(run=run)}\n"


def test_no_folder_is_a_wrong_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(monkeypatch) == 2
    assert "folders" in capsys.readouterr().err
