"""The jobs of a sweep, and their run folders."""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf, read_write

from vaelab.runs.claims import TIME, made_anew
from vaelab.runs.configs import Use, differences, quoted
from vaelab.runs.folder import RunFolder

LONGEST = 120  # characters of a folder's name; file systems allow 255


@dataclass(frozen=True)
class Job:
    """One point of a grid."""

    name: str  # of its folder: what distinguishes it from the others
    overrides: tuple[str, ...]
    run: RunFolder

    @property
    def line(self) -> list[str]:
        """The command line that a launcher is told."""
        return [*self.overrides, f"hydra.sweep.subdir='{self.name}'", "existing=resume"]

    def results(self) -> dict[str, Any]:
        """Metrics of the run; {} if it is not finished.

        Raises:
            CompactHydraException: if they cannot be read.
        """
        with _said_alone():
            return self.run.results()

    def changes(self, config: Mapping[str, Any]) -> list[str]:
        """Differences between the config of the run in the folder and that of the job, such as "trainer.max_epochs: 20, now 30".

        There are none if the run left nothing to go on from: it will be started anew.

        Raises:
            CompactHydraException: if the config cannot be read.
        """
        with _said_alone():
            begun = self.run.is_finished or self.run.last_checkpoint is not None
            return differences(self.run.config, config, Use.SWEEP) if begun else []


@contextmanager
def _said_alone() -> Iterator[None]:
    """Inside, whatever cannot be read is said without a traceback."""
    try:
        yield
    except ValueError as error:
        raise CompactHydraException(str(error)) from None


def jobs_of(overrides: Sequence[Override], folder: Path) -> list[Job]:
    """Every combination of what is swept, in the order of the command line.

    Raises:
        CompactHydraException: if something is swept over an interval, which only a search can do, or two jobs would be the same one.
    """
    choices = []
    for override in overrides:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise CompactHydraException(f"{override.input_line}: a grid takes lists of values; for an interval set hparams_search=optuna")
        key = override.get_key_element()
        swept = override.is_sweep_override()
        values = [str(value) for value in (override.sweep_string_iterator() if swept else [override.get_value_element_as_str()])]
        choices.append([(f"{key}={value}", swept) for value in values])
    known = {plain_numbers(path.name): path.name for path in folder.glob("*/")}  # of jobs that were typed otherwise
    jobs = []
    for combination in itertools.product(*choices):
        typed = name_of([word for word, swept in combination if swept])
        name = typed if (folder / typed).is_dir() else known.get(plain_numbers(typed), typed)
        jobs.append(Job(name, tuple(word for word, _ in combination), RunFolder(folder / name)))
    counts = Counter(plain_numbers(job.name) for job in jobs)
    twice = {job.name for job in jobs if counts[plain_numbers(job.name)] > 1}
    if twice:
        raise CompactHydraException(f"these jobs are asked for more than once: {', '.join(sorted(twice))}")
    return jobs


def with_preset(preset: dict[str, Any], arguments: Sequence[str]) -> list[str]:
    """A command line, after what a file of conf/hparams_search sets and the line does not."""
    typed = {re.split("=", argument, maxsplit=1)[0].lstrip("+~") for argument in arguments}
    return [*(f"{key}={value}" for key, value in preset.items() if key.lstrip("+~") not in typed), *arguments]


def name_of(swept: Sequence[str]) -> str:
    """objective.beta=4,seed=0 of what is swept, whatever the order it was typed in; a folder can be called so."""
    text = ",".join(sorted(word.lstrip("+~") for word in swept)) or "run"
    plain = re.sub(r"[^\w.,=+@-]+", "_", text)
    if plain == text and len(plain) <= LONGEST:
        return plain
    return f"{plain[:LONGEST]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def plain_numbers(name: str) -> str:
    """A name in which every number is written in the same way: objective.beta=1.0 and objective.beta=1 are one job."""

    def plain(found: re.Match[str]) -> str:
        try:
            return str(Decimal(found[0]).normalize())
        except InvalidOperation:
            return found[0]

    return re.sub(r"(?<==)[^,=]+(?=,|$)", plain, name)


def folder_of(config: DictConfig) -> Path:
    """The folder of a sweep, which is made.

    Raises:
        CompactHydraException: if its name leads elsewhere, or it cannot be made.
    """
    name = str(config.sweep)
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise CompactHydraException(f"sweep={name} must name a folder below outputs/sweeps, such as sweep=betas")
    folder = Path(config.hydra.sweep.dir).absolute()
    try:
        if re.fullmatch(TIME, name) and not is_typed(config):
            folder = made_anew(folder)  # of sweeps that start in one second, each has its own
            with read_write(config):
                config.hydra.sweep.dir = str(folder)
                config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted(str(folder))}")  # of which the jobs are composed
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompactHydraException(f"cannot write to {folder}: {error.strerror}; choose another place with hydra.sweep.dir=...") from None
    return folder


def is_typed(config: DictConfig) -> bool:
    """True if the command line names the folder of the sweep."""
    typed: Any = OmegaConf.to_container(config.hydra.overrides, resolve=False)
    return any(word.lstrip("+").startswith(("sweep=", "hydra.sweep.dir=")) for word in (*typed["task"], *typed["hydra"]))


def check_devices(config: DictConfig) -> None:
    """Lightning starts the other ranks of a job by repeating its command line, which is that of the whole sweep unless a job has its own.

    Raises:
        CompactHydraException: if a job would have several devices or nodes that are not started from outside.
    """
    launcher = str(config.hydra.launcher._target_)
    name, own_line, started = launcher.split(".")[-1], launcher.startswith("hydra_plugins.vaelab."), "SlurmLauncher" in launcher
    devices, nodes = (config.trainer.get(key, 1) for key in ("devices", "num_nodes"))
    if str(devices) != "1" and not own_line and not started:
        raise CompactHydraException(f"trainer.devices={devices} needs launcher=local, ray or slurm, not {name}")
    if nodes != 1 and not started:
        raise CompactHydraException(f"trainer.num_nodes={nodes} needs launcher=slurm, not {name}")
    for key, value, option in (("devices", devices, "tasks_per_node"), ("num_nodes", nodes, "nodes")):
        theirs = config.hydra.launcher.get(option)
        if started and str(value) != str(theirs):
            raise CompactHydraException(f"trainer.{key}={value}, but hydra.launcher.{option}={theirs}: SLURM starts a task per device")
