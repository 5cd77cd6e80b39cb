"""The wheel, installed away from the repository, in an empty folder: what someone has who typed pip install vaelab."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from forked_scripts import ROOT
from small_runs import QUICK, SMALL

SHORT = [*SMALL, *QUICK, "trainer.max_epochs=1", "logger=csv"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    (path,) = folder.glob("vaelab-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    folder = wheel.with_name("installed")
    pip("install", "--target", str(folder), str(wheel))
    return folder


def pip(*words: str) -> None:
    """What it depends on is there already: the packages of these tests."""
    line = [sys.executable, "-m", "pip", words[0], "--quiet", "--no-deps", "--disable-pip-version-check", *words[1:]]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def typed(installed: Path, folder: Path, *words: str) -> str:
    """What a command of the installed package prints."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    line = [sys.executable, str(installed / "bin" / "vaelab"), *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=folder, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def finished(folder: Path, number: int) -> None:
    """Assert that there are as many finished runs, whose code was that of the installed package, which is in no repository."""
    records = [json.loads(path.read_text()) for path in folder.rglob("results.json")]
    assert len(records) == number
    assert all(record["git_commit"] is None for record in records)


def test_the_wheel_holds_all_that_is_needed(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"vaelab/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")} <= names
    assert {"vaelab/py.typed", "hydra_plugins/vaelab.py", "vaelab/docs/own_parts.md"} <= names
    assert not any(name.startswith(("tests", "scripts", "conf")) for name in names)


def test_a_wheel_of_the_sources_is_the_same(wheel: Path, tmp_path: Path) -> None:
    """pip builds one where there is no wheel."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path)], cwd=ROOT, check=True)
    (sources,) = tmp_path.glob("vaelab-*.tar.gz")
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(sources))
    (other,) = tmp_path.glob("vaelab-*.whl")
    assert set(zipfile.ZipFile(other).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_a_sweep_of_processes_of_this_machine(installed: Path, tmp_path: Path) -> None:
    """Each job is a process, whose command line is rebuilt; and the commands that look at runs find them."""
    typed(installed, tmp_path, "train", "-m", *SHORT, "sweep=two", "seed=0,1")
    finished(tmp_path / "outputs" / "sweeps" / "two", 2)
    assert len(typed(installed, tmp_path, "runs", "list", "outputs").splitlines()) == 4
    assert "elbo" in typed(installed, tmp_path, "summarize", "outputs")


def test_a_sweep_by_joblib(installed: Path, tmp_path: Path) -> None:
    typed(installed, tmp_path, "train", "-m", *SHORT, "launcher=joblib", "sweep=one", "seed=0", "hydra.launcher.n_jobs=1")
    finished(tmp_path, 1)


def test_a_run_of_two_processes(installed: Path, tmp_path: Path) -> None:
    typed(installed, tmp_path, "train", *SHORT, "trainer=ddp_cpu")
    finished(tmp_path, 1)


def test_yamls_of_ones_own(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "tiny.yaml").write_text("# @package _global_\nlatent_dim: 3\n")
    told = typed(installed, tmp_path, "train", "--config-dir", "mine", "experiment=tiny", "--cfg", "job")
    assert "latent_dim: 3" in told
