"""launcher=stacked: jobs that train as one stack leave what they leave when each trains by itself."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import forked_runs
import pytest
import torch
from forked_scripts import ROOT, prepare, start
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobStatus
from hydra.errors import CompactHydraException
from omegaconf import OmegaConf
from small_runs import QUICK, SMALL, rows_of

from vaelab.runs.folder import RunFolder
from vaelab.sweeps.local import Process
from vaelab.sweeps.stacked import StackedLauncher, equal_parts


def stacked(
    jobs: dict[str, list[str]], folder: str, stop_after: int | None = None, free: float | None = None, stops_later: bool = False
) -> None:
    """What the process of a stack does, in a fork: trains jobs, by the names of their folders; writes their exit codes.

    Args:
        jobs: their words.
        folder: of their folders.
        stop_after: how many times steps are taken before a signal comes; None: none comes.
        free: the bytes of memory that are free; None: as they are.
        stops_later: whether a signal comes a second after the first checkpoint of the first job.
    """
    printed = Path(folder, "stack.log")
    prepare(os.environ, printed, printed)
    from vaelab.commands import stacked

    script = str(ROOT / "scripts" / "train.py")
    made = []
    for name, words in jobs.items():
        Path(folder, name).mkdir(exist_ok=True)
        line = [script, *SMALL, *QUICK, *words, f"hydra.run.dir={folder}/{name}", "existing=resume"]
        made.append(stacked.Job(name, line, f"{folder}/{name}/console.log"))
    process = stacked.StackProcess(made)
    if free is not None:
        stacked.free_bytes = lambda device: free
    if stops_later:

        def stop() -> None:
            while not Path(folder, next(iter(jobs)), "checkpoints", "last.ckpt").is_file():
                time.sleep(0.05)
            time.sleep(1.0)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=stop, daemon=True).start()
    if stop_after is not None:
        advance, rounds = stacked.Together.advance, iter(range(stop_after, -100, -1))

        def counted(self: stacked.Together) -> None:
            advance(self)
            if next(rounds) == 1:
                os.kill(os.getpid(), signal.SIGTERM)

        stacked.Together.advance = counted
    Path(folder, "codes.json").write_text(json.dumps(process.run()))


def run(folder: Path, jobs: dict[str, list[str]], **options: float | None) -> tuple[dict[str, int], str]:
    """The exit codes of jobs that are told to train as a stack, and what their process printed."""
    folder.mkdir(exist_ok=True)
    process = start(stacked, jobs, str(folder), *[options.get(name) for name in ("stop_after", "free", "stops_later")])
    process.join(300)
    assert process.exitcode == 0, forked_runs.output(folder / "stack") + (folder / "stack.log").read_text()
    return json.loads((folder / "codes.json").read_text()), (folder / "stack.log").read_text()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Jobs that differ in seed, learning rate and beta; one of which diverges, and one ends early."""
    folder = tmp_path_factory.mktemp("stack")
    jobs = {
        "a": ["seed=0"],
        "b": ["seed=1", "objective.beta=2", "optimizer.lr=3e-3"],
        "diverges": ["seed=2", "optimizer.lr=1e30"],
        "ends": ["seed=3", "trainer.max_epochs=1"],
        "other": ["seed=0", "latent_dim=3"],
    }
    codes, printed = run(folder, jobs)
    assert codes == {"a": 0, "b": 0, "diverges": 1, "ends": 0, "other": 0}
    assert "other trains by itself: they differ in" in printed
    assert "4 runs of" in printed
    return folder


def assert_same_rows(mine: Path, alone: Path) -> None:
    """The same numbers in metrics.csv, to the rounding of float32."""
    rows, others = rows_of(mine), rows_of(alone)
    assert [row.keys() for row in rows] == [row.keys() for row in others]
    for row, other in zip(rows, others, strict=True):
        for key in row.keys() - {"train/images_per_second"}:
            assert (row[key] == "") == (other[key] == "")
            if row[key]:
                assert float(row[key]) == pytest.approx(float(other[key]), rel=1e-5, abs=1e-6), key


@pytest.mark.parametrize(("name", "words"), [("a", ["seed=0"]), ("b", ["seed=1", "objective.beta=2", "optimizer.lr=3e-3"])])
def test_a_member_leaves_what_it_leaves_alone(together: Path, tmp_path: Path, name: str, words: list[str]) -> None:
    code, printed = forked_runs.run(tmp_path / name, *SMALL, *QUICK, *words)
    assert code == 0, printed
    mine, alone = RunFolder(together / name), RunFolder(tmp_path / name)
    assert_same_rows(mine.path, alone.path)
    found, wanted = mine.results(), alone.results()
    assert found.keys() - wanted.keys() == {"stack"}
    assert not wanted.keys() - found.keys()
    assert found["stack"] == 4
    assert (found["steps"], found["epochs"]) == (wanted["steps"], wanted["epochs"])
    assert found["test"]["elbo"] == pytest.approx(wanted["test"]["elbo"], rel=1e-5)
    for checkpoint in ("last", "best"):
        one, two = (torch.load(each.checkpoints / f"{checkpoint}.ckpt", weights_only=True) for each in (mine, alone))
        assert one.keys() == two.keys()
        assert one["loops"] == two["loops"]
        assert one["lr_schedulers"] == two["lr_schedulers"]
        assert torch.equal(one["generators"][0]["torch"], two["generators"][0]["torch"])
        for key, value in two["state_dict"].items():
            torch.testing.assert_close(one["state_dict"][key], value, rtol=1e-4, atol=1e-5)
        assert (mine.checkpoints / f"{checkpoint}.ckpt").stat().st_size < 1.1 * (alone.checkpoints / f"{checkpoint}.ckpt").stat().st_size
    of_hydra = {"console.log", "train.log"}
    files = [
        {
            path.relative_to(each.path).as_posix()
            for path in each.path.rglob("*")
            if ".hydra" not in path.parts and "events" not in path.name
        }
        for each in (mine, alone)
    ]
    assert files[0] - of_hydra == files[1]


def test_a_member_that_diverges_disturbs_no_other(together: Path) -> None:
    """It fails with the words that it has alone."""
    assert RunFolder(together / "diverges").state == "failed"
    assert "the loss is not finite" in (together / "diverges" / "console.log").read_text()
    assert RunFolder(together / "a").state == RunFolder(together / "b").state == "finished"


def test_a_member_that_ends_early_is_finished(together: Path) -> None:
    ended, other = RunFolder(together / "ends").results(), RunFolder(together / "a").results()
    assert (ended["steps"], other["steps"]) == (6, 12)


def test_one_that_is_like_no_other_trains_by_itself(together: Path, tmp_path: Path) -> None:
    """It says so once, in its own console; its results are those of a run alone and do not name a stack."""
    assert (together / "other" / "console.log").read_text().count("trains by itself and not in a stack") == 1
    results = RunFolder(together / "other").results()
    assert "stack" not in results
    assert results["steps"] == 12
    code, printed = forked_runs.run(tmp_path / "other", *SMALL, *QUICK, "seed=0", "latent_dim=3")
    assert code == 0, printed
    assert_same_rows(together / "other", tmp_path / "other")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["trainer.check_val_every_n_epoch=null", "+trainer.val_check_interval=5", "trainer.log_every_n_steps=50"], None),
        (
            [
                "+callbacks.accumulation._target_=lightning.pytorch.callbacks.GradientAccumulationScheduler",
                "+callbacks.accumulation.scheduling={1:2}",
            ],
            "accumulate_grad_batches",
        ),
        (["+callbacks.own._target_=stacks.RaiseBeta"], "something changes its model between steps"),
    ],
    ids=["validation across epochs", "accumulation that begins later", "a callback that changes beta"],
)
def test_what_happens_between_steps_happens_in_a_stack(tmp_path: Path, words: list[str], reason: str | None) -> None:
    """What a stack cannot do ends it, and the run goes on by itself."""
    jobs = {name: [f"seed={name}", *words, "trust=true"] for name in ("0", "1")}
    codes, _ = run(tmp_path / "stack", jobs)
    assert codes == {"0": 0, "1": 0}
    console = (tmp_path / "stack" / "1" / "console.log").read_text()
    assert "by itself" not in console if reason is None else reason in console
    code, printed = forked_runs.run(tmp_path / "1", *SMALL, *QUICK, *jobs["1"])
    assert code == 0, printed
    assert_same_rows(tmp_path / "stack" / "1", tmp_path / "1")


def test_jobs_whose_first_step_fails_say_what_they_say_alone(tmp_path: Path) -> None:
    """Instead of ending the process of the stack: here labels are no classes."""
    codes, printed = run(tmp_path, {name: [f"seed={name}", "num_classes=2"] for name in ("0", "1")})
    assert codes == {"0": 1, "1": 1}
    assert "0 trains by itself: its first step fails (ValueError)" in printed
    assert all("set num_classes=0" in (tmp_path / name / "console.log").read_text() for name in codes)


@pytest.mark.parametrize("words", [["callbacks=[default,ema]"], []], ids=["by itself", "while it is evaluated"])
def test_a_signal_reaches_what_is_not_in_a_stack(tmp_path: Path, words: list[str]) -> None:
    """It ends after its step, or at once if it does not train; the same jobs then go on."""
    long = ["evaluation.metrics.likelihood.num_samples=100000", "trainer.max_epochs=1"] if not words else ["trainer.max_epochs=100000"]
    jobs = {name: [f"seed={name}", *words, *long] for name in ("0", "1")}
    codes, printed = run(tmp_path, jobs, stops_later=True)
    assert codes["0"] == 143, printed
    assert (tmp_path / "0" / "checkpoints" / "last.ckpt").is_file()


def test_a_stack_that_is_told_to_end_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Within an epoch; codes are those of a process that SIGTERM ended."""
    jobs = {"a": ["seed=0", "scheduler=cosine"], "b": ["seed=1", "scheduler=cosine"]}
    codes, _ = run(tmp_path / "stopped", jobs, stop_after=3)
    assert codes == {"a": 143, "b": 143}
    place = torch.load(tmp_path / "stopped/a/checkpoints/last.ckpt", weights_only=True)["place"]
    assert place["batch"] > 0
    assert run(tmp_path / "stopped", jobs)[0] == run(tmp_path / "straight", jobs)[0] == {"a": 0, "b": 0}
    for name in jobs:
        one, two = (torch.load(tmp_path / each / name / "checkpoints/last.ckpt", weights_only=True) for each in ("stopped", "straight"))
        assert one["global_step"] == two["global_step"]
        assert all(torch.equal(one["state_dict"][key], value) for key, value in two["state_dict"].items())
        assert torch.equal(one["generators"][0]["torch"], two["generators"][0]["torch"])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["callbacks=[default,ema]"], "EMA may use each step"),
        (["callbacks=[default,skip_updates]"], "SkipUpdates may use each step"),
        (["data.num_workers=1"], "set data.num_workers=0"),
        (["trainer.accumulate_grad_batches=2"], "accumulate_grad_batches"),
    ],
)
def test_what_looks_at_each_step_trains_by_itself(tmp_path: Path, words: list[str], reason: str) -> None:
    jobs = {name: [f"seed={name}", *words, "trainer.max_epochs=1"] for name in ("0", "1")}
    codes, _ = run(tmp_path, jobs)
    assert codes == {"0": 0, "1": 0}
    assert reason in (tmp_path / "0" / "console.log").read_text()


def test_a_stack_is_cut_to_what_fits_into_memory(tmp_path: Path) -> None:
    jobs = {str(seed): [f"seed={seed}", "trainer.max_epochs=1"] for seed in range(4)}
    codes, printed = run(tmp_path, jobs, free=2_000_000)
    assert set(codes.values()) == {0}
    assert "they train in 2 stacks" in printed or "they train in 4 stacks" in printed


def launcher(n_jobs: int = 1, max_stack: int | None = 32, devices: int = 1) -> StackedLauncher:
    made = StackedLauncher(n_jobs, max_stack)
    made.config = OmegaConf.create({"trainer": {"devices": devices}})
    return made


def dealt(made: StackedLauncher, *words: str) -> list[list[int]]:
    """The numbers of the jobs of each process, of a grid."""
    overrides = [OverridesParser.create().parse_override(word) for word in words]
    jobs: list[list[str]] = [[]]
    for override in overrides:
        values = list(override.sweep_string_iterator())
        jobs = [[*job, f"{override.key_or_group}={value}"] for job in jobs for value in values]
    return [[i for i, _ in piece] for piece in made.pieces(jobs)]


def test_jobs_are_dealt_out_by_what_may_be_one_stack() -> None:
    assert dealt(launcher(), "seed=0,1,2", "optimizer.lr=1e-3,2e-3") == [[0, 1, 2, 3, 4, 5]]
    assert dealt(launcher(), "seed=0,1", "objective=elbo,iwae") == [[0, 2], [1, 3]]
    assert dealt(launcher(), "seed=0,1", "latent_dim=2,3") == [[0, 2], [1, 3]]
    assert dealt(launcher(n_jobs=2), "seed=0,1,2,3") == [[0, 1], [2, 3]]
    assert dealt(launcher(max_stack=3), "seed=0,1,2,3") == [[0, 1], [2, 3]]
    assert dealt(launcher(max_stack=None), "seed=" + ",".join(map(str, range(40)))) == [list(range(40))]
    assert dealt(launcher(n_jobs=4), "seed=0,1") == [[1], [0]] or dealt(launcher(n_jobs=4), "seed=0,1") == [[0], [1]]


def test_trials_of_a_search_are_one_stack() -> None:
    """Each has the number of its trial, and a folder."""
    jobs = [[f"optimizer.lr={i}e-3", f"hydra.sweep.subdir={i}", f"+callbacks.pruning={{_target_:a,number:{i}}}"] for i in range(1, 4)]
    assert [len(piece) for piece in launcher().pieces(jobs)] == [3]


def test_jobs_on_several_devices_train_by_themselves() -> None:
    assert dealt(launcher(devices=2), "seed=0,1") == [[0], [1]]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_parts_are_as_equal_as_can_be(size: int) -> None:
    jobs = [(i, []) for i in range(7)]
    found = equal_parts(jobs, size)
    assert [job for part in found for job in part] == jobs
    assert max(map(len, found)) <= size
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_a_stack_of_none_is_refused() -> None:
    with pytest.raises(CompactHydraException, match="max_stack=0 must be at least 1"):
        StackedLauncher(1, 0)


def test_jobs_of_a_process_that_was_killed_have_its_code(tmp_path: Path) -> None:
    """Unless they ended before, which their results tell where the process told nothing."""
    jobs = [Process([], tmp_path / name, []) for name in "abc"]
    for job in jobs:
        job.folder.mkdir()
        job.console.write_text("")
    (tmp_path / "c" / "results.json").write_text('{"val": {}}')
    found = [launcher().ended(job, {"a": 0}, -9, 1.0) for job in jobs]
    assert [each.status for each in found] == [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.COMPLETED]
    assert "killed by SIGKILL" in str(found[1]._return_value)
