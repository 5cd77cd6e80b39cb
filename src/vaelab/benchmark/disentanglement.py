"""The seconds that the disentanglement scores of a model take."""

import time
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from vaelab.benchmark.alone import alone, device_of
from vaelab.build import build_data, build_model
from vaelab.metrics.disentanglement import disentanglement


def scoring(config: DictConfig) -> None:
    """Prints the seconds of `vaelab.metrics.disentanglement.disentanglement` with its default samples, 10,000 to learn from."""
    seconds = alone(seconds_of_scores, config)
    Console(width=100).print(f"disentanglement scores of 10,000 samples of {config.data.name}: {seconds:.0f} s")


def seconds_of_scores(plain: dict[str, Any]) -> float:
    """Seconds for the model of the config, which is not trained: its codes are as long to score."""
    config = OmegaConf.create(plain)
    torch.manual_seed(config.seed)
    model = build_model(config).to(device_of(config))
    data: Any = build_data(config)
    start = time.perf_counter()
    disentanglement(model, data)
    return time.perf_counter() - start
