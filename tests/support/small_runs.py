"""Runs composed from conf/ and trained in temporary folders, on data that need no download."""

import csv
from pathlib import Path
from typing import Any

import torch
from forked_scripts import ROOT
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

SUPPORT = Path(__file__).parent
# a run of seconds: discs of 16 x 16 pixels and a small MLP
SMALL = [
    "data=circles",
    "data.size=16",
    "data.batch_size=32",
    "data.val_size=64",
    "data.dataset.num_train=256",
    "data.dataset.num_test=96",
    "encoder=mlp",
    "decoder=mlp",
    "encoder.hidden=[32]",
    "decoder.hidden=[32]",
    "latent_dim=2",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=3",
    "trainer.enable_progress_bar=false",
    "evaluation.metrics.likelihood.num_samples=4",
    "evaluation.metrics.likelihood.num_images=20",
]
# without what is only looked at
QUICK = ["evaluation.figures=false", "evaluation.report=false", "~callbacks.pictures", "~callbacks.first_batch"]


def composed(overrides: list[str], folder: Path, config_name: str = "config") -> DictConfig:
    """The config of a command line, for a run in `folder`."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose(config_name, overrides)
    if config_name == "config":
        config.paths.run_dir = str(folder)
    return config


def train_small(folder: Path, *overrides: str) -> Path:
    """Trains a small model in `folder` and returns it."""
    from vaelab.commands.train import train

    train(composed([*SMALL, *overrides], folder))
    return folder


def rows_of(run: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv."""
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def best_score(run: Path) -> float:
    """The best bound that was logged while training."""
    return max(float(row["val/bound"]) for row in rows_of(run) if row["val/bound"])


def same(a: Any, b: Any) -> bool:
    """True if two states are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b
