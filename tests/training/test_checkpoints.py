"""Checkpoints that are damaged are never believed, and cost no more than the steps since the one before."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from small_runs import QUICK, SMALL, best_score, composed, same, train_small

from vaelab.build import open_run
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


SPOIL = "+callbacks.spoil={_target_: spoil_callback.Spoil}"


@pytest.fixture(scope="module")
def importance_weighted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that gets worse after its first epoch, with validations within epochs, and the three best checkpoints."""
    options = ["objective=iwae", "seed=3", SPOIL, "+trainer.val_check_interval=3", "callbacks.best.save_top_k=3"]
    return train_small(tmp_path_factory.mktemp("best") / "run", *QUICK, *options)


def test_the_best_checkpoint_has_the_number_that_it_was_chosen_by(importance_weighted: Path) -> None:
    """Bit for bit, of validations that are not at the end of an epoch, whatever the seed; L_5 is no ELBO."""
    results = RunFolder(importance_weighted).results()
    assert results["val"]["bound"] == pytest.approx(best_score(importance_weighted), rel=1e-7)
    assert results["val"]["bound"] > results["val"]["elbo"]
    assert (results["checkpoint"], results["checkpoint_reason"]) == ("checkpoints/best.ckpt", "the best by val/bound")


def test_several_best_checkpoints_have_names_of_their_own(importance_weighted: Path) -> None:
    folder = RunFolder(importance_weighted).checkpoints
    (noted,) = [state for key, state in torch.load(folder / "last.ckpt", weights_only=True)["callbacks"].items() if "Best" in key]
    names = {path.name for path in folder.glob("best_*.ckpt")}
    assert names == {Path(path).name for path in noted["best_k_models"]} <= {f"best_{step}.ckpt" for step in (3, 6, 9, 12)}
    assert len(names) == 3
    assert (folder / "best.ckpt").read_bytes() == Path(noted["best_model_path"]).read_bytes()
    step = torch.load(folder / "best.ckpt", weights_only=True)["global_step"]
    assert Path(noted["best_model_path"]).name == f"best_{step}.ckpt"


def test_a_run_that_was_moved_and_goes_on_keeps_its_best_checkpoint(tmp_path: Path) -> None:
    """After the move it gets worse."""
    first = train_small(tmp_path / "first", *QUICK, "trainer.max_epochs=1", "evaluation.enabled=false")
    best = (first / "checkpoints" / "best.ckpt").read_bytes()
    moved = first.rename(tmp_path / "moved")
    copied = shutil.copytree(moved, tmp_path / "copied")
    for run in (moved, copied):
        (run / "results.json").unlink()
        training.train(composed([*SMALL, *QUICK, "evaluation.enabled=false", "existing=resume", SPOIL], run))
        assert (run / "checkpoints" / "best.ckpt").read_bytes() == best
        assert RunFolder(run).results()["val"]["bound"] == pytest.approx(best_score(run), rel=1e-7)
    (copied / "checkpoints" / "best.ckpt").unlink()  # then the best since is the best
    longer = [*SMALL, *QUICK, "evaluation.enabled=false", "existing=resume", SPOIL, "trainer.max_epochs=3"]
    training.train(composed(longer, copied))
    assert (copied / "checkpoints" / "best.ckpt").is_file()


def test_what_is_no_bound_is_evaluated_at_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And every other command takes what training has evaluated; before that, the last checkpoint."""
    words = [*QUICK, "evaluation.enabled=false", "trainer.max_epochs=1"]
    run = RunFolder(train_small(tmp_path / "run", *words, "objective.beta=4"))
    assert "evaluated:    last.ckpt, because the objective is no bound on log p(x): beta=4 weighs the rate" in capsys.readouterr().out
    assert run.results()["checkpoint"] == "checkpoints/last.ckpt"
    assert open_run(run.path).checkpoint.name == "last.ckpt"
    assert open_run(run.path, "best").checkpoint.name == "best.ckpt"
    asked = RunFolder(train_small(tmp_path / "asked", *words, "objective.beta=4", "evaluation.checkpoint=best"))
    assert open_run(asked.path).checkpoint.name == "best.ckpt"
    (asked.path / "results.json").unlink()
    assert open_run(asked.path).checkpoint.name == "last.ckpt"


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
