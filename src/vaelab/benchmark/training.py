"""Images per second of training, beside what one would write by hand."""

import csv
import io
import statistics
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from vaelab.benchmark.alone import alone, device_of
from vaelab.benchmark.loops import by_hand
from vaelab.benchmark.pythae import by_pythae
from vaelab.commands.train import train
from vaelab.runs.provenance import processor
from vaelab.training.fastest import STANDARD


def training(config: DictConfig) -> None:
    """Prints images per second and ratios. Every measurement has a process of its own.

    Raises:
        ValueError: if the data are not 8-bit images in memory, or the model is not one that the hand-written loop knows.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    config.paths.new_dir = None  # it names the time, which only Hydra knows
    runs: dict[str, Callable[[int], float]] = {
        "(a) hand-written loop, tensor in memory": lambda i: alone(by_hand, config),
        "(b) hand-written loop, ToTensor items": lambda i: alone(by_hand, config, True),
        "(c) as (a), keeping freed memory": lambda i: alone(by_hand, config, False, False, True),
        "(d) as (c), vaelab's model and objective": lambda i: alone(by_hand, config, False, True, True),
        "(e) vaelab, speed=standard": lambda i: alone(by_vaelab, config, STANDARD, folder / f"standard_{i}"),
    }
    if {name: config.speed[name] for name in STANDARD} != STANDARD or config.speed.candidates:
        runs["(f) vaelab, as composed"] = lambda i: alone(by_vaelab, config, dict(config.speed), folder / f"composed_{i}")
    if find_spec("pythae"):
        runs["(g) pythae"] = lambda i: alone(by_pythae, config)
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(config.benchmark.rounds):
        for name, run in runs.items():
            rates[name].append(run(i))
            print(f"round {i + 1} of {config.benchmark.rounds}: {name}: {rates[name][-1]:,.0f} images/s", flush=True)
    where = f"{device_of(config).type}: {processor()}, {torch.get_num_threads()} threads"
    bases = list(rates)[:4]
    table = Table("", "images/s", *(f"times {name[:3]}" for name in bases), box=None, title=f"medians of the rounds; {where}")
    for name, values in rates.items():
        ratios = [statistics.median(v / b for v, b in zip(values, rates[base], strict=True)) for base in bases]
        table.add_row(name, f"{statistics.median(values):,.0f}", *(f"{ratio:.2f}" for ratio in ratios))
    Console(width=100).print(table)


def by_vaelab(plain: dict[str, Any], speed: dict[str, bool], folder: Path) -> float:
    """Images per second of `vaelab.commands.train.train`, as its own metrics.csv has them, but for the first epoch."""
    config = OmegaConf.create({**plain, "speed": speed})
    config.paths.run_dir, config.trainer.max_epochs = str(folder), config.benchmark.epochs + 1
    with redirect_stdout(io.StringIO()):
        train(config)
    return rate_of(folder)


def rate_of(run: Path) -> float:
    """Images per second of a run, but for its first epoch."""
    with (run / "metrics.csv").open(newline="") as file:
        rates = [float(row["train/images_per_second"]) for row in csv.DictReader(file) if row["train/images_per_second"]]
    return statistics.harmonic_mean(rates[1:])
