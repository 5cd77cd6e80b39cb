"""Parts that several commands share."""

import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich import get_console
from rich.progress import track
from torch import Tensor

from vaelab.build import DIALS, OpenedRun, open_run
from vaelab.checks import check_choice, check_whole
from vaelab.data import DataModule
from vaelab.metrics.progress import progress
from vaelab.runs.claims import check_links
from vaelab.runs.configs import flatten
from vaelab.runs.log import record
from vaelab.training.speed import keep_freed_memory

P = ParamSpec("P")
T = TypeVar("T")
PACKAGE = Path(__file__).parent.parent


class UserError(ValueError, CompactHydraException):
    """A ValueError that Hydra prints as its message alone."""


def report_errors(function: Callable[P, T]) -> Callable[P, T]:
    """A function whose errors the command line shows in a sentence if a user can mend them, unless HYDRA_FULL_ERROR=1 asks for all."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            message = in_words(error)
            if message is None or not HydraConfig.initialized() or os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
        raise UserError(message)

    return wrapper


def in_words(error: Exception) -> str | None:
    """The sentence in an error of this package, of Hydra, of OmegaConf or of Lightning about a config; None for other errors."""
    text = " ".join(line for line in str(error).splitlines() if line.strip() and not re.match(r" *(full_key|object_type)[:=]", line))
    key = str(error).partition("full_key: ")[2].split("\n")[0].strip()
    if isinstance(error, InstantiationException):
        absent, cause = re.search(r"Error locating target '([\w.]+)'", text), error.__cause__
        if absent:
            return f"there is no {absent[1]}: is the folder of its module on the path, as in PYTHONPATH=. vaelab ...?"
        if cause is None:
            return f"{key}: {text}" if key else text
        return with_key(cause, key) if is_ours(cause) else f"{key}: {cause}"
    if isinstance(error, OmegaConfBaseException):
        return f"{key}: {text}" if key and key not in text else text
    if isinstance(error, MisconfigurationException) or is_ours(error):
        return str(error)
    return of_worker(error)


def of_worker(error: BaseException) -> str | None:
    """The sentence in a ValueError that code of this package has raised in a process that loads data; None for other errors."""
    _, _, told = str(error).partition("Original Traceback (most recent call last):\n")
    files, (_, is_value_error, message) = re.findall(r'^  File "(.+?)", line', told, re.M), told.rpartition("\nValueError: ")
    return message.strip() if is_value_error and files and Path(files[-1]).is_relative_to(PACKAGE) else None


def is_ours(error: BaseException) -> bool:
    """True for a ValueError that code of this package has raised."""
    calls = frames(error)
    return isinstance(error, ValueError) and bool(calls) and Path(calls[-1].f_code.co_filename).is_relative_to(PACKAGE)


def frames(error: BaseException) -> list[FrameType]:
    """The calls that an error has passed through, from the outermost on."""
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def with_key(error: BaseException, key: str) -> str:
    """The message of an object that Hydra could not build; an argument of it has its name in the config.

    `num_samples=0 must be ...` becomes `objective.num_samples=0 must be ...`. What another object says that this one builds for itself
    stays as it is.
    """
    code = frames(error)[1].f_code  # of the call that Hydra makes
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    name, part = re.match(r"(\w+)=", str(error)), key.removeprefix("model.")
    dial = part if part in DIALS else key  # model.posterior is ${posterior}
    return f"{dial}.{error}" if key and name and name[1] in arguments else str(error)


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


def below(folder: Path, name: Any) -> Path:
    """A folder of that name in another.

    Raises:
        ValueError: if the name leads elsewhere.
    """
    if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
        raise ValueError(f"name={name} must be the name of a folder, such as name=mine")
    return folder / name


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
