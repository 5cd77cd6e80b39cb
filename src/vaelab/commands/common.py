"""Parts that several commands share."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich import get_console
from rich.progress import track
from torch import Tensor

from vaelab.build import OpenedRun, open_run
from vaelab.checks import check_choice, check_whole
from vaelab.commands.overrides import must_be_text
from vaelab.data import DataModule
from vaelab.metrics.progress import progress
from vaelab.runs.claims import check_links
from vaelab.runs.configs import flatten
from vaelab.runs.folder import CONFIG, RunFolder
from vaelab.runs.log import record
from vaelab.training.speed import keep_freed_memory


def check_given(config: DictConfig) -> None:
    """Raise if a value that has no default is not given.

    Raises:
        ValueError: if one is not, with its name.
    """
    if not isinstance(config.get("run", ""), str | None):
        raise ValueError(f"run={config.run} must be the name of a folder or file: if it is one, write run='{config.run}'")
    values = flatten(OmegaConf.to_container(config, resolve=False))
    missing = [key for key, value in values.items() if value == "???" or (key, value) == ("run", None)]
    if missing:
        raise ValueError(f"{' and '.join(missing)} must be given: {' '.join(f'{key}=...' for key in missing)}")


def check_counts(config: DictConfig, optional: Sequence[str] = (), prefix: str = "", **least: int) -> None:
    """Raise if a count is no whole number of at least so much; null stands for all where it may.

    Args:
        config: of the counts.
        optional: names of those that may be null.
        prefix: of their names, where the whole config has them.
        least: of each count.

    Raises:
        ValueError: if one is not, or is too small.
    """
    for name, smallest in least.items():
        value = config[name]
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= smallest
        if not whole and not (value is None and name in optional):
            raise ValueError(f"{prefix}{name}={value} must be a whole number of at least {smallest}")


def prepare_process() -> None:
    """Keep freed memory, and silence what Lightning announces: it is in the config or in the summary. Its other warnings stay."""
    keep_freed_memory()
    if HydraConfig.initialized():  # on the command line
        warnings.showwarning = show_warning
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval")  # validation is logged anyway
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty")  # as it must when a run goes on
    warnings.filterwarnings("ignore", message=".*`srun` command is available")  # a machine with SLURM need not be used through it
    warnings.filterwarnings("ignore", message="Embedding dir exists")  # the projector of a run that goes on is written anew
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")  # the data module begins where it stopped
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)  # of torch, called by Lightning


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning without the line of code that it comes from, and keep it in train.log."""
    text = f"warning: {message}"
    print(text, file=sys.stderr)
    record(text)


def chosen_run(config: DictConfig, run: str | None = None) -> OpenedRun:
    """The run that a command was given, into whose folder it will write.

    Args:
        config: of the command.
        run: another one than config.run.

    Raises:
        ValueError: as `open_run`, if the seed is no whole number, or a link in its folder leads elsewhere.
    """
    check_whole(0, seed=config.seed)
    opened = open_run(run or config.run, config.checkpoint, places_of_data(config), config.trust)
    if not config.trust:
        check_links(opened.folder.path)
    return opened


def places_of_data(config: DictConfig) -> dict[str, Any]:
    """Places of data that a command was told, by the keys of a run: see `vaelab.build.move_data`."""
    found = {"paths.data_dir": config.paths.data_dir, "download": config.download}
    found |= {f"data.{key}": value for key, value in config.data.items()}
    return {key: value for key, value in found.items() if value is not None}


def chosen_device(config: DictConfig) -> torch.device:
    """A GPU if there is one, unless accelerator=cpu.

    Raises:
        ValueError: if accelerator is neither auto nor cpu.
    """
    check_choice(("auto", "cpu"), accelerator=config.accelerator)
    return torch.device("cuda" if torch.cuda.is_available() and config.accelerator != "cpu" else "cpu")


def chosen_folder(output: Any, default: Path) -> Path:
    """The folder that a command was given with output=, or the one that is its own.

    Raises:
        ValueError: if it is no text, a file, or a run folder, whose results would be written over.
    """
    if not isinstance(output, str | None):
        raise ValueError(must_be_text("output", str(output)))
    folder = default if output is None else Path(output)
    if folder.is_file():
        raise ValueError(f"output={folder} is a file: give the name of a folder")
    if RunFolder(folder).is_run(CONFIG):  # whatever results it holds: those of commands have the name of a run's
        raise ValueError(f"output={folder} is the folder of a run: give another, such as output={folder / 'mine'}")
    return folder


def is_watched() -> bool:
    """True if a person looks on while this process prints: on a terminal or in a notebook, where a bar can move."""
    console = get_console()
    return console.is_terminal or console.is_jupyter


def shorter(path: Path) -> Path:
    """The path relative to the working directory, if it lies below it."""
    return Path(os.path.relpath(path)) if path.absolute().is_relative_to(Path.cwd()) else path


class WithProgress:
    """A data module whose passes over the data show how far they are."""

    def __init__(self, data: DataModule, description: str) -> None:
        self.data, self.description = data, description

    @property
    def splits(self) -> Mapping[str, Any]:
        return self.data.splits

    def setup(self, stage: str) -> None:
        self.data.setup(stage)

    def batches(self, split: str, device: torch.device | str = "cpu") -> Iterator[tuple[Tensor, Tensor]]:
        self.setup("test" if split == "test" else "fit")
        size = self.data.batch_size if split == "train" else self.data.eval_batch_size
        total = -(-len(self.splits[split]) // size)
        batches, what = self.data.batches(split, device), f"{self.description} on {split} data"
        yield from track(batches, what, total=total, transient=True) if is_watched() else progress(what, batches, total)
