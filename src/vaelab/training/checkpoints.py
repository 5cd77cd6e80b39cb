"""Checkpoints: how they are written, and the place in training that they hold."""

import errno
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from vaelab.runs.folder import PREVIOUS


def model_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the model, by the names that it knows, in the state of a LightningModule."""
    prefix = "model."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the one that it replaces, and lets it take its name when all of it is on the disk.

    Lightning writes to the directory for temporary files and moves the file from there. On another file system, as it is on most
    clusters, to move is to copy: a process killed meanwhile would leave half a checkpoint where a good one was.

    Args:
        run: the run folder.

    Raises:
        FileNotFoundError: when a checkpoint is saved, if that folder has been removed: it must not come to life again, half empty.
    """

    def __init__(self, run: Path) -> None:
        self.run = run

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None) -> None:
        path = Path(path)
        if not self.run.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.run))
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        part = path.with_name(f"{path.name}.part")
        part.unlink(missing_ok=True)
        try:
            with part.open("xb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
        except OSError:  # a full disk, on which half a file takes the room that others need
            part.unlink(missing_ok=True)
            raise
        if path.name == "last.ckpt" and path.is_file():
            keep(path, path.with_name(PREVIOUS))
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # or a machine that loses power may forget the new name
        finally:
            os.close(folder)


def keep(path: Path, name: Path) -> None:
    """Let a file that is about to be replaced live on under another name; at no time is there none of its own."""
    link = name.with_name(f"{name.name}.part")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:  # of a file system without links: the new one alone has to do
        return
    link.replace(name)


def move_best(checkpoint: dict[str, Any], trainer: Trainer) -> None:
    """Let the best checkpoints that are noted in a checkpoint be those in the folder of the run, which may have been moved or copied.

    Lightning notes absolute paths, and forgets the scores if the folder has another name: the next checkpoint would then be the best.
    What is no longer there is forgotten.
    """
    states = checkpoint["callbacks"]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ModelCheckpoint) and callback.state_key in states:
            states[callback.state_key] = moved_state(states[callback.state_key], str(callback.dirpath))


def moved_state(state: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """The state of a ModelCheckpoint whose files are in another folder now."""

    def here(path: str) -> str:
        return path and os.path.normpath(os.path.join(folder, os.path.relpath(path, state["dirpath"])))

    found = {here(path): score for path, score in state["best_k_models"].items()}
    paths = {key: here(value) for key, value in state.items() if key.endswith("_path")}
    return {
        **state,
        **{key: path if os.path.isfile(path) else "" for key, path in paths.items()},
        "dirpath": folder,
        "best_k_models": {path: score for path, score in found.items() if os.path.isfile(path)},
    }


def place(trainer: Trainer, validate: bool = False) -> dict[str, Any]:
    """The place of training: `batch` batches of epoch `epoch` are done, both counted from 0.

    Args:
        trainer: asked in any hook of a callback between on_train_batch_end and on_train_epoch_end.
        validate: whether the validation that is due after that batch has not been done.
    """
    loop = trainer.fit_loop
    epochs: Any = loop.epoch_progress.current
    batches: Any = loop.epoch_loop.batch_progress.current
    epoch, batch = epochs.processed, batches.processed
    last = batch >= trainer.num_training_batches
    if epochs.started == epochs.processed:  # the loop counts the epoch as done, also if max_steps ended it before its last batch
        epoch, batch, last = (epoch, 0, False) if last else (epoch - 1, batch, False)
    return {"epoch": epoch, "batch": batch, "last": last, "validate": validate, "num_processes": trainer.world_size}


def set_loops(checkpoint: dict[str, Any], trainer: Trainer) -> None:
    """Make the counters of Lightning's loops in a checkpoint those from which they go on at its place.

    The loops tell from small differences of their counters at which point of their code they were left. A checkpoint can be written
    at points that they cannot tell apart, or go on from with a validation left out, a step counted twice or, with trainer.max_steps,
    another order of the data.
    """
    at, fit = checkpoint["place"], checkpoint["loops"]["fit_loop"]
    epoch, batch, steps = at["epoch"], at["batch"], checkpoint["global_step"]
    batches, epochs = fit["epoch_loop.batch_progress"], fit["epoch_progress"]
    total = batches["total"]["processed"]
    if batch == 0:
        if trainer.max_steps == -1:
            return  # the end of an epoch, which Lightning knows
        # as if the last epoch had been left after its last batch, with its validation done
        epoch, batch, at = epoch - 1, batches["current"]["processed"], at | {"last": True}
        finished = 1
    else:
        finished = 0
    behind = 0 if at["validate"] else 1
    epochs["total"] = counters(epoch + 1, epoch + 1, epoch, epoch)
    epochs["current"] = counters(epoch + 1 + finished, epoch + 1 + finished, epoch, epoch)
    batches["total"] = counters(total, total, total, total - behind)
    batches["current"] = counters(batch, batch, batch, batch - behind)
    batches["is_last_batch"] = at["last"]
    accumulates = batch % trainer.accumulate_grad_batches != 0 and not at["last"]
    fit["epoch_loop.state_dict"]["_batches_that_stepped"] = steps if accumulates else steps - 1
    validation = counters(1, 1, 0, 0) if at["validate"] else counters(0, 0, 0, 0)
    fit["epoch_loop.val_loop.batch_progress"] = {"total": validation, "current": dict(validation), "is_last_batch": False}


def counters(ready: int, started: int, processed: int, completed: int) -> dict[str, int]:
    """The record that Lightning keeps of a loop."""
    return {"ready": ready, "started": started, "processed": processed, "completed": completed}
