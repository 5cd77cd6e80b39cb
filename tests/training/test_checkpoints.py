"""Checkpoints that are damaged are never believed, and cost no more than the steps since the one before."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import QUICK, SMALL, composed, train_small

from vaelab.commands import train as training
from vaelab.runs.files import read_checkpoint
from vaelab.runs.folder import PREVIOUS, RunFolder
from vaelab.training.checkpoints import AtomicCheckpointIO


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, whose last checkpoint but one is that of the first."""
    return train_small(tmp_path_factory.mktemp("checkpoints") / "run", *QUICK, "evaluation.enabled=false")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(trained, tmp_path / "run"))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_no_flipped_bit_is_believed(tmp_path: Path) -> None:
    """200 bits of a small checkpoint: each file is refused, or holds what was written (where the bit says nothing)."""
    path, bits, refused = tmp_path / "last.ckpt", random.Random(0), 0
    whole = {"config": {"seed": 0}, "state_dict": {"w": torch.arange(64.0), "b": torch.tensor([1, 2])}, "global_step": 7}
    AtomicCheckpointIO(path.parent).save_checkpoint(whole, path)
    written = path.read_bytes()
    for bit in bits.sample(range(8 * len(written)), 200):
        damaged = bytearray(written)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read_checkpoint(path)
        except ValueError:
            refused += 1
            continue
        assert same(found["state_dict"], whole["state_dict"])
        assert same(found, found | whole)
    assert refused > 20


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "missing"])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(damage: str, run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    path = run.checkpoints / "last.ckpt"
    before, last = (torch.load(run.checkpoints / name, weights_only=True) for name in (PREVIOUS, "last.ckpt"))
    assert (before["global_step"], last["global_step"]) == (6, 12)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    if damage != "missing":
        path.write_bytes({"cut": content[:1000], "flipped": bytes(content), "empty": b""}[damage])
    training.train(composed([*SMALL, *QUICK, f"resume={run}"], run.path))
    told = capsys.readouterr().out
    assert ("last.ckpt cannot be read: the run goes on from last.ckpt.previous, step 6" in told) == (damage != "missing")
    again = torch.load(path, weights_only=True)
    assert again["global_step"] == 12
    assert same(again["state_dict"], last["state_dict"])  # bit for bit


def test_existing_resume_goes_on_from_it_as_well(run: RunFolder) -> None:
    (run.checkpoints / "last.ckpt").write_bytes(b"")
    (run.path / "results.json").unlink()
    training.train(composed([*SMALL, *QUICK, "evaluation.enabled=false", "existing=resume"], run.path))
    assert run.results()["steps"] == 12


def test_if_both_are_damaged_that_is_said(run: RunFolder) -> None:
    for name in ("last.ckpt", PREVIOUS):
        (run.checkpoints / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"last\.ckpt\.previous cannot be read: it is damaged"):
        training.train(composed([*SMALL, f"resume={run}"], run.path))


def test_the_config_of_a_resumed_run_is_read_from_what_is_sound(run: RunFolder) -> None:
    (run.path / "resumed").mkdir()
    (run.checkpoints / "last.ckpt").write_bytes(b"")
    assert run.config["latent_dim"] == 2


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_run_that_is_killed_while_it_reports_is_not_finished(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its numbers; the same line makes the report."""
    (run.path / "results.json").unlink()
    words = [*SMALL, *QUICK, "evaluation.report=true", "existing=resume"]
    with monkeypatch.context() as context:
        context.setattr(training, "report", interrupted)
        with pytest.raises(KeyboardInterrupt):
            training.train(composed(words, run.path))
    assert not run.is_finished
    assert json.loads((run.path / "results.json").read_text())["test"]["elbo"] < 0
    training.train(composed(words, run.path))
    assert run.is_finished
    assert (run.path / "report.html").is_file()
