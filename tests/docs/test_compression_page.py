"""The page about compression: its commands run as they are written, and its examples say what they say."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from forked_scripts import ROOT, command

PAGE = (ROOT / "docs" / "the_bound_as_a_file.md").read_text()
QUICK = {
    "train": [
        "trainer=cpu",
        "trainer.max_steps=20",
        "data.dataset.num_train=96",
        "data.dataset.num_test=64",
        "data.val_size=32",
        "evaluation.enabled=false",
        "logger=csv",
    ]
}


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for line in re.findall(r"^vaelab (.*)$", PAGE, re.MULTILINE):
        script, *words = shlex.split(line)
        told = command(f"{script}.py", *words, *QUICK.get(script, []), cwd=tmp_path).stdout
    assert "code_bits_per_dim" in told
    assert np.load("test.npy").shape == (64, 1, 32, 32)
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(code, names)
    one, other, three, back, model, *widths = capsys.readouterr().out.splitlines()
    assert np.allclose([float(number) for number in one.split()], 2.415, atol=1e-3)
    assert other == "0 2 True"
    code, bound = (float(number) for number in three.split())
    assert code == pytest.approx(bound, rel=0.1)
    assert back == "True True"
    assert model.endswith("True")
    assert len(widths) == 5
