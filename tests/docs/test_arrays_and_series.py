"""The page about arrays and series: its example is run as it says."""

import re
import shlex
from pathlib import Path

import numpy as np
from forked_scripts import ROOT, command

PAGE = (ROOT / "docs" / "arrays_and_series.md").read_text()
(PYTHON,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^vaelab (\w+) (.*)$", PAGE.replace("\\\n", " "), re.MULTILINE)
# so that it takes seconds
FEWER = {
    "train": ["trainer=cpu", "trainer.max_epochs=1", "encoder.channels=[4,4]", "decoder.channels=[4,4]", "evaluation.figures=false"],
    "generate": ["num=2"],
    "inpaint": ["num=4", "num_pictured=2", "num_steps=4", "num_pseudo_gibbs=2", "num_samples=20"],
}


def test_the_example_runs(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(PYTHON, {})
    assert [name for name, _ in COMMANDS] == ["train", "generate", "generate", "generate", "inpaint"]
    run = ""
    for name, arguments in COMMANDS:
        words = [word.replace("outputs/array/<date_time>", run) for word in shlex.split(arguments)]
        told = command(f"{name}.py", *words, *FEWER[name], cwd=tmp_path).stdout
        if name == "train":
            (found,) = re.findall(r"```\n(array: .*)\n```", PAGE)
            assert found in told
            (folder,) = (tmp_path / "outputs" / "array").iterdir()
            run = str(folder)
    figures = {path.stem for path in (folder / "figures").iterdir()}
    assert {"reconstructions", "samples", "traversals", "interpolations"} <= figures
    assert np.load("samples.npz")["x"].shape == np.load("again.npz")["x"].shape == (2, 64)
    assert list(folder.glob("inpainting/*/completions.png"))
