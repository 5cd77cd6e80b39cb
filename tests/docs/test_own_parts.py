"""The page about parts of one's own: what it shows is written to files, and run as it says."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest
from forked_scripts import ROOT, command

PAGE = (ROOT / "docs" / "own_parts.md").read_text()
FILES = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^PYTHONPATH=\. vaelab (.*)$", PAGE.replace("\\\n", " "), re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    for name, text in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("a") as file:
            file.write(text)
    return folder


def test_they_train_together_and_are_opened_with_trust(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{os.environ['PYTHONPATH']}"}
    (_, *train), (_, *evaluate) = map(shlex.split, COMMANDS)
    quick = ["trainer=cpu", "trainer.max_epochs=2", "evaluation.figures=false", "latent_dim=2"]
    told = command("train.py", *train, *quick, cwd=folder, env=environment)
    (run,) = (folder / "outputs" / "mine").iterdir()
    assert "elbo" in told.stdout
    assert json.loads((run / "results.json").read_text())["test"]["spread_of_centres"] > 0
    assert "steps" in (run / "metrics.csv").read_text().splitlines()[0]
    words = [word.replace("outputs/mine/<date_time>", str(run)) for word in evaluate]
    assert command("evaluate.py", *words, cwd=folder, env=environment).returncode == 0
    words.remove("trust=true")
    assert "set trust=true" in command("evaluate.py", *words, cwd=folder, env=environment, check=False).stderr


def test_every_part_of_conf_is_shown() -> None:
    shown = {Path(name).parts[1] for name, _ in FILES if name.startswith("my_conf/")}
    groups = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()}
    assert groups - shown == {"experiment", "hparams_search", "launcher", "missingness", "model", "paths", "schedule", "speed", "trainer"}
