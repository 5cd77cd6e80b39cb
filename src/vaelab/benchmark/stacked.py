"""Images a second of models that train as one stack, beside the same models one after another; and jobs an hour of a whole sweep."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from torch import Generator, Tensor, nn

from vaelab.benchmark.alone import alone
from vaelab.build import build
from vaelab.commands.composing import compose
from vaelab.runs.provenance import processor
from vaelab.training.speed import keep_freed_memory
from vaelab.training.stacking.stack import Stack, Trained
from vaelab.training.stacking.updates import Updates

NUM_IMAGES = 10_000  # of random pixels
WORDS = ("data=mnist_binarized", "encoder=mlp", "decoder=mlp")  # of the config, whose data are not read


def stacked(config: DictConfig) -> None:
    """Prints how many times faster each stack of `benchmark.stacked` trains than its models one after another, on one thread.

    Raises:
        ValueError: if a model is not pixels-hidden-latent, batch, number.
    """
    table = Table("model, batch", "M", "one by one, images/s", "as one stack", "times", box=None, title=f"{processor()}, one thread")
    for words in config.benchmark.stacked.models:
        single, together, ratio = alone(rates_of_stack, config, list(words))
        pixels, hidden, latent, size, num = words
        table.add_row(f"{pixels}-{hidden}-{latent}, {size}", str(num), f"{single:,.0f}", f"{together:,.0f}", f"{ratio:.2f}")
    if table.row_count:
        Console(width=100).print(table)
    if config.benchmark.stacked.jobs:
        whole_sweeps(config)


def rates_of_stack(plain: dict[str, Any], words: list[int]) -> tuple[float, float, float]:
    """Images a second of M models one by one, written by hand, and as one stack; and the median of the ratios of the rounds."""
    torch.set_num_threads(1)
    keep_freed_memory()
    pixels, *_, size, num = words
    options = OmegaConf.create(plain).benchmark.stacked
    x = torch.rand(NUM_IMAGES, pixels, generator=Generator().manual_seed(0)).round()
    steps = [one_by_one(x, words), as_stack(x, words)]
    for step in steps:
        for _ in range(3):
            step()
    repeated = max(2, round(options.seconds / timed(steps[0], 1)))
    found = [[timed(step, repeated) for step in steps] for _ in range(options.rounds)]
    images = repeated * num * size
    single, together = (images / statistics.median(times) for times in zip(*found, strict=True))
    return single, together, statistics.median(one / other for one, other in found)


def timed(step: Callable[[], None], repeated: int) -> float:
    """Seconds of so many steps."""
    start = time.perf_counter()
    for _ in range(repeated):
        step()
    return time.perf_counter() - start


def models(words: Sequence[int]) -> list[Trained]:
    """The models, each of another seed."""
    pixels, hidden, latent, _, num = words
    config = compose(*WORDS, f"data.shape=[{pixels}]", f"encoder.hidden=[{hidden}]", f"decoder.hidden=[{hidden}]", f"latent_dim={latent}")
    found = []
    for seed in range(num):
        torch.manual_seed(seed)
        lit = build(config)
        found.append(Trained(lit.model, lit.objective))
    return found


def one_by_one(x: Tensor, words: Sequence[int]) -> Callable[[], None]:
    """A step of each model, one after another, as a tutorial writes it."""
    size, found = words[3], models(words)
    vaes: list[Any] = [each.model for each in found]
    networks = [(vae.posterior.network, vae.likelihood.network) for vae in vaes]
    optimizers = [torch.optim.Adam(each.parameters(), lr=1e-3, fused=True) for each in found]

    def step() -> None:
        for (encoder, decoder), optimizer in zip(networks, optimizers, strict=True):
            batch = x[torch.randint(len(x), (size,))]
            optimizer.zero_grad()
            mean, log_scale = encoder(batch).unbind(1)
            logits = decoder(mean + log_scale.exp() * torch.randn_like(mean)).squeeze(1)
            distortion = nn.functional.binary_cross_entropy_with_logits(logits, batch, reduction="sum") / size
            rate = 0.5 * (mean.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).sum() / size
            (distortion + rate).backward()
            optimizer.step()

    return step


def as_stack(x: Tensor, words: Sequence[int]) -> Callable[[], None]:
    """A step of all models as one stack, with the check of their losses."""
    pixels, _, _, size, num = words
    found = models(words)
    stack, generators, y = Stack(found), [Generator().manual_seed(i) for i in range(num)], torch.zeros(num, size, dtype=torch.long)
    updates = Updates(stack, [torch.optim.Adam(each.parameters(), lr=1e-3, fused=True) for each in found])

    def step() -> None:
        terms, gradients = stack.step(x[torch.randint(len(x), (num * size,))].view(num, size, pixels), y, [0] * num, generators)
        if bool(terms["loss"].isfinite().all()):
            updates.step(gradients)

    return step


def whole_sweeps(config: DictConfig) -> None:
    """Prints jobs an hour of a sweep over seeds under launcher=joblib and launcher=stacked, with two jobs at a time, and its parts."""
    options, folder = config.benchmark.stacked, Path(HydraConfig.get().runtime.output_dir)
    table = Table("launcher", "jobs an hour", "times", "training of a job, s", "the rest of it, s", box=None, title="whole sweeps")
    speeds = []
    for launcher in ("joblib", "stacked"):
        place = folder / launcher
        words = [f"launcher={launcher}", "hydra.launcher.n_jobs=2", f"hydra.sweep.dir={place}", f"seed=range({options.jobs})"]
        line = [sys.executable, "-m", "vaelab", "train", "-m", *options.words, f"trainer.max_steps={options.steps}", *words]
        start = time.monotonic()
        done = subprocess.run(line, capture_output=True, text=True)
        seconds = time.monotonic() - start
        if done.returncode:
            raise ValueError(f"{' '.join(line)} failed:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
        results = [json.loads(path.read_text()) for path in place.glob("*/results.json")]
        training = statistics.median(found["train_time_s"] for found in results)
        rest = statistics.median(found["wall_time_s"] - found["train_time_s"] for found in results)
        speeds.append(3600 * options.jobs / seconds)
        table.add_row(launcher, f"{speeds[-1]:,.0f}", f"{speeds[-1] / speeds[0]:.2f}", f"{training:.1f}", f"{rest:.1f}")
        print(f"{launcher}: {options.jobs} jobs of {options.steps:,} steps took {seconds:,.0f} s", flush=True)
    Console(width=100).print(table)
