"""What `make gpu` runs, on the CPU: the tests of a GPU, the speeds, and the page."""

import re
from multiprocessing.forkserver import ensure_running
from pathlib import Path

import pytest
import torch
from forked_scripts import ROOT, command
from omegaconf import OmegaConf
from small_runs import SMALL, composed
from wheels import name_of, needed

from vaelab.benchmark.alone import alone
from vaelab.benchmark.gpu import GRAPH, LOOP, OURS, RESIDENT, Page, run_tests
from vaelab.benchmark.loops import by_graph


def test_the_whole_script(tmp_path: Path) -> None:
    words = [word for word in SMALL if not word.startswith("trainer.")]
    chosen = "test_steps.py and bernoulli-elbo and gaussian-standard_normal"
    command(
        "benchmark.py",
        *words,
        "benchmark.parts=[gpu]",
        "benchmark.epochs=1",
        f"benchmark.gpu.page={tmp_path / 'gpu.md'}",
        f"benchmark.gpu.tests=[{ROOT / 'tests' / 'gpu'},-k,'{chosen}']",
        "benchmark.gpu.models=[{name:one,words:['latent_dim=3']}]",
        "~benchmark.gpu.speeds.compile",
        "benchmark.likelihood.num_samples=5",
        "benchmark.likelihood.rounds=1",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    page = (tmp_path / "gpu.md").read_text()
    assert re.search(r"Tests of `tests/gpu`: \d+ passed, \d+ deselected", page)
    rate = r"[\d,]+ \(\d+\.\d\d\)"
    assert re.search(rf"^\| one \| [\d,]+ \| - \| {rate} \| {rate} \| {rate} \| [\d,]+ MiB \|$", page, re.MULTILINE), page
    assert f"* one, {GRAPH}: failed: a CUDA graph needs a GPU\n" in page
    assert len(re.findall(r"^\| .* \| [\d,]+ \|$", page, re.MULTILINE)) == 3  # of log p(x)


def test_a_page_holds_what_is_known(tmp_path: Path) -> None:
    page = Page(tmp_path / "docs" / "gpu.md", torch.device("cpu"), ["mlp", "conv"], ["bf16"])
    page.write()
    assert f"| model | {LOOP} | {GRAPH} | {OURS} | {RESIDENT} | bf16 | peak memory |" in page.path.read_text()
    page.rates = {("mlp", LOOP): 2000.0, ("mlp", "bf16"): 3000.0, ("conv", "bf16"): 500.0}
    page.memory, page.notes = {"mlp": 1234.5}, ["conv, vaelab: left out, because the time was over"]
    page.write()
    text = page.path.read_text()
    assert "| mlp | 2,000 | - | - | - | 3,000 (1.50) | 1,234 MiB |" in text
    assert "| conv | - | - | - | - | 500 | - |" in text
    assert text.endswith("* conv, vaelab: left out, because the time was over\n")


def test_failed_tests_are_named_and_slow_ones_are_stopped(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("def pytest_addoption(parser):\n    parser.addoption('--device')\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    tests = tmp_path / "test_it.py"
    tests.write_text("def test_device(request):\n    assert request.config.getoption('--device') == 'cuda'\n")
    cpu, output = torch.device("cpu"), tmp_path / "printed.txt"
    assert re.fullmatch(r"1 failed in .*s; FAILED \S*test_it\.py::test_device", run_tests([str(tests)], cpu, 100, output))
    tests.write_text("import time\ndef test_slow():\n    time.sleep(1000)\n")
    assert run_tests([str(tests)], cpu, 0.01, output).startswith("stopped after 0 s; ")


def test_what_is_needed_is_not_what_is_there() -> None:
    names = {name_of(requirement) for requirement in needed()}
    assert {"torch", "hydra-core", "zuko", "pytest", "beartype"} <= names
    assert name_of("scikit_learn") == name_of("scikit-learn>=1.4") == "scikit-learn"


def test_without_a_gpu_it_is_said(tmp_path: Path) -> None:
    words = [word for word in SMALL if word != "trainer=cpu"]
    done = command("benchmark.py", *words, "benchmark.parts=[gpu]", f"hydra.run.dir={tmp_path}", check=False)
    assert done.returncode == 1
    assert "benchmark.parts=[gpu] needs a GPU, and torch sees none: trainer=cpu tries all of it on the CPU" in done.stderr
    with pytest.raises(ValueError, match="a CUDA graph needs a GPU"):
        by_graph(OmegaConf.to_container(composed(SMALL, tmp_path, "benchmark")))  # type: ignore[arg-type]


def test_what_lasts_too_long_is_stopped() -> None:
    ensure_running()  # that of these tests, with what it has imported
    with pytest.raises(TimeoutError):
        alone(wait, OmegaConf.create({}), seconds=0.1)


def wait(plain: object) -> None:
    """Never ends."""
    while True:
        pass
