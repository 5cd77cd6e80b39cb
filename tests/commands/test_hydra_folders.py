"""The place where Hydra notes the config of a start: .hydra/, unless that of a run which may go on is there."""

from pathlib import Path

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
    command("train.py", *SMALL, *QUICK, "trainer.max_epochs=1", "hydra.job.chdir=true", "hydra.run.dir=a/run", cwd=tmp_path)
    assert RunFolder(tmp_path / "a" / "run").is_finished
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


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
