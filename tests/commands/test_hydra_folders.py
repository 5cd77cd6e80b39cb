"""The place where Hydra notes the config of a start: .hydra/, unless that of a run which may go on is there."""

from pathlib import Path

import pytest
from forked_scripts import command
from small_runs import QUICK, SMALL

from vaelab.commands.places import hydra_dir, hydra_subdir
from vaelab.runs.folder import RunFolder


def test_a_start_that_left_nothing_gives_its_place_away(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert hydra_subdir(str(run)) == ".hydra"
    (run.path / ".hydra").mkdir(parents=True)
    assert hydra_subdir(str(run)).startswith("resumed/")  # it has just begun
    with run.start(fresh=True):
        pass
    assert hydra_subdir(str(run)) == ".hydra"
    (run.checkpoints / "last.ckpt").touch()
    assert hydra_subdir(str(run)).startswith("resumed/")


def test_paths_are_relative_to_where_a_command_was_typed(tmp_path: Path) -> None:
    done = command("train.py", *SMALL, *QUICK, "trainer.max_epochs=1", "hydra.job.chdir=true", "hydra.run.dir=a/run", cwd=tmp_path)
    assert RunFolder(tmp_path / "a" / "run").is_finished
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    said, kept = done.stdout.splitlines(), (tmp_path / "a" / "run" / "train.log").read_text().splitlines()
    assert said[0] == "run folder:   a/run"
    assert said[1].startswith("epoch 1/1  step 6  ")
    assert said == [line for line in kept if not line.startswith("warning:")]
    (warning,) = done.stderr.splitlines()
    assert warning in kept
    assert warning.startswith("warning: evaluation.metrics.likelihood: with num_samples=4 importance samples")


def test_of_runs_that_start_in_one_second_each_has_its_own_folder(tmp_path: Path) -> None:
    new = f"{tmp_path}/circles/2026-11-27_12-00-00"
    assert [hydra_dir(None, new) for _ in range(3)] == [new, f"{new}_2", f"{new}_3"]
    assert hydra_dir(None, f"{tmp_path}/named") == f"{tmp_path}/named"
    assert not (tmp_path / "named").exists()


def test_sessions_of_a_run_are_in_order_whatever_the_clock_says(tmp_path: Path) -> None:
    (tmp_path / "resumed" / "2099-01-01_00-00-00").mkdir(parents=True)  # before the clock was set back
    names = ["2099-01-01_00-00-00", *(Path(hydra_dir(str(tmp_path), "")).name for _ in range(11))]
    assert names == sorted(set(names))
    assert len(names) == 12


@pytest.mark.parametrize("typed", [["optimizer.lr=abc"], ["optimizer.lr=-1"], ["latnet_dim=3"], ["resume=nowhere"]])
def test_a_start_that_is_refused_leaves_no_folder(typed: list[str], tmp_path: Path) -> None:
    refused = command("train.py", *SMALL, *QUICK, *typed, check=False, cwd=tmp_path)
    assert refused.returncode != 0
    assert {path.name for path in tmp_path.rglob("*")} <= {"outputs", "circles"}, refused.stderr


def test_a_start_that_is_refused_leaves_a_run_as_it_was(tmp_path: Path) -> None:
    command("train.py", *SMALL, *QUICK, "trainer.max_epochs=1", "hydra.run.dir=run", cwd=tmp_path)
    before = contents(tmp_path / "run")
    for typed in (["hydra.run.dir=run"], ["resume=run", "optimizer.lr=3"], ["resume=run", "trainer.max_epochs=abc"]):
        assert command("train.py", *SMALL, *QUICK, *typed, check=False, cwd=tmp_path).returncode != 0
        assert contents(tmp_path / "run") == before


def test_a_start_that_failed_gives_its_folder_to_the_next(tmp_path: Path) -> None:
    words = [*SMALL, *QUICK, "trainer.max_epochs=1", "hydra.run.dir=run"]
    (tmp_path / "run" / "figures").mkdir(parents=True)
    mine = tmp_path / "run" / "figures" / "mine.png"
    mine.touch()
    command("train.py", *words, "optimizer.lr=-1", check=False, cwd=tmp_path)
    assert RunFolder(tmp_path / "run").state == "failed"
    command("train.py", *words, "latent_dim=3", cwd=tmp_path)
    run = RunFolder(tmp_path / "run")
    assert (run.state, run.config["latent_dim"], run.reason) == ("finished", 3, "")
    assert mine.is_file()  # which no run has written


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run folder but its log, and what it holds."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"}
