"""A run goes on in its folder: what may change on the way, and what becomes of what it had logged."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger

from vaelab.checks import check_choice
from vaelab.data.record import Record, check_record
from vaelab.runs.configs import IMMATERIAL, Use, differences, is_immaterial
from vaelab.runs.files import read_json
from vaelab.runs.folder import RunFolder
from vaelab.training.metrics_csv import MetricsCSV
from vaelab.training.signals import was_requeued

LENGTH = ("max_epochs", "max_steps", "accumulate_grad_batches", "limit_train_batches", "overfit_batches")


def is_resumed(config: Mapping[str, Any]) -> bool:
    """True if a run that is found in the folder is to be continued, which a job that SLURM has started again always does.

    Raises:
        ValueError: if `existing` is neither refuse nor resume.
    """
    existing = config.get("existing", "refuse")
    check_choice(("refuse", "resume"), existing=existing)
    return existing == "resume" or was_requeued()


def finished_bound(run: RunFolder, stored: Mapping[str, Any] | None, config: Mapping[str, Any]) -> float | None:
    """val/bound of a run that has nothing left to do; None if it has, or was made longer since.

    Args:
        run: the run.
        stored: its last checkpoint; None if it wrote none.
        config: what it is to be gone on with.

    Raises:
        DamagedFile: if its results cannot be read.
    """
    results = run.results()
    val = results.get("val") or {}
    bound = val.get("bound", val.get("elbo"))  # older results have one of them
    if stored is None or bound is None:
        return bound
    same = all(stored["config"]["trainer"].get(name) == config["trainer"].get(name) for name in LENGTH)
    return bound if same and results.get("steps") == stored["global_step"] else None


def check_changes(stored: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Raise if a run would learn something else when it goes on, or for longer than its learning rate was planned for.

    Args:
        stored: the config of the run.
        changes: dotted keys and their new values.

    Raises:
        ValueError: if it would.
    """
    for key, value in changes.items():
        is_dial = isinstance(value, str) and isinstance(stored.get(key, {}), Mapping) and "." not in key
        if is_dial or not is_immaterial(key, Use.RESUME):
            free = [row.key for row in IMMATERIAL if Use.RESUME in row.uses]
            allowed = ", ".join(key for key in free if key.rpartition(".")[0] not in free)
            raise ValueError(f"{key}={value} cannot be changed when a run is continued; what can are values (not dials) of {allowed}")
    changed = {key.removeprefix("trainer."): value for key, value in changes.items() if key.startswith("trainer.")}
    check_planned(stored, {**stored["trainer"], **changed})


def check_same_run(run: RunFolder, stored: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise if what is learned differs between the stored config of a run and the one that it is to be gone on with.

    Raises:
        ValueError: if it does, with every difference.
    """
    found = differences(stored, config, Use.RESUME)
    if found:
        words = "\n  ".join(found)
        raise ValueError(f"{run} holds a run of another config:\n  {words}\nChoose another folder, or remove that one")
    check_planned(stored, config["trainer"])


def check_planned(stored: Mapping[str, Any], trainer: Mapping[str, Any]) -> None:
    """Raise if a learning rate that was planned over all steps of training would have to last for another number of them.

    Args:
        stored: the config of the run.
        trainer: the options of the trainer that it is to go on with.

    Raises:
        ValueError: if it would.
    """
    scheduler = stored.get("scheduler") or {}
    is_planned = "num_steps" in scheduler and scheduler["num_steps"] is None
    by_epochs = "trainer.max_epochs" in str(scheduler)
    for name in LENGTH if is_planned else LENGTH[:1] if by_epochs else ():
        before, now = stored["trainer"].get(name), trainer.get(name)
        if before != now:
            raise ValueError(
                f"the learning rate of this run was planned for trainer.{name}={before}, and not for {now}: train anew with"
                " scheduler=none, or with pretrained=<this run>"
            )


def check_resumable(stored: Mapping[str, Any], trainer: lightning.Trainer) -> None:
    """Raise if a trainer cannot go on from a checkpoint.

    Raises:
        ValueError: if trainer.max_epochs are behind it already, other processes would share the rest of an epoch, or the weights that were
            trained are not those of the checkpoint, but were averaged.
    """
    if "averaging_state" in stored and not any(isinstance(each, WeightAveraging) for each in trainer.callbacks):  # type: ignore[attr-defined]
        raise ValueError("this run averages its weights, and cannot go on from the averages alone: keep callbacks.ema")
    place = stored.get("place", {"epoch": stored["epoch"] + 1, "batch": 0})
    if 0 <= (trainer.max_epochs or 0) < place["epoch"]:
        raise ValueError(
            f"this run has finished {place['epoch']} epochs, which is more than trainer.max_epochs={trainer.max_epochs}: to train on,"
            f" set it to more than {place['epoch']}"
        )
    if place["batch"] and place["num_processes"] != trainer.world_size:
        raise ValueError(
            f"this run was stopped in the middle of an epoch whose examples {place['num_processes']} processes share; go on with as many"
            f" of them to its end, instead of {trainer.world_size}"
        )


def rewind(loggers: list[Any], step: int) -> None:
    """Make loggers forget what a killed run logged after the checkpoint that it goes on from."""
    for logger in loggers:
        if isinstance(logger, MetricsCSV):
            logger.rewind(step)
        if isinstance(logger, TensorBoardLogger):
            logger._kwargs["purge_step"] = step
            put_before_now(Path(logger.log_dir))


def put_before_now(folder: Path) -> None:
    """Rename event files of a time to come, which a clock that is set back leaves: TensorBoard reads files in the order of these times."""
    now, pattern = int(time.time()), re.compile(r"events\.out\.tfevents\.(\d+)\.(.*)")
    found = [match for path in sorted(folder.glob("events.out.tfevents.*")) if (match := pattern.fullmatch(path.name))]
    late = [match for match in found if int(match[1]) >= now]
    for before, match in enumerate(reversed(late), start=1):
        (folder / match[0]).rename(folder / f"events.out.tfevents.{now - before:010}.{match[2]}")


def recorded_split(run: RunFolder) -> Record:
    """The record of what a run was trained on; {} if it has none, as older runs.

    Raises:
        ValueError: if it is damaged.
    """
    return check_record(read_json(run.split, "remove it to split anew")) if run.split.is_file() else {}
