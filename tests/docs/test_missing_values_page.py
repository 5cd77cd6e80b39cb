"""The page about missing values: its tables are made, and its commands run as they are written."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
from forked_scripts import ROOT, command

PAGE = (ROOT / "docs" / "missing_values.md").read_text()
COMMANDS = re.findall(r"^vaelab (.*)$", PAGE.replace("\\\n", " "), re.MULTILINE)
SHORT = ["evaluation.figures=false", "evaluation.report=false", "logger=csv", "trainer=cpu", "metrics@evaluation.metrics=[likelihood]"]
QUICK = {
    "train": [*SHORT, "trainer.max_epochs=2", "objective.num_samples=2"],
    "impute": ["num_samples=20", "accelerator=cpu"],
    "evaluate": ["metrics.imputation.num_samples=20", "accelerator=cpu"],
}


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    make, pool = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict = {}
    exec(make, names)
    for line in COMMANDS:
        script, *words = shlex.split(line)
        more = ["trainer.max_steps=3", "hydra.run.dir=" + words[-1]] if "experiment" in line else []
        told = command(f"{script}.py", *words, *QUICK[script], *more, cwd=tmp_path).stdout
    exec(pool, names)
    assert re.fullmatch(r"mean radius: 1\d\.\d\d \+- 0\.\d\d\n", capsys.readouterr().out)
    whole, holes, filled = (
        list(csv.reader((tmp_path / name).read_text().splitlines())) for name in ("whole.csv", "holes.csv", "filled.csv")
    )
    assert sum(cell == "" for line in holes for cell in line) == len((tmp_path / "hidden.csv").read_text().splitlines())
    assert all(
        cell in ("", now) and now for before, after in zip(holes, filled, strict=True) for cell, now in zip(before, after, strict=True)
    )
    found = json.loads((tmp_path / "judged" / "results.json").read_text())["test"]
    assert [row["column"] for row in found["imputation_columns"]] == whole[0]
    assert "error_of_iterative" in told or "error_of_iterative" in found["imputation_columns"][0]
    assert len(whole) == 570
