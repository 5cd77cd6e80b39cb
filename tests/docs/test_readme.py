"""What the README says is so."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from forked_scripts import ROOT, command
from small_runs import SMALL, composed, train_small

TEXT = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^\.venv/bin/python (scripts/\w+\.py)([^#\n]*)", TEXT, re.MULTILINE)


def test_its_length() -> None:
    assert len(TEXT.splitlines()) <= 150


def test_the_python_block_trains_a_vae() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    namespace: dict = {}
    exec(block, namespace)
    assert namespace["terms"]["elbo"] > -100  # a model without latents reaches -137
    assert namespace["model"].sample(8).shape == (8, 1, 16, 16)


FOLDERS = ("scripts/summarize.py", "scripts/runs.py")  # which are told a list of folders, and have no config
COMPOSED = [line for line in COMMANDS if line[0] not in FOLDERS]


@pytest.mark.parametrize(("script", "arguments"), COMPOSED, ids=[f"{script} {arguments.strip()}" for script, arguments in COMPOSED])
def test_the_command_lines_compose(script: str, arguments: str, tmp_path: Path) -> None:
    words = [word for word in shlex.split(arguments) if word != "-m"]
    name = Path(script).stem
    config = composed(
        [word.split(",")[0] if "-m" in shlex.split(arguments) else word for word in words], tmp_path, "config" if name == "train" else name
    )
    assert config


# so that it takes seconds; a run on circles has no kmnist to be compared with, but other circles
FEWER = {
    "scripts/evaluate.py": ["metrics.likelihood.num_samples=5", "metrics=[likelihood,latent]"],
    "scripts/detect_anomalies.py": ["against=null", "num_samples=5", "num_images=50", "num_train=50", "num_pictured=3"],
    "scripts/inpaint.py": ["num_images=4", "num_steps=4", "num_pseudo_gibbs=2", "num_samples=20"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("readme") / "run", "trainer.max_epochs=1", "data.classes={radius: [0, 1, 2]}")


@pytest.mark.parametrize(("script", "arguments"), [line for line in COMMANDS if "outputs" in line[1]], ids=lambda words: words.strip()[:40])
def test_what_is_done_with_a_run_as_written(script: str, arguments: str, run: Path, tmp_path: Path) -> None:
    """The README's run folder is replaced by one that exists, and its numbers by small ones."""
    words = [re.sub(r"outputs\S*", str(run), word) for word in shlex.split(arguments)]
    left = command(Path(script).name, *words, *FEWER.get(script, []), cwd=tmp_path).stdout
    assert left.strip()


def test_the_dial_table_is_complete() -> None:
    for folder in (ROOT / "conf").iterdir():
        choices = {path.stem for path in folder.glob("*.yaml") if not path.stem.startswith("_")} if folder.is_dir() else set()
        if folder.name in ("callbacks", "logger", "paths", "model") or not choices:
            continue
        (row,) = [line for line in TEXT.splitlines() if line.startswith("|") and f"`{folder.name}`" in line.split("|")[1]]
        assert choices <= set(re.findall(r"\w+", row)), folder.name


def test_sweep_as_written_runs_every_combination(tmp_path: Path) -> None:
    (line,) = [arguments for _, arguments in COMMANDS if "-m" in shlex.split(arguments)]
    small = [option for option in SMALL if not option.startswith("trainer.max_epochs")]
    words = [*shlex.split(line), *small, "trainer.max_epochs=1", "evaluation.enabled=false", "evaluation.figures=false"]
    subprocess.run([sys.executable, str(ROOT / "scripts" / "train.py"), *words], check=True, capture_output=True, cwd=tmp_path, timeout=300)
    assert len(list(tmp_path.glob("outputs/sweeps/*/*/results.json"))) == 6
