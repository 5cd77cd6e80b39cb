"""What a run folder says of itself: damaged files in one sentence, its state, and what several processes do to it at once."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vaelab.runs.files import DamagedFile, read_checkpoint
from vaelab.runs.find import lineage, setting
from vaelab.runs.folder import RunFolder
from vaelab.runs.housekeeping import list_runs, show_run
from vaelab.runs.report import write_report
from vaelab.runs.summary import summarize
from vaelab.runs.summary.formats import print_summary

FORK = multiprocessing.get_context("fork")
CONFIG = "seed: 0\nname: circles\ndata: {_target_: vaelab.data.DataModule}\ncallbacks: {pictures: {_target_: vaelab.callbacks.Pictures}}\n"
HYDRA = "hydra:\n  overrides: {task: [objective.beta=4, 'name=a b']}\n  runtime: {cwd: /somewhere}\n"
CURVES = "step,val/elbo,train/elbo\n3,,-100.5\n6,-90.25,-95\n"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A finished run, but for its checkpoints."""
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text(CONFIG)
    (tmp_path / "run" / ".hydra" / "hydra.yaml").write_text(HYDRA)
    (tmp_path / "run" / "metrics.csv").write_text(CURVES)
    (tmp_path / "run" / "results.json").write_text(json.dumps({"test": {"elbo": -90.0}, "val": {}, "checkpoint": "checkpoints/best.ckpt"}))
    return RunFolder(tmp_path / "run")


def write_checkpoint(path: Path, checkpoint: Any) -> None:
    import torch

    path.parent.mkdir(exist_ok=True)
    torch.save(checkpoint, path)


def state_of(path: Path) -> str:
    return RunFolder(path).state


def test_what_was_asked_for_and_logged(run: RunFolder) -> None:
    assert run.config["callbacks"]["pictures"]["_target_"] == "vaelab.training.callbacks.Pictures"  # where it lives today
    assert run.overrides == ["objective.beta=4", "name=a b"]
    assert run.command_line == "vaelab train objective.beta=4 'name=a b'"
    with_yamls = RunFolder(run.path)
    with_yamls.hydra = run.hydra | {"runtime": {"config_sources": [{"path": "/my conf", "provider": "command-line"}]}}
    assert with_yamls.command_line == "vaelab train --config-dir '/my conf' objective.beta=4 'name=a b'"
    assert run.curves() == {"train/elbo": [(3, -100.5), (6, -95.0)], "val/elbo": [(6, -90.25)]}
    assert run.results()["test"] == {"elbo": -90.0}


def test_what_was_never_written_is_empty_and_no_error(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert (run.hydra, run.overrides, run.curves(), run.results(), run.tensorboard) == ({}, [], {}, {}, None)
    assert not run.is_run()
    with pytest.raises(ValueError, match=r"holds neither \.hydra/config\.yaml nor a checkpoint"):
        _ = run.config


def test_a_resumed_run_has_the_config_of_its_last_session(run: RunFolder) -> None:
    write_checkpoint(run.checkpoints / "best.ckpt", {"config": {"seed": 1}, "state_dict": {}})
    write_checkpoint(run.checkpoints / "last.ckpt", {"config": {"seed": 2}, "state_dict": {}})
    assert run.config["seed"] == 0
    (run.path / "resumed").mkdir()
    assert RunFolder(run.path).config["seed"] == 2


def test_the_run_that_another_started_from_is_part_of_its_setting(run: RunFolder, tmp_path: Path) -> None:
    """Whether a folder was named, from where the command was typed, or a checkpoint file."""
    write_checkpoint(run.checkpoints / "best.ckpt", {"config": {"seed": 1}, "state_dict": {}})
    for named in ("run", "run/checkpoints/best.ckpt", str(run.path), "gone"):
        other = tmp_path / f"of {named.replace('/', ' ')}"
        (other / ".hydra").mkdir(parents=True)
        (other / ".hydra" / "config.yaml").write_text(json.dumps({"seed": 3, "pretrained": named}))
        (other / ".hydra" / "hydra.yaml").write_text(json.dumps({"hydra": {"runtime": {"cwd": str(tmp_path)}}}))
        expected = "gone" if named == "gone" else run.config
        assert setting(lineage(RunFolder(other))) == {"seed": 3, "pretrained": expected}


def test_a_run_that_is_said_to_have_started_from_itself_has_no_end_of_ancestors(tmp_path: Path) -> None:
    for name, origin in (("a", "b"), ("b", "a")):
        (tmp_path / name / ".hydra").mkdir(parents=True)
        (tmp_path / name / ".hydra" / "config.yaml").write_text(json.dumps({"pretrained": str(tmp_path / origin)}))
    assert [run.path.name for run in lineage(RunFolder(tmp_path / "a"))] == ["a", "b"]


# Damaged files.

READERS: dict[str, Callable[[RunFolder], Any]] = {
    ".hydra/config.yaml": lambda run: run.config,
    ".hydra/hydra.yaml": lambda run: run.overrides,
    "results.json": lambda run: run.results(),
    "metrics.csv": lambda run: run.curves(),
}
GARBLED = b"\x89\xff\xfe\x00\x81"
DAMAGES = {
    ".hydra/config.yaml": [
        b"",
        b"seed: 0\nname: 'circ",
        b"seed: 0\ndata: {_target_: vaelab.da",
        b"- 1\n",
        b"3\n",
        b"a: !!python/object:os.x {}",
    ],
    ".hydra/hydra.yaml": [b"", b"hydra:\n  overrides: {task: [obj", b"- 1\n", b"hydra: [1]\n", b"hydra: 3\n"],
    "results.json": [
        *(b"", b'{"test": {"elbo": -9', b"[1, 2]", b"3", b"[" * 100_000),
        *(b'{"test": 3}', b'{"val": "elbo"}', b'{"evaluations": [1]}'),
        *(b'{"evaluations": {"mig": 3}}', b'{"evaluations": {"mig": {"keys": 3}}}', b'{"evaluations": {"mig": {"options": [1]}}}'),
    ],
    "metrics.csv": [
        *(b"", b"st", b"step,val/elbo,train/elbo\n3,,-100.5\n6,-9", b"step,val/elbo\n3,-90,1,2\n", b"val/elbo\n-90\n", b'{"step": 3}'),
        *(b"step,val/elbo\nthree,-90\n", b"step,val/elbo\n3,high\n", b"\n"),
    ],
}


@pytest.mark.parametrize(("file", "content"), [(file, content) for file, contents in DAMAGES.items() for content in [*contents, GARBLED]])
def test_a_damaged_file_is_one_sentence_that_names_it(file: str, content: bytes, run: RunFolder) -> None:
    (run.path / file).write_bytes(content)
    with pytest.raises(DamagedFile) as raised:
        READERS[file](run)
    told = str(raised.value)
    assert told.startswith(f"{run.path / file} cannot be read (")
    assert "\n" not in told
    assert "remove" in told  # what to do


@pytest.mark.parametrize("how", ["empty", "cut", "garbled", "a list", "a config that is a list", "without weights"])
def test_a_damaged_checkpoint_is_one_sentence_that_names_it(how: str, run: RunFolder) -> None:
    path = run.checkpoints / "last.ckpt"
    other = {"a list": [1], "a config that is a list": {"config": [1], "state_dict": {}}, "without weights": {"config": {}}}
    write_checkpoint(path, other.get(how, {"config": {"seed": 0}, "state_dict": {}}))
    good = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": good[: len(good) // 2], "garbled": GARBLED * 200}.get(how, good))
    (run.path / ".hydra" / "config.yaml").unlink()
    for read in (lambda: read_checkpoint(path), lambda: run.config):
        with pytest.raises(ValueError, match="written by vaelab") as raised:
            read()
        assert str(raised.value).startswith(str(path))
        assert "\n" not in str(raised.value)


def test_any_byte_of_a_checkpoint_may_be_wrong(run: RunFolder) -> None:
    """Whatever torch, pickle and zipfile raise, it is a ValueError that names the file; a wrong number, nobody can tell."""
    path = run.checkpoints / "last.ckpt"
    write_checkpoint(path, {"config": {"seed": 0}, "state_dict": {}})
    good, told = path.read_bytes(), list[str]()
    for i in range(0, len(good), 7):
        path.write_bytes(good[:i] + bytes([good[i] ^ 0xFF]) + good[i + 1 :])
        try:
            read_checkpoint(path)
        except ValueError as error:
            told.append(str(error))
    assert len(told) > 10
    assert all(str(path) in sentence for sentence in told)


# States.


def test_the_states_of_a_run(run: RunFolder) -> None:
    assert (run.state, run.reason) == ("finished", "")
    (run.path / "results.json").unlink()
    assert (run.state, run.reason) == ("interrupted", "")
    for state in ("failed", "pruned"):
        run.end(state, f"because it was {state}\nin the end")
        assert (run.state, run.reason) == (state, f"because it was {state}\nin the end")
    with run.claim():
        assert (run.state, run.reason) == ("running", "")


def test_metrics_of_a_checkpoint_do_not_finish_a_run(run: RunFolder) -> None:
    """A sweep would leave a job out that was interrupted, and whose checkpoint was then evaluated."""
    (run.path / "results.json").unlink()
    run.add_results(run.checkpoints / "best.ckpt", "mig", {"mig": 0.5}, {"keys": ["mig"], "seed": 0})
    assert run.results()["test"] == {"mig": 0.5}
    assert (run.state, run.is_finished) == ("interrupted", False)


def test_metrics_of_validation_data_are_among_theirs(run: RunFolder) -> None:
    """In place of what they were; a run that has not finished has none, and is not finished by them."""
    found = {"val/mig": 0.5, "other": 1.0}
    run.add_results(run.checkpoints / "best.ckpt", "mig", {"val/mig": 0.25}, {"keys": ["val/mig"]})
    run.add_results(run.checkpoints / "best.ckpt", "mig", found, {"keys": sorted(found)})
    assert run.results()["val"] == {"mig": 0.5}
    assert run.results()["test"] == {"elbo": -90.0, "other": 1.0}
    (run.path / "results.json").unlink()
    run.add_results(run.checkpoints / "best.ckpt", "mig", found, {"keys": sorted(found)})
    assert run.results()["test"] == {"other": 1.0}
    assert not run.is_finished


def test_whether_a_run_is_running_can_be_asked_from_anywhere(run: RunFolder) -> None:
    """Also by the process that runs it, which POSIX would let lose its claim by that."""
    with FORK.Pool(1) as elsewhere:
        with run.claim():
            assert run.state == "running"
            assert elsewhere.apply(state_of, [run.path]) == "running"
            with pytest.raises(ValueError, match=r"another process is at work in .*run: wait for it"):
                elsewhere.apply(claim_and_leave, [run.path])
        assert run.state == elsewhere.apply(state_of, [run.path]) == "finished"


def claim_and_leave(path: Path) -> None:
    with RunFolder(path).claim():
        pass


def hold(path: Path, told: Any) -> None:
    with RunFolder(path).claim():
        told.send("claimed")
        signal.pause()


def test_the_claim_of_a_process_that_is_killed_ends_with_it(run: RunFolder) -> None:
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=hold, args=(run.path, theirs))
    process.start()
    ours.recv()
    assert run.state == "running"
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert run.state == "finished"
    claim_and_leave(run.path)


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "new" / "run")
    with run.start(fresh=True):
        assert run.checkpoints.is_dir()
    with run.start(fresh=True):  # the first has left nothing
        (run.checkpoints / "last.ckpt").touch()
    with pytest.raises(ValueError, match=r"already holds a run: go on with resume=.*run or existing=resume"), run.start(fresh=True):
        pass
    with run.start(fresh=False):
        pass


def test_a_start_that_left_no_checkpoint_is_forgotten(run: RunFolder) -> None:
    """With its command line and its config, whose place is taken by those of the new start."""
    run.end("failed", "no room")
    for name in ("figures", "tensorboard", "projector", "resumed/2026-11-21_12-00-00/.hydra"):
        (run.path / name).mkdir(parents=True)
    (run.path / "resumed/2026-11-21_12-00-00/.hydra/config.yaml").write_text("seed: 7")
    for name in ("mine.txt", "events.out.tfevents.1", "projector_config.pbtxt"):
        (run.path / name).touch()
    assert run.tensorboard == run.path
    run.clear()
    assert sorted(path.name for path in run.path.iterdir()) == [".hydra", "figures", "mine.txt"]  # figures may be somebody's own
    assert RunFolder(run.path).config == {"seed": 7}


# Results.


def add(path: Path, number: int, all_there: Any) -> None:
    all_there.wait()
    for metric in range(20):
        RunFolder(path).add_results(path / "checkpoints" / "best.ckpt", f"{number}-{metric}", {f"{number}-{metric}": 1.0}, {"keys": []})


def test_what_several_processes_add_at_once_is_all_there(run: RunFolder) -> None:
    all_there = FORK.Barrier(4)
    processes = [FORK.Process(target=add, args=(run.path, number, all_there)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    added = {f"{number}-{metric}" for number in range(4) for metric in range(20)}
    assert run.results()["test"].keys() == {"elbo"} | added
    assert run.results()["evaluations"].keys() == added


def test_results_of_another_checkpoint_have_a_file_of_their_own(run: RunFolder) -> None:
    best, last = (run.checkpoints / f"{name}.ckpt" for name in ("best", "last"))
    assert (run.results_file(best), run.results_file(last)) == ("results.json", "results_last.json")
    run.add_results(last, "mig", {"mig": 0.5, "mig_ci": [0.4, 0.6]}, {"keys": ["mig", "mig_ci"], "seed": 0})
    run.add_results(last, "mig", {"mig": 0.25}, {"keys": ["mig"], "seed": 1})
    assert run.results() == {"test": {"elbo": -90.0}, "val": {}, "checkpoint": "checkpoints/best.ckpt"}
    assert run.results("results_last.json") == {
        "checkpoint": "checkpoints/last.ckpt",
        "test": {"mig": 0.25},  # what it found before is not there any more
        "evaluations": {"mig": {"keys": ["mig"], "seed": 1}},
    }


def test_run_folders_are_read_without_torch_lightning_or_hydra() -> None:
    """In a fresh process, every module of the room is imported."""
    script = (
        "import pkgutil, sys, importlib, vaelab.runs as room\n"
        "names = [module.name for module in pkgutil.walk_packages(room.__path__, 'vaelab.runs.')]\n"
        "[importlib.import_module(name) for name in names]\n"
        "print(len(names), *({'torch', 'lightning', 'hydra', 'omegaconf'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    number, *loaded = done.stdout.split()
    assert int(number) > 10
    assert loaded == []


def refuse(token: str) -> None:
    raise AssertionError(f"{token} is no JSON")


def test_results_are_json_whatever_was_found(run: RunFolder) -> None:
    """JSON has no NaN and no Infinity: they are null, for which every reader has an answer."""
    nan, inf = float("nan"), float("inf")
    found = {"elbo": nan, "rate": inf, "mig": 0.5, "mig_ci": [nan, 1.0], "variances": [1.0, -inf], "num_images": 3, "elbo_std_error": nan}
    run.write_results({"test": {"log_likelihood": -1.0}, "val": {"elbo": -1.0}, "checkpoint": "checkpoints/best.ckpt"})
    run.add_results(run.checkpoints / "best.ckpt", "likelihood", found, {"keys": sorted(found), "options": {"a": inf}})
    assert json.loads((run.path / "results.json").read_text(), parse_constant=refuse) == run.results()
    test = run.results()["test"]
    assert {name: test[name] for name in found} == {
        "elbo": None,
        "rate": None,
        "elbo_std_error": None,
        "mig_ci": None,
        "mig": 0.5,
        "variances": [1.0, None],
        "num_images": 3,
    }
    show_run(str(run))
    list_runs([str(run)])
    print_summary(summarize([str(run)]))
    assert "null" not in write_report(run, "a: b").read_text()
