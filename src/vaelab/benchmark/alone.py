"""A process for each measurement, so that none inherits another's memory or threads."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from vaelab.commands.errors import UserError, in_words


def alone(measure: Callable[..., Any], config: DictConfig, *arguments: Any, seconds: float | None = None) -> Any:
    """measure(config, *arguments), in a new process, forked from one that has imported what it needs and computed nothing.

    Args:
        measure: a function of a module.
        config: its first argument, as plain types.
        arguments: its others.
        seconds: after which the process is killed; None: it may take as long as it likes.

    Raises:
        TimeoutError: if it was killed.
    """
    plain: Any = OmegaConf.to_container(config, resolve=False)
    context = get_context("forkserver")
    context.set_forkserver_preload(["vaelab.benchmark"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(said, measure, plain, *arguments).result(seconds)
        except TimeoutError:
            for process in active_children():
                process.kill()
            raise


def said(measure: Callable[..., Any], plain: dict[str, Any], *arguments: Any) -> Any:
    """measure(plain, *arguments).

    Raises:
        UserError: for an error that a user can mend. Its sentence is made here, because another process does not know where it was raised.
    """
    try:
        return measure(plain, *arguments)
    except Exception as error:
        message = in_words(error, OmegaConf.create(plain))
        if message is None:
            raise
    raise UserError(message)


def device_of(config: DictConfig) -> torch.device:
    """The device on which the config trains."""
    return torch.device("cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu")


def synchronize(device: torch.device) -> None:
    """Waits for what a GPU has been asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
