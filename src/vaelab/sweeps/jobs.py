"""The jobs of a sweep, and what their folders say of them."""

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf

LONGEST = 120  # characters of a folder's name; file systems allow 255
UNCHANGED = ("paths", "logger", "existing", "sweep", "launcher")  # parts of a config that change no number


@dataclass(frozen=True)
class Job:
    """One point of a grid."""

    name: str  # of its folder: what distinguishes it from the others
    overrides: tuple[str, ...]
    folder: Path

    @property
    def line(self) -> list[str]:
        """What a launcher is told."""
        return [*self.overrides, f"hydra.sweep.subdir='{self.name}'", "existing=resume"]

    @property
    def finished(self) -> bool:
        return (self.folder / "results.json").is_file()

    @property
    def started(self) -> bool:
        return (self.folder / "checkpoints" / "last.ckpt").is_file()

    def result(self) -> dict[str, Any]:
        return json.loads((self.folder / "results.json").read_text())

    def stored_config(self) -> dict[str, Any] | None:
        """The config that it was started with; None if it never was."""
        path = self.folder / ".hydra" / "config.yaml"
        return flat(OmegaConf.load(path)) if path.is_file() else None


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
    jobs = []
    for combination in itertools.product(*choices):
        name = name_of([word for word, swept in combination if swept])
        jobs.append(Job(name, tuple(word for word, _ in combination), folder / name))
    twice = {job.name for job in jobs if [other.name for other in jobs].count(job.name) > 1}
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


def flat(config: DictConfig | Any, prefix: str = "") -> dict[str, Any]:
    """{"optimizer.lr": 0.001, ...}, interpolations as they are written."""
    node = OmegaConf.to_container(config, resolve=False) if OmegaConf.is_config(config) else config
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    parts = [flat(value, f"{prefix}.{key!s}" if prefix else str(key)) for key, value in node.items()]
    return {key: value for part in parts for key, value in part.items()}


def differences(stored: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Where two configs would give other numbers, as "trainer.max_epochs: 20, now 30"."""
    keys = [key for key in stored.keys() | now.keys() if key.split(".")[0] not in UNCHANGED and stored.get(key) != now.get(key)]
    return [f"{key}: {stored.get(key)}, now {now.get(key)}" for key in sorted(keys)]


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
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompactHydraException(f"cannot write to {folder}: {error.strerror}; choose another place with hydra.sweep.dir=...") from None
    return folder


def refuse_devices(config: DictConfig) -> None:
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
