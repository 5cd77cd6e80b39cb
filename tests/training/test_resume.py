"""A run that was killed or told to stop, at whatever step, goes on and ends where the run that was not ends, bit for bit."""

import csv
import json
import os
import re
import resource
import signal
import sys
from pathlib import Path
from subprocess import PIPE, Popen

import forked_runs
import pytest
import torch
from forked_scripts import ROOT, command
from omegaconf import OmegaConf
from small_runs import SMALL, composed, train_small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vaelab.runs.files import DamagedFile
from vaelab.runs.folder import RunFolder
from vaelab.training.checkpoints import AtomicCheckpointIO
from vaelab.training.metrics_csv import MetricsCSV

QUIET = ["evaluation.enabled=false", "evaluation.figures=false", "evaluation.report=false"]
# six steps an epoch; noise in the data, in z and in the order, a learning rate that changes, and pictures after each epoch
OPTIONS = [*SMALL, *QUIET, "scheduler=cosine", "trainer.max_epochs=4", "callbacks.pictures.every_n_epochs=1"]
OPTIONS += ["+data.transform._target_=vaelab.data.Binarize"]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "support"), str(ROOT / "src")])}
GO_ON = "existing=resume"


def stop(step: int, signum: int = signal.SIGTERM, validation: bool = False, rank: int = 0) -> str:
    """The run sends itself a signal; see tests/support/signal_callback.py."""
    options = f"step: {step}, signum: {int(signum)}, validation: {str(validation).lower()}, rank: {rank}"
    return f"+callbacks.stop={{_target_: signal_callback.SignalAt, {options}}}"


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def last(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def logged(run: Path) -> tuple[list[dict[str, str]], dict[str, list]]:
    """The lines of metrics.csv, and what TensorBoard shows, without what depends on the clock."""
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    for row in rows:
        row.pop("train/images_per_second")
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0}).Reload()
    shown: dict[str, list] = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    shown["train/images_per_second"] = [step for step, _ in shown["train/images_per_second"]]
    return rows, shown | {
        tag: [(image.step, image.encoded_image_string) for image in events.Images(tag)] for tag in events.Tags()["images"]
    }


def assert_same(run: Path, straight: Path) -> None:
    resumed, uninterrupted = last(run), last(straight)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "generators", "epoch", "global_step", "place"):
        assert equal(resumed[part], uninterrupted[part]), part
    assert resumed["callbacks"]["PosteriorCollapse"] == uninterrupted["callbacks"]["PosteriorCollapse"]
    (rows, shown), (wanted_rows, wanted) = logged(run), logged(straight)
    assert rows == wanted_rows  # nothing lost, nothing twice
    assert shown == wanted
    a, b = (json.loads((folder / "results.json").read_text()) for folder in (run, straight))
    assert all(a[key] == b[key] for key in ("val", "steps", "epochs", "checkpoint"))


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that was not interrupted."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    assert forked_runs.run(folder, *OPTIONS)[0] == 0
    return folder


KILLED = {
    "in an epoch, after a checkpoint of its second step": (stop(9, signal.SIGKILL), ["callbacks.last.every_n_steps=4"], (1, 2)),
    "in an epoch, without one": (stop(9, signal.SIGKILL), [], (1, 0)),
    "in the validation, of which nothing is kept": (
        stop(12, signal.SIGKILL, validation=True),
        ["callbacks.last.every_n_minutes=1e-9"],
        (1, 5),
    ),
    "with loading processes": (stop(9, signal.SIGKILL), ["callbacks.last.every_n_steps=4", "data.num_workers=2"], (1, 2)),
    "at the end of an epoch, with loading processes": (stop(7, signal.SIGKILL), ["data.num_workers=2"], (1, 0)),
}


@pytest.mark.parametrize("case", KILLED)
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(case: str, straight: Path, tmp_path: Path) -> None:
    killer, options, place = KILLED[case]
    run = tmp_path / "run"
    assert forked_runs.run(run, *OPTIONS, *options, killer)[0] == -signal.SIGKILL
    assert (last(run)["place"]["epoch"], last(run)["place"]["batch"]) == place
    code, printed = forked_runs.run(run, *OPTIONS, *options, GO_ON)
    assert code == 0, printed
    assert_same(run, straight)


TOLD = {
    "SIGTERM in an epoch": (stop(9), 143, (1, 3)),
    "SIGUSR1 after its last step": (stop(12, signal.SIGUSR1), 138, (1, 6)),
    "SIGTERM in the validation": (stop(12, validation=True), 143, (1, 6)),
    "Ctrl-C after the last step of all": (stop(24, signal.SIGINT), 130, (3, 6)),
}


@pytest.mark.parametrize("case", TOLD)
def test_told_to_stop_nothing_is_lost(case: str, straight: Path, tmp_path: Path) -> None:
    signalled, wanted, place = TOLD[case]
    run = tmp_path / "run"
    code, printed = forked_runs.run(run, *OPTIONS, signalled)
    assert code == wanted, printed
    assert f"in epoch {place[0]}, after step {last(run)['global_step']}: go on with resume={run}" in printed
    assert (last(run)["place"]["epoch"], last(run)["place"]["batch"]) == place
    code, printed = forked_runs.run(run, *OPTIONS, GO_ON)
    assert code == 0, printed
    assert_same(run, straight)


def test_a_disk_that_fills_loses_nothing_that_was_written(straight: Path, tmp_path: Path) -> None:
    run, options = tmp_path / "run", [*OPTIONS, "logger=csv", "callbacks.last.every_n_steps=4"]
    code, printed = forked_runs.run(run, *options, "+callbacks.full={_target_: signal_callback.FullDiskAt, step: 9}")
    assert code == 1
    assert f"cannot write to {run}: File too large. What was written is kept; make room" in printed
    assert last(run)["global_step"] == 8
    code, printed = forked_runs.run(run, *options, GO_ON)
    assert code == 0, printed
    for part in ("state_dict", "optimizer_states", "generators", "global_step"):
        assert equal(last(run)[part], last(straight)[part]), part
    assert not list(run.rglob("*.part"))


def test_a_clock_that_is_set_back_changes_no_order(straight: Path, tmp_path: Path) -> None:
    """The files of the first session are of the year 2033."""
    run, options = tmp_path / "run", [*OPTIONS, "callbacks.last.every_n_steps=4"]
    assert forked_runs.run(run, *options, stop(9, signal.SIGKILL))[0] == -signal.SIGKILL
    for path in run.glob("events.out.*"):
        path.rename(run / re.sub(r"\d{10}", "1999999999", path.name))
    for path in run.rglob("*"):
        os.utime(path, (1_999_999_999, 1_999_999_999))
    code, printed = forked_runs.run(run, *options, GO_ON)
    assert code == 0, printed
    assert_same(run, straight)


def test_of_a_damaged_table_of_metrics_a_cut_line_is_dropped_and_others_are_said(tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"
    table.write_text("step,val/elbo,train/elbo\n3,,-100.5\n5,-90.25,\n6,-9")
    MetricsCSV(str(tmp_path)).rewind(7)
    assert table.read_text().splitlines() == ["step,val/elbo,train/elbo", "3,,-100.5", "5,-90.25,"]
    for text in ("hello, world\n1,2\n", "step,val/elbo\nthree,-90\n"):
        table.write_text(text)
        with pytest.raises(DamagedFile, match=r"metrics\.csv cannot be read \(.*\): move it away"):
            MetricsCSV(str(tmp_path)).rewind(7)
        assert table.read_text() == text


def test_stopped_by_max_steps_in_an_epoch_it_can_go_on(straight: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = [*OPTIONS, "scheduler.num_steps=24"]  # else the learning rate is planned for 9
    assert forked_runs.run(run, *options, "trainer.max_steps=9")[0] == 0
    assert json.loads((run / "results.json").read_text())["steps"] == 9
    torch.save(last(run) | {"train_time": 1e6}, run / "checkpoints" / "last.ckpt")
    code, printed = forked_runs.run(run, *options, GO_ON)
    assert code == 0, printed
    assert_same(run, straight)
    results = json.loads((run / "results.json").read_text())
    assert 1e6 < results["train_time_s"] < 1e6 + results["wall_time_s"]  # that of both parts


def test_with_accumulated_gradients_validations_within_epochs_and_a_number_of_steps(tmp_path: Path) -> None:
    """Three steps an epoch, and a validation after three of its six batches: in the middle of the second step."""
    ways = ["trainer.accumulate_grad_batches=2", "+trainer.val_check_interval=0.5", "trainer.max_epochs=-1", "trainer.max_steps=11"]
    options = [*OPTIONS, "scheduler=none", "callbacks.pictures.every_n_epochs=5", *ways]
    assert forked_runs.run(tmp_path / "straight", *options)[0] == 0
    assert forked_runs.run(tmp_path / "run", *options, stop(5))[0] == 143
    assert (last(tmp_path / "run")["place"]["epoch"], last(tmp_path / "run")["place"]["batch"]) == (1, 4)
    code, printed = forked_runs.run(tmp_path / "run", *options, GO_ON)
    assert code == 0, printed
    assert_same(tmp_path / "run", tmp_path / "straight")


def test_weights_that_are_not_finite_are_not_written_over_good_ones(tmp_path: Path) -> None:
    run = tmp_path / "run"
    poison = "+callbacks.poison={_target_: nan_callback.PoisonAt, step: 8}"
    assert forked_runs.run(run, *OPTIONS, poison, "callbacks.last.every_n_steps=1")[0] == 1
    assert last(run)["global_step"] == 7
    assert all(bool(value.isfinite().all()) for value in last(run)["state_dict"].values())


@pytest.mark.parametrize("rank", [0, 1])
def test_of_several_processes_all_stop_at_the_same_step(rank: int, straight_of_two: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    codes, printed = forked_runs.run_ranks(run, 2, *OPTIONS, "trainer=ddp_cpu", stop(4, rank=rank))
    assert codes == [143, 0], printed
    assert (last(run)["place"]["epoch"], last(run)["place"]["batch"]) == (1, 1)
    with pytest.raises(ValueError, match="whose examples 2 processes share; go on with as many of them to its end, instead of 1"):
        train_small(run, *OPTIONS, GO_ON)
    codes, printed = forked_runs.run_ranks(run, 2, *OPTIONS, "trainer=ddp_cpu", GO_ON)
    assert codes == [0, 0], printed
    assert_same(run, straight_of_two)


@pytest.fixture(scope="module")
def straight_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "run"
    codes, printed = forked_runs.run_ranks(folder, 2, *OPTIONS, "trainer=ddp_cpu")
    assert codes == [0, 0], printed
    return folder


def test_a_start_that_left_nothing_to_go_on_from_is_forgotten(straight: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert forked_runs.run(run, *OPTIONS, "trainer.log_every_n_steps=1", stop(5, signal.SIGKILL))[0] == -signal.SIGKILL
    assert (run / "metrics.csv").exists()
    code, printed = forked_runs.run(run, *OPTIONS, GO_ON)
    assert code == 0, printed
    assert_same(run, straight)


def test_of_a_finished_run_nothing_is_left_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vaelab.commands.train import train

    config = composed([*OPTIONS, GO_ON], tmp_path / "run")
    elbo = train(config.copy())
    written = (tmp_path / "run" / "results.json").read_bytes()
    capsys.readouterr()
    assert train(config.copy()) == elbo
    assert "nothing is left to do" in capsys.readouterr().out
    assert (tmp_path / "run" / "results.json").read_bytes() == written
    (tmp_path / "run" / "checkpoints" / "last.ckpt").unlink()  # as of a run without callbacks
    assert train(config.copy()) == elbo


def test_a_run_of_another_config_is_not_gone_on_with(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run", *QUIET, "trainer.max_epochs=1")
    with pytest.raises(ValueError, match=r"holds a run of another config:\n  objective.beta: 1.0, now 4\n  seed: 0, now 1\n"):
        train_small(run, *QUIET, "trainer.max_epochs=2", "objective.beta=4", "seed=1", GO_ON)
    with pytest.raises(ValueError, match="existing=maybe is unknown: choose refuse or resume"):
        train_small(run, *QUIET, "existing=maybe")


def test_a_job_that_slurm_has_started_again_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train_small(tmp_path / "run", *QUIET, "trainer.max_epochs=1")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    train_small(run, *QUIET, "trainer.max_epochs=2")
    assert last(run)["epoch"] == 1


def test_a_time_limit_that_is_announced_during_imports_is_not_missed(tmp_path: Path) -> None:
    line = [sys.executable, str(ROOT / "scripts" / "train.py"), *SMALL, *QUIET, f"hydra.run.dir={tmp_path / 'run'}"]
    with Popen(line, env=ENVIRONMENT, stdout=PIPE, text=True) as process:
        while True:  # until it holds the signal back
            (blocked,) = re.findall(r"SigBlk:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())
            if int(blocked, 16) >> (signal.SIGUSR1 - 1) & 1:
                break
        process.send_signal(signal.SIGUSR1)
        told, _ = process.communicate(timeout=120)
    assert process.returncode == 138
    assert "stopped by SIGUSR1: no checkpoint was written" in told


def test_slurm_is_asked_to_start_the_job_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a scontrol that writes down how it was called."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\nls {tmp_path}/run/checkpoints > {tmp_path}/there\necho "$@" >> {tmp_path}/called\n')
    scontrol.chmod(0o755)
    environment = {"PATH": f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    for signum, code in ((signal.SIGUSR1, 138), (signal.SIGTERM, 143)):
        assert (
            forked_runs.run(tmp_path / "run", *OPTIONS, GO_ON, stop(9 + signum, signum), environment=environment | {"SLURM_JOB_ID": "9"})[0]
            == code
        )
    assert (tmp_path / "called").read_text() == "requeue 7_2\n"  # scancel sends SIGTERM
    assert "last.ckpt" in (tmp_path / "there").read_text()


def die_while_writing(path: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    AtomicCheckpointIO(path.parent).save_checkpoint({"step": 2, "weights": torch.zeros(100_000)}, path)


def test_a_process_killed_while_it_writes_leaves_the_former_checkpoint(tmp_path: Path) -> None:
    """By the kernel, when the file has a quarter of its size."""
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO(path.parent).save_checkpoint({"step": 1}, path)
    assert forked_runs.end(forked_runs.start(die_while_writing, path), path)[0] == -signal.SIGXFSZ
    assert (tmp_path / "last.ckpt.part").stat().st_size == 100_000
    assert torch.load(path, weights_only=True) == {"step": 1}


def fail_while_writing(path: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    with pytest.raises(OSError, match="File too large"):
        AtomicCheckpointIO(path.parent).save_checkpoint({"step": 2, "weights": torch.zeros(100_000)}, path)


def test_a_checkpoint_that_has_no_room_leaves_the_former_one_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO(path.parent).save_checkpoint({"step": 1}, path)
    assert forked_runs.end(forked_runs.start(fail_while_writing, path), path)[0] == 0
    assert not (tmp_path / "last.ckpt.part").exists()
    assert torch.load(path, weights_only=True) == {"step": 1}


def test_a_start_that_failed_says_why_and_forbids_no_other_config(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ValueError, match="lr=-1 must be at least 0"):
        train_small(run.path, *QUIET, "optimizer.lr=-1")
    assert (run.state, run.reason, run.left_nothing) == ("failed", "ValueError: optimizer.lr=-1 must be at least 0", True)
    train_small(run.path, *QUIET, "trainer.max_epochs=1", "latent_dim=3", GO_ON)
    assert (run.state, run.reason, run.left_nothing) == ("finished", "", False)
    assert not (run.path / "failed.txt").exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"val": 3}'])
def test_results_that_are_damaged_are_named_when_a_run_goes_on(text: str, tmp_path: Path) -> None:
    from vaelab.training.resume import finished_bound

    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"results\.json cannot be read \(.*\): remove it, and evaluate again"):
        finished_bound(RunFolder(tmp_path), None, {})


def test_a_learning_rate_that_was_planned_for_so_many_epochs_is_not_stretched(tmp_path: Path) -> None:
    """It would start to rise again."""
    from vaelab.commands.train import changed, changes_of

    config = composed([*SMALL, "scheduler=cosine", "trainer.max_epochs=1"], tmp_path)
    with pytest.raises(ValueError, match=r"planned for trainer.max_epochs=1, and not for 3: .* with pretrained=<this run>"):
        changed(config, changes_of(["trainer.max_epochs=3"]))


@pytest.mark.parametrize("override", ["objective.beta=4", "latent_dim=3", "seed=1", "data.batch_size=8", "speed=fast", "trainer=debug"])
def test_what_is_learned_cannot_change_on_the_way(override: str, tmp_path: Path) -> None:
    from vaelab.commands.train import changed, changes_of

    with pytest.raises(ValueError, match="cannot be changed when a run is continued"):
        changed(composed(SMALL, tmp_path), changes_of(["resume=somewhere", override]))


def test_what_changes_no_number_can_change_on_the_way(tmp_path: Path) -> None:
    from vaelab.commands.train import changed, changes_of, plain

    words = [
        "download=true",
        "trainer.accelerator=gpu",
        "~callbacks.pictures",
        "+callbacks.mine={_target_: my.Callback}",
        "evaluation.report=false",
    ]
    config = changed(OmegaConf.create(plain(composed(SMALL, tmp_path))), changes_of(["existing=resume", *words]))
    assert (config.download, config.trainer.accelerator, config.callbacks.pictures, config.evaluation.report) == (True, "gpu", None, False)
    assert config.callbacks.mine == {"_target_": "my.Callback"}
    assert config.existing == "refuse"


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run", "trainer.max_epochs=1", *QUIET)
    with pytest.raises(ValueError, match="already holds a run: go on with resume="):
        train_small(run)


def test_of_two_runs_that_start_at_once_in_one_folder_one_is_refused(tmp_path: Path) -> None:
    at_work = "another process is at work in"
    for name, options, refused in (("fresh", [], f"already holds a run|{at_work}"), ("existing", [GO_ON], at_work)):
        folder = tmp_path / name
        both = [forked_runs.start(forked_runs.train, [*OPTIONS, *options], folder, {}) for _ in range(2)]
        codes = [forked_runs.end(process, folder)[0] for process in both]
        assert sorted(codes) == [0, 1], forked_runs.output(folder)
        assert re.search(refused, forked_runs.output(folder))


def test_a_finished_run_that_is_resumed_keeps_its_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_small(tmp_path / "run", *OPTIONS)
    before = json.loads((run / "results.json").read_text())
    train_small(tmp_path / "other", f"resume={run}")
    after = json.loads((run / "results.json").read_text())
    assert "nothing was left to train after 24 steps" in capsys.readouterr().out
    for key in ("val", "test", "steps", "epochs", "checkpoint"):
        assert after[key] == before[key]


@pytest.mark.parametrize("objective", sorted(path.stem for path in (ROOT / "conf" / "objective").glob("*.yaml")))
def test_what_is_stored_is_what_was_written(objective: str, tmp_path: Path) -> None:
    """Interpolations and all, whatever an objective refers to: else the same line, typed again, would be another config."""
    from vaelab.build import build

    config = composed([*SMALL, f"objective={objective}", *(["objective.target=5"] if objective == "geco" else [])], tmp_path)
    written = OmegaConf.to_container(config, resolve=False)
    assert build(config).config == written
    assert OmegaConf.to_container(config, resolve=False) == written


def test_what_a_user_types(tmp_path: Path) -> None:
    """Ctrl-C in the second epoch, and on, in another place, for longer; Hydra's record of the start stays."""
    words = [*SMALL, *QUIET, stop(9, signal.SIGINT), f"hydra.run.dir={tmp_path / 'run'}"]
    done = command("train.py", *words, check=False, env=ENVIRONMENT)
    assert done.returncode == 130
    assert f"stopped by SIGINT in epoch 1, after step 9: go on with resume={tmp_path / 'run'}" in done.stdout
    assert "Traceback" not in done.stderr
    run = (tmp_path / "run").rename(tmp_path / "moved")
    command("train.py", f"resume={run}", "trainer.max_epochs=3", "trust=true", env=ENVIRONMENT)
    assert json.loads((run / "results.json").read_text())["epochs"] == 3
    assert not (tmp_path / "run").exists()
    assert "resume" not in (run / ".hydra" / "overrides.yaml").read_text()
    assert len(list((run / "resumed").glob("*/.hydra/overrides.yaml"))) == 1
