"""Housekeeping over run folders."""

import json
import multiprocessing
import shutil
from pathlib import Path

import pytest
from forked_scripts import command
from small_runs import SMALL

from vaelab.runs.folder import RunFolder
from vaelab.runs.housekeeping import compare_runs, delete_runs, list_runs, rerun, show_run

QUICK = ["trainer.max_epochs=1", "evaluation.figures=false", "evaluation.report=false"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs as a user makes them, and one that never finished."""
    folder = tmp_path_factory.mktemp("runs") / "outputs"
    for beta in (1, 4):
        command("train.py", *SMALL, *QUICK, f"objective.beta={beta}", f"hydra.run.dir={folder / f'beta{beta}'}")
    shutil.copytree(folder / "beta1", folder / "stopped")
    (folder / "stopped" / "results.json").unlink()
    return folder


def listed(text: str) -> list[str]:
    return [line.split()[-1].rpartition("/")[2] for line in text.splitlines()[1:-1]]


def test_runs_are_listed_by_config_metric_and_state(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def names(*where: str) -> set[str]:
        list_runs([str(trained)], where)
        return set(listed(capsys.readouterr().out))

    elbo = {name: json.loads((trained / name / "results.json").read_text())["test"]["elbo"] for name in ("beta1", "beta4")}
    between = sum(elbo.values()) / 2
    assert names() == {"beta1", "beta4", "stopped"}
    assert names("objective.beta=4") == {"beta4"}
    assert names("objective.beta!=4") == {"beta1", "stopped"}
    assert names("state=interrupted") == {"stopped"}
    assert names(f"elbo>{between}") == {max(elbo, key=elbo.__getitem__)}
    assert names(f"val/elbo>{between}", "state=finished") <= {"beta1", "beta4"}


@pytest.mark.parametrize(("where", "message"), [("beta", "a condition is key=value"), ("objective.betta=4", "no run has objective.betta")])
def test_a_condition_that_says_nothing_is_refused(where: str, message: str, trained: Path) -> None:
    with pytest.raises(ValueError, match=message):
        list_runs([str(trained)], [where])


def test_two_runs_are_compared(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare_runs(str(trained / "beta1"), str(trained / "beta4"))
    told = capsys.readouterr().out
    assert [line.split()[-2:] for line in told.splitlines() if line.startswith("objective.beta")] == [["1", "4"]]
    assert "latent_dim" not in told
    compare_runs(str(trained / "beta1"), str(trained / "stopped"))
    assert "the configs are the same" in capsys.readouterr().out


def test_numbers_that_only_one_of_two_runs_has_are_left_out(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "outputs"))
    path = folder / "beta1" / "results.json"
    results = json.loads(path.read_text())
    results["test"]["bits_per_dim"] = None
    path.write_text(json.dumps(results))
    for pair in (("beta1", "beta4"), ("beta4", "beta1")):
        compare_runs(*(str(folder / name) for name in pair))
        assert "bits_per_dim" not in capsys.readouterr().out


def test_a_run_is_shown_as_it_was_typed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_run(str(trained / "beta4"))
    told = capsys.readouterr().out
    assert "objective.beta=4" in told.splitlines()[0]
    assert "checkpoints/best.ckpt" in told


def test_the_same_again_is_the_same(trained: Path, tmp_path: Path) -> None:
    command("runs.py", "rerun", str(trained / "beta4"), "--into", str(tmp_path / "again"))
    first, again = (json.loads((folder / "results.json").read_text())["test"] for folder in (trained / "beta4", tmp_path / "again"))
    assert again == first


def test_deletion_asks(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "outputs"))
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert delete_runs([str(folder)], ["state=interrupted"]) == 1
    assert (folder / "stopped").exists()
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert delete_runs([str(folder)], ["state=interrupted"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["beta1", "beta4"]


def test_a_run_that_goes_on_is_not_deleted(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "outputs"))
    deletion = multiprocessing.get_context("fork").Process(target=delete_runs, args=([str(folder / "stopped")], [], True))
    with RunFolder(folder / "stopped").claim():
        deletion.start()
        deletion.join()
    assert "another process is at work in" in capfd.readouterr().err
    assert (folder / "stopped" / "checkpoints").is_dir()


def test_a_folder_without_runs_is_said(tmp_path: Path) -> None:
    done = command("runs.py", "list", str(tmp_path), check=False)
    assert done.returncode == 2
    assert "there is no run folder" in done.stderr


def test_a_run_that_its_search_gave_up_is_called_pruned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text("seed: 0")
    (tmp_path / "run" / "pruned.txt").write_text("pruned at step 8 with val/elbo=-184.5\n")
    list_runs([str(tmp_path)], ["state=pruned"])
    assert "1 runs" in capsys.readouterr().out


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A good run, one that failed, and two that are damaged."""
    for name in ("good", "failed", "config", "results"):
        (tmp_path / name / ".hydra").mkdir(parents=True)
        (tmp_path / name / ".hydra" / "config.yaml").write_text("{seed: 0, missing: true, encoder: {hidden: [32, 16]}}")
        (tmp_path / name / "results.json").write_text('{"test": {"elbo": -90.0}, "val": {}}')
    (tmp_path / "failed" / "results.json").unlink()
    RunFolder(tmp_path / "failed").end("failed", "objective.beta=-1 must not be negative")
    (tmp_path / "config" / ".hydra" / "config.yaml").write_text("seed: 'ab")
    (tmp_path / "results" / "results.json").write_text('{"test": {"elb')
    return tmp_path


def test_damaged_runs_are_listed_with_the_others_and_said(several: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list_runs([str(several)])
    told = capsys.readouterr()
    states = {line.split()[-1].rpartition("/")[2]: line.split()[2] for line in told.out.splitlines()[1:-1]}
    assert states == {"good": "finished", "failed": "failed", "config": "damaged", "results": "damaged"}
    assert len(told.err.splitlines()) == 2
    for name in ("config/.hydra/config.yaml", "results/results.json"):
        assert f"damaged: {several}/{name} cannot be read (" in told.err
    list_runs([str(several)], ["state=damaged"])
    assert sorted(listed(capsys.readouterr().out)) == ["config", "results"]
    list_runs([str(several)], ["elbo>-100"])
    assert listed(capsys.readouterr().out) == ["good"]


@pytest.mark.parametrize("name", ["config", "results"])
def test_a_damaged_run_that_is_asked_for_alone_is_one_sentence(name: str, several: Path) -> None:
    for ask in (show_run, lambda folder: compare_runs(str(several / "good"), folder), rerun):
        with pytest.raises(ValueError, match=f"{several}/{name}/.* cannot be read") as raised:
            ask(str(several / name))
        assert "\n" not in str(raised.value)


def test_damaged_runs_can_be_removed(several: Path) -> None:
    assert delete_runs([str(several)], ["state=damaged"], yes=True) == 0
    assert sorted(path.name for path in several.iterdir()) == ["failed", "good"]


def test_a_run_that_failed_says_why(several: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_run(str(several / "failed"))
    assert "failed (objective.beta=-1 must not be negative), seed 0" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["missing=true", "missing=True", "encoder.hidden=[32,16]", "state!=damaged", "seed=0.0", "test/elbo=-90"])
def test_conditions_are_written_as_on_a_command_line(where: str, several: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list_runs([str(several)], [where])
    assert "good" in listed(capsys.readouterr().out)


def test_a_run_at_work_is_called_running(several: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder(several / "failed").claim():
        list_runs([str(several)], ["state=running"])
    assert listed(capsys.readouterr().out) == ["failed"]
