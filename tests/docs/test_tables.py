"""The page about tables: its table is made, and its commands run as they are written."""

import csv
import re
import shlex
from pathlib import Path

import pytest
from forked_scripts import ROOT, command

PAGE = (ROOT / "docs" / "tables.md").read_text()
COMMANDS = re.findall(r"^vaelab (.*)$", PAGE, re.MULTILINE)
QUICK = {
    "train": ["trainer=cpu", "trainer.max_epochs=2", "evaluation.figures=false", "evaluation.report=false", "logger=csv"],
    "generate": ["accelerator=cpu"],
    "evaluate": ["accelerator=cpu"],
    "impute": ["num_samples=20", "accelerator=cpu"],
}


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})
    told = ""
    for line in COMMANDS:
        script, *words = shlex.split(line)
        told += command(f"{script}.py", *words, *QUICK[script], cwd=tmp_path).stdout
    assert "left out: id (id)" in told
    assert (tmp_path / "by_grower" / "results.json").is_file()
    header, *rows = list(csv.reader((tmp_path / "samples.csv").read_text().splitlines()))
    assert (header[0], len(rows), {row[0] for row in rows}) == ("grower", 100, {"b"})
    given, filled = (list(csv.reader((tmp_path / name).read_text().splitlines())) for name in ("wine.csv", "filled.csv"))
    assert all(
        cell in ("", now) and now for before, after in zip(given, filled, strict=True) for cell, now in zip(before, after, strict=True)
    )


def test_the_kinds_are_all_that_there_are() -> None:
    from vaelab.checks import KINDS

    assert tuple(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == KINDS
