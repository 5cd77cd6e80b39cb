"""A run goes on in its folder: what may change on the way, and what becomes of what it had logged."""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf

from vaelab.training.checkpoints import read_checkpoint
from vaelab.training.metrics_csv import MetricsCSV
from vaelab.training.signals import was_requeued

# what may change when a run is continued: how long, where and how fast, but not what is learned
RESUMABLE = (
    "trainer.",
    "callbacks.",
    "logger.",
    "paths.",
    "evaluation.",
    "data.num_workers",
    "data.device_resident",
    "data.eval_batch_size",
)
NOT_LEARNED = ("existing", "resume", "download", "name", "sweep", "launcher", "hparams_search")
LENGTH = ("max_epochs", "max_steps")
# by a run, in its folder
WRITTEN = ("checkpoints", "tensorboard", "figures", "metrics.csv", "split.json", "results.json", "report.html", "pruned.txt")


def goes_on(config: DictConfig) -> bool:
    """Whether a run that is found in the folder is to be continued, which a job that SLURM has started again always does.

    Raises:
        ValueError: if `existing` is neither refuse nor resume.
    """
    existing = config.get("existing", "refuse")
    if existing not in ("refuse", "resume"):
        raise ValueError(f"existing={existing} must be refuse or resume")
    return existing == "resume" or was_requeued()


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Inside, no other process works in this folder; the claim of one that is killed ends with it.

    Raises:
        ValueError: if another process does.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise ValueError(f"another process is at work in {folder}: wait for it, or choose another folder") from None
        except OSError:
            pass  # of a file system that has no locks
        yield


def remove_written(folder: Path) -> None:
    """Removes what a start that left no checkpoint to go on from had begun to log."""
    for name in WRITTEN:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def found(folder: Path, config: DictConfig) -> dict[str, Any] | None:
    """The checkpoint that the run in a folder goes on from; None if there is none.

    Raises:
        ValueError: if it is that of a run of another config.
    """
    path = folder / "checkpoints" / "last.ckpt"
    if not path.is_file():
        return None
    stored = read_checkpoint(path)
    refuse_another(folder, OmegaConf.create(stored["config"]), config)
    return stored


def finished(folder: Path, stored: dict[str, Any] | None, config: DictConfig) -> float | None:
    """val/elbo of a run that has nothing left to do; None if it has, or was made longer since.

    Args:
        folder: of the run.
        stored: its last checkpoint; None if it wrote none.
        config: what it is to be gone on with.
    """
    path = folder / "results.json"
    if not path.is_file():
        return None
    results = json.loads(path.read_text())
    if stored is None:
        return results["val"]["elbo"]
    same = all(stored["config"]["trainer"].get(name) == config.trainer.get(name) for name in LENGTH)
    return results["val"]["elbo"] if same and results["steps"] == stored["global_step"] else None


def changed(stored: DictConfig, overrides: list[str]) -> DictConfig:
    """The config of a run that is continued, with the values given on the command line.

    Raises:
        ValueError: if an override would change what is learned, or how long where a learning rate was planned for that.
    """
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        if key in ("resume", "existing"):
            continue
        if not key.startswith(RESUMABLE):
            allowed = ", ".join(f"{name}..." if name.endswith(".") else name for name in RESUMABLE)
            raise ValueError(f"{override.input_line} cannot be changed when a run is continued; what can are values (not dials): {allowed}")
        value = None if override.is_delete() else override.value()
        if key == "trainer.max_epochs":
            refuse_stretched(stored, value)
        OmegaConf.update(stored, key, value)
    return stored


def refuse_another(folder: Path, stored: DictConfig, config: DictConfig) -> None:
    """A run is gone on with as it was started.

    Raises:
        ValueError: if what is learned differs between its config and this one, with every difference.
    """
    before, now = (dict(flatten(OmegaConf.to_container(each, resolve=False))) for each in (stored, config))
    keys = [key for key in before.keys() | now.keys() if not key.startswith(RESUMABLE) and key.split(".")[0] not in NOT_LEARNED]
    differences = [f"{key}: {before.get(key)}, now {now.get(key)}" for key in sorted(keys) if before.get(key) != now.get(key)]
    if differences:
        words = "\n  ".join(differences)
        raise ValueError(f"{folder} holds a run of another config:\n  {words}\nChoose another folder, or remove that one")
    refuse_stretched(stored, config.trainer.max_epochs)


def refuse_stretched(stored: DictConfig, max_epochs: Any) -> None:
    """A learning rate that was planned for so many epochs ends with them.

    Raises:
        ValueError: if there is to be another number of epochs.
    """
    raw: dict[str, Any] = OmegaConf.to_container(stored, resolve=False)  # type: ignore[assignment]
    if "trainer.max_epochs" in str(raw.get("scheduler")) and max_epochs != stored.trainer.max_epochs:
        raise ValueError(
            f"the learning rate of this run was planned for {stored.trainer.max_epochs} epochs, and would rise again after them:"
            " train anew with scheduler=none, or with pretrained=<this run>"
        )


def refuse_unresumable(stored: dict[str, Any], trainer: lightning.Trainer) -> None:
    """What a run cannot go on to.

    Raises:
        ValueError: if trainer.max_epochs are behind it already, or other processes would share the rest of an epoch.
    """
    place = stored.get("place", {"epoch": stored["epoch"] + 1, "batch": 0})
    if 0 <= (trainer.max_epochs or 0) < place["epoch"]:
        raise ValueError(f"this run has finished {place['epoch']} epochs, which is more than trainer.max_epochs={trainer.max_epochs}")
    if place["batch"] and place["num_processes"] != trainer.world_size:
        raise ValueError(
            f"this run was stopped in the middle of an epoch whose examples {place['num_processes']} processes share; go on with as many"
            f" of them to its end, instead of {trainer.world_size}"
        )


def rewind(loggers: list[Any], step: int) -> None:
    """Makes loggers forget what a killed run logged after the checkpoint that it goes on from."""
    for logger in loggers:
        if isinstance(logger, MetricsCSV):
            logger.rewind(step)
        if isinstance(logger, TensorBoardLogger):
            logger._kwargs["purge_step"] = step


def flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("optimizer.lr", 0.001), ... of a nested config; lists as text."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node if isinstance(node, int | float | str) else str(node)
