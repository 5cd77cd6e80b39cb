"""A process for each measurement, so that none inherits another's memory or threads."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf


def alone(measure: Callable[..., Any], config: DictConfig, *arguments: Any) -> Any:
    """measure(config, *arguments), in a new process."""
    plain = OmegaConf.to_container(config, resolve=False)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, plain, *arguments).result()


def device_of(config: DictConfig) -> torch.device:
    """The device on which the config trains."""
    return torch.device("cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu")


def synchronize(device: torch.device) -> None:
    """Waits for what a GPU has been asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
