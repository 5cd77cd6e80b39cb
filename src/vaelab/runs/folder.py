"""A run folder: the one place that knows what lies in it."""

import fcntl
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from vaelab.checks import listed
from vaelab.runs.claims import claim_folder, is_claimed
from vaelab.runs.configs import of_today, value_at
from vaelab.runs.files import DamagedFile, read_checkpoint, read_curves, read_results, read_yaml, with_metric, write_json, write_text
from vaelab.runs.log import tell

RESULTS = "results.json"
CONFIG = ".hydra/config.yaml"
# what a run writes while it trains, and what is removed if it starts anew
EVENTS = ("events.out.tfevents.*", "projector*", "tensorboard")  # of TensorBoard
WRITTEN = (*EVENTS, "checkpoints", "metrics.csv", "split.json", RESULTS, "*profile*", "pruned.txt", "failed.txt")
PREVIOUS = "last.ckpt.previous"  # the checkpoint that last.ckpt has replaced
ENDS = ("pruned", "failed")  # of a run before its time; <end>.txt says why
INSIDE = ("anomalies", "checkpoints", "figures", "inpainting", "projector", "resumed", "tensorboard")  # folders that hold no other run


class RunFolder:
    """A folder in which one process trains a run, and others read what it has written.

    | name                     | holds                                                            |
    |--------------------------|------------------------------------------------------------------|
    | .hydra/                  | the config as it was composed, and the command line              |
    | checkpoints/             | best.ckpt, last.ckpt, and the one before it                      |
    | metrics.csv, events.*    | what was logged; events, projector: for TensorBoard              |
    | results.json             | metrics on validation and test data; results_last.json: of last.ckpt, if results.json is of best.ckpt |
    | split.json               | which training examples were validated on                        |
    | figures/, report.html    | what one looks at                                                |
    | pruned.txt, failed.txt   | why it ended early                                               |
    | resumed/                 | .hydra and log of later sessions                                 |

    >>> RunFolder("outputs/no_such_run").state
    'interrupted'

    Files are read when they are asked for. One that is damaged raises `DamagedFile`, with what to do.

    Args:
        path: of the folder, which need not exist.
        name: what it is called in lists and tables; None: the path.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        self.path = Path(path)
        self.name = str(path) if name is None else name

    @classmethod
    def of_checkpoint(cls, checkpoint: Path) -> "RunFolder":
        """The folder of the run that wrote a checkpoint."""
        return cls(checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent)

    @classmethod
    def of_results(cls, checkpoint: Path) -> "RunFolder":
        """The folder for what is found out of a checkpoint: its run's, or, of a file that lies alone, <its name>_results beside it."""
        own = cls.of_checkpoint(checkpoint)
        return own if own.is_run() else cls(checkpoint.with_name(f"{checkpoint.stem}_results"))

    def __str__(self) -> str:
        return str(self.path)

    # Places that others write to.

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def figures(self) -> Path:
        """Folder of the figures."""
        return self.path / "figures"

    @property
    def tensorboard(self) -> Path | None:
        """Folder of TensorBoard's event files, which older runs have below their own; None if the run logs none."""
        return next((folder for folder in (self.path, self.path / "tensorboard") if any(folder.glob("events.out.tfevents.*"))), None)

    @property
    def metrics(self) -> Path:
        """File of what was logged while the run trained."""
        return self.path / "metrics.csv"

    @property
    def split(self) -> Path:
        """File of the training examples that were validated on."""
        return self.path / "split.json"

    # What was asked for.

    def is_run(self, file: str = RESULTS) -> bool:
        """True if there is anything of a run: its config, results in a file of that name, or a checkpoint."""
        return (self.path / CONFIG).is_file() or (self.path / file).is_file() or any(self.checkpoints.glob("*.ckpt"))

    @cached_property
    def config(self) -> dict[str, Any]:
        """The config as it was written, interpolations and all; that of the last session, if the run was resumed.

        Raises:
            ValueError: if there is none, or it cannot be read.
        """
        written = self.path / CONFIG
        if not written.is_file() or (self.path / "resumed").is_dir():  # of a resumed run, only the checkpoint knows how it went on
            found = sorted(self.checkpoints.glob("*.ckpt*"), key=lambda path: (path.stem not in ("last", "last.ckpt"), path.name))
            damaged = None
            for path in [path for path in found if path.name.endswith((".ckpt", PREVIOUS))]:
                try:
                    return read_checkpoint(path, mmap=True)["config"]
                except ValueError as error:  # another one tells the same
                    damaged = damaged or error
            if damaged is not None:
                raise damaged
            if not written.is_file():
                raise ValueError(f"{self} holds neither {CONFIG} nor a checkpoint")
        return of_today(read_yaml(written, "restore it, or remove the run"))

    @cached_property
    def hydra(self) -> dict[str, Any]:
        """Notes of Hydra on the start: `overrides.task`, `runtime.choices` and `runtime.cwd` among others; {} if there are none.

        Raises:
            DamagedFile: if it cannot be read.
        """
        path, advice = self.path / ".hydra" / "hydra.yaml", "remove it"
        noted = read_yaml(path, advice).get("hydra") if path.is_file() else {}
        if not isinstance(noted, dict):
            raise DamagedFile(path, "it has no mapping called hydra", advice)
        return noted

    @property
    def overrides(self) -> list[str]:
        """The words of the command line that started the run.

        Raises:
            DamagedFile: as `hydra`.
        """
        words = value_at(self.hydra, "overrides.task")
        return [str(word) for word in words] if isinstance(words, list) else []

    @property
    def command_line(self) -> str:
        """The command that trains such a run.

        Raises:
            DamagedFile: as `hydra`.
        """
        sources = value_at(self.hydra, "runtime.config_sources", [])
        added = [str(source.get("path")) for source in sources if source.get("provider") == "command-line"]
        return shlex.join(["vaelab", "train", *[word for path in added for word in ("--config-dir", path)], *self.overrides])

    # What was logged.

    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """Every metric that was logged, as (step, value); {} if the run logged none to a file.

        Raises:
            DamagedFile: as `read_curves`.
        """
        return read_curves(self.metrics) if self.metrics.is_file() else {}

    # How it ended.

    def results(self, file: str = RESULTS, advice: str = "remove it, and evaluate again") -> dict[str, Any]:
        """Metrics and how they were found; {} if nothing has been evaluated.

        Args:
            file: name of another file of results.
            advice: what to do if it is damaged.

        Raises:
            DamagedFile: if the file cannot be read, or holds something else.
        """
        path = self.path / file
        return read_results(path, advice) if path.is_file() else {}

    def results_file(self, checkpoint: Path) -> str:
        """Name of the file for metrics of a checkpoint: results.json is of the one that training chose; others have files of their own.

        Raises:
            DamagedFile: as `results`.
        """
        chosen = self.results().get("checkpoint")
        return RESULTS if chosen in (None, f"checkpoints/{checkpoint.name}") else f"results_{checkpoint.stem}.json"

    def write_results(self, record: dict[str, Any], file: str = RESULTS) -> None:
        """Replace the results."""
        write_json(record, self.path / file)

    def add_results(self, checkpoint: Path, metric: str, found: Mapping[str, Any], how: Mapping[str, Any]) -> None:
        """Add what a metric found of a checkpoint, in place of what it had found before; other processes may do the same meanwhile.

        Raises:
            DamagedFile: as `results`.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        directory = os.open(self.path, os.O_RDONLY)
        try:
            with suppress(OSError):  # of a file system that has no locks
                fcntl.flock(directory, fcntl.LOCK_EX)
            file = self.results_file(checkpoint)
            record = self.results(file)
            record.setdefault("checkpoint", f"checkpoints/{checkpoint.name}")
            self.write_results(with_metric(record, metric, found, how), file)
        finally:
            os.close(directory)

    @property
    def is_finished(self) -> bool:
        """True if training has come to its end; metrics of a run that was interrupted do not make it one."""
        try:
            return "val" in self.results()
        except DamagedFile:  # which says so to whoever reads it; here it must not be written over
            return True

    @property
    def left_nothing(self) -> bool:
        """True if a start has ended without a checkpoint or results, so that another, of any config, may take its place."""
        has_started = (self.path / ".lock").is_file()
        return has_started and self.last_checkpoint is None and not self.is_finished and not is_claimed(self.path)

    @property
    def state(self) -> str:
        """One of "running", "finished", "pruned" by its search, "failed" with an error, and "interrupted", which was stopped or killed."""
        if is_claimed(self.path):
            return "running"
        if self.is_finished:
            return "finished"
        return next((name for name in ENDS if (self.path / f"{name}.txt").is_file()), "interrupted")

    @property
    def reason(self) -> str:
        """The reason for which the run was pruned or failed; "" if it was not."""
        path = self.path / f"{self.state}.txt"
        return path.read_text(errors="replace").strip() if path.is_file() else ""

    def end(self, state: str, reason: str) -> None:
        """Note that the run was "pruned" or has "failed", and why."""
        write_text(f"{reason}\n", self.path / f"{state}.txt")

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """Forget how the run ended before; and if what is inside raises an exception, note it as the reason why the run has failed."""
        notes = [self.path / f"{name}.txt" for name in ENDS]
        for note in notes:
            note.unlink(missing_ok=True)
        try:
            yield
        except Exception as error:
            with suppress(OSError):  # of a full disk
                if self.path.is_dir() and not any(note.is_file() for note in notes):  # a search that gives a run up says so itself
                    self.end("failed", f"{type(error).__name__}: {error}")
            raise

    # Its checkpoints.

    def checkpoint(self, name: str | None = None) -> Path:
        """Path of the checkpoint "best" or "last"; None: the one whose numbers training wrote, "last" if it has not finished.

        Raises:
            ValueError: if there is none of that name.
        """
        if not self.path.is_dir():
            raise ValueError(f"there is no run folder {self.path.absolute()}")
        name = name or Path(self.results().get("checkpoint") or "last").stem
        found, wanted = sorted(self.checkpoints.glob("*.ckpt")), self.checkpoints / f"{name}.ckpt"
        if wanted in found:
            return wanted
        if found:
            raise ValueError(f"there is no {wanted}: choose checkpoint={listed(other.stem for other in found)}")
        raise ValueError(f"{self.path.absolute()} holds no checkpoints/*.ckpt: no epoch has been finished, or it is no run folder")

    @property
    def last_checkpoint(self) -> Path | None:
        """Path of the checkpoint that the run goes on from, or of the one before, if that is all there is; None if it wrote none."""
        return next((path for path in (self.checkpoints / "last.ckpt", self.checkpoints / PREVIOUS) if path.is_file()), None)

    def sound_checkpoint(self) -> tuple[Path, dict[str, Any]]:
        """Path and content of the checkpoint that the run goes on from; of the one before, if the last one is damaged.

        Raises:
            ValueError: if there is none, or none can be read.
        """
        last = self.last_checkpoint or self.checkpoint("last")
        try:
            return last, read_checkpoint(last)
        except ValueError as error:
            previous = self.checkpoints / PREVIOUS
            if last == previous or not previous.is_file():
                raise
            checkpoint = read_checkpoint(previous)
            tell(f"{' '.join(str(error).split(':')[0].split())}: the run goes on from {PREVIOUS}, step {checkpoint['global_step']}")
            return previous, checkpoint

    # One process at a time.

    @contextmanager
    def start(self, fresh: bool) -> Iterator[None]:
        """Make the folder, and keep other processes out of it while inside.

        Args:
            fresh: whether no run may be there; a start that left nothing is none.

        Raises:
            ValueError: if a run is there that may not be, or another process works in it.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=not fresh or self.left_nothing)  # of two runs that start at once, one can
        except FileExistsError:
            raise ValueError(f"{self} already holds a run: go on with resume={self} or existing=resume, or choose another folder") from None
        with self.claim():
            yield

    def claim(self) -> AbstractContextManager[None]:
        """Keep other processes out of the folder while inside; the claim of a process that is killed ends with it.

        Raises:
            ValueError: if another process works in it.
        """
        return claim_folder(self.path)

    def clear(self) -> None:
        """Remove what a start that left no checkpoint had begun to write; what Hydra has noted of a new start replaces its config."""
        noted = sorted(self.path.glob("resumed/*/.hydra"))
        if noted:
            shutil.rmtree(self.path / ".hydra", ignore_errors=True)
            noted[-1].rename(self.path / ".hydra")
            shutil.rmtree(self.path / "resumed")
        for path in [path for pattern in WRITTEN for path in self.path.glob(pattern)]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def find_checkpoint(run: str | Path, name: str | None = None) -> Path:
    """Path of a checkpoint of a run folder, as `RunFolder.checkpoint`, or `run` itself if it is a file.

    Raises:
        ValueError: if there is none.
    """
    return Path(run) if Path(run).is_file() else RunFolder(run).checkpoint(name)
