"""What the README says is so."""

import re
import shlex
from pathlib import Path

import pytest
from forked_scripts import ROOT, command
from house import modules, room
from small_runs import QUICK, SMALL, composed, train_small

from vaelab.commands.cli import COMMANDS as COMMAND_TABLE

TEXT = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^vaelab (\w+)([^#\n]*)", TEXT, re.MULTILINE)


def test_its_length() -> None:
    assert len(TEXT.splitlines()) <= 130


def test_the_python_block_trains_a_vae() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    namespace: dict = {}
    exec(block, namespace)
    assert namespace["terms"]["elbo"] > -100  # a model without latents reaches -137
    assert namespace["model"].sample(8).shape == (8, 1, 16, 16)


COMPOSED = [line for line in COMMANDS if COMMAND_TABLE[line[0]].config]  # others are told a list of folders


@pytest.mark.parametrize(("name", "arguments"), COMPOSED, ids=[f"{name} {arguments.strip()}" for name, arguments in COMPOSED])
def test_the_command_lines_compose(name: str, arguments: str, tmp_path: Path) -> None:
    words = [word for word in shlex.split(arguments) if word != "-m"]
    first = [word.split(",")[0] if "-m" in shlex.split(arguments) else word for word in words]
    assert composed(first, tmp_path, COMMAND_TABLE[name].config)


# so that it takes seconds; a run on circles has no kmnist to be compared with, but other circles
FEWER = {
    "evaluate": ["metrics.likelihood.num_samples=5", "metrics=[likelihood,latent]"],
    "detect_anomalies": ["against=null", "num_samples=5", "num=50", "num_train=50", "num_pictured=3"],
    "inpaint": ["num=4", "num_steps=4", "num_pseudo_gibbs=2", "num_samples=20"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("readme") / "run", "trainer.max_epochs=1", "data.classes={radius: [0, 1, 2]}")


@pytest.mark.parametrize(("name", "arguments"), [line for line in COMMANDS if "outputs" in line[1]], ids=lambda words: words.strip()[:40])
def test_what_is_done_with_a_run_as_written(name: str, arguments: str, run: Path, tmp_path: Path) -> None:
    """The README's run folder is replaced by one that exists, and its numbers by small ones."""
    words = [re.sub(r"outputs\S*", str(run), word) for word in shlex.split(arguments)]
    left = command(f"{name}.py", *words, *FEWER.get(name, []), cwd=tmp_path).stdout
    assert left.strip()


def test_the_dial_table_is_complete() -> None:
    for folder in (ROOT / "conf").iterdir():
        choices = {path.stem for path in folder.glob("*.yaml") if not path.stem.startswith("_")} if folder.is_dir() else set()
        if folder.name in ("callbacks", "logger", "paths", "model") or not choices:
            continue
        (row,) = [line for line in TEXT.splitlines() if line.startswith("|") and f"`{folder.name}`" in line.split("|")[1]]
        assert choices <= set(re.findall(r"\w+", row)), folder.name


def test_it_ends_with_the_whole_tree() -> None:
    tree = TEXT.rpartition("\n```\n")[0].rpartition("```\n")[2]
    named = set(re.findall(r"(\w+)(?:/|\.py)", "".join(re.split(r" {2,}(?=\S)", line.strip())[0] for line in tree.splitlines())))
    rooms = {room(path) for path in modules()} - {"__init__"}
    assert named - {"src", "vaelab"} == rooms | {"conf", "docs", "scripts", "tests"}


def test_sweep_as_written_runs_every_combination(tmp_path: Path) -> None:
    (line,) = [arguments for _, arguments in COMMANDS if "-m" in shlex.split(arguments)]
    small = [option for option in SMALL if not option.startswith("trainer.max_epochs")]
    words = [*shlex.split(line), *small, "trainer.max_epochs=1", *QUICK]
    command("train.py", *words, cwd=tmp_path)
    assert len(list(tmp_path.glob("outputs/sweeps/*/*/results.json"))) == 6
