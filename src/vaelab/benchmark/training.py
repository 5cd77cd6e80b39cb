"""Images per second of training, beside what one would write by hand."""

import csv
import io
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import to_tensor

from vaelab.benchmark.alone import alone, device_of, synchronize
from vaelab.build import build_data, build_model
from vaelab.commands.train import train
from vaelab.data import InMemory
from vaelab.data.modality import Images, to_float
from vaelab.models import VAE


class Items(Dataset):
    """A dataset as tutorials have it: a PIL picture for each item, made a tensor one by one."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        array = self.x[index].permute(1, 2, 0).numpy()
        return to_tensor(Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array)), 0


def training(config: DictConfig) -> None:
    """Prints images per second and ratios. Every measurement has a process of its own.

    Raises:
        ValueError: if the data are not 8-bit images in memory, or the model is not one that the hand-written loop knows.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    fast = any(config.speed.values())
    config.paths.new_dir = None  # it names the time, which only Hydra knows
    runs: dict[str, Callable[[int], float]] = {
        "(a) hand-written loop, tensor in memory": lambda i: alone(by_hand, config, False),
        "(b) hand-written loop, ToTensor items": lambda i: alone(by_hand, config, True),
        "(c) vaelab, speed=standard": lambda i: alone(by_vaelab, config, STANDARD, folder / f"standard_{i}"),
    }
    if fast:
        runs["(d) vaelab, as composed"] = lambda i: alone(by_vaelab, config, dict(config.speed), folder / f"composed_{i}")
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(config.benchmark.rounds):
        for name, run in runs.items():
            rates[name].append(run(i))
            print(f"round {i + 1} of {config.benchmark.rounds}: {name}: {rates[name][-1]:,.0f} images/s", flush=True)
    table = Table("", "images/s", "times (a)", "times (b)", box=None, title="medians of the rounds")
    hand, tutorial, *_ = rates.values()
    for name, values in rates.items():
        ratios = [statistics.median(v / b for v, b in zip(values, base, strict=True)) for base in (hand, tutorial)]
        table.add_row(name, f"{statistics.median(values):,.0f}", *(f"{ratio:.2f}" for ratio in ratios))
    Console(width=100).print(table)


def by_hand(plain: dict[str, Any], per_item: bool) -> float:
    """Images per second of what a tutorial writes: networks, reparameterisation, the two terms, and the optimizer of the config."""
    config = OmegaConf.create({**plain, "speed": STANDARD})
    epochs, beta, binary = config.benchmark.epochs, config.objective.beta, config.likelihood._target_.endswith("Bernoulli")
    if not isinstance(beta, int | float) or not (binary or isinstance(config.likelihood.sigma, int | float)):
        raise ValueError("the hand-written loop knows a constant beta, and the likelihoods Bernoulli and Gaussian with a fixed sigma")
    device = device_of(config)
    x = images(config)
    loop = tutorial_loop(x, config.data.batch_size, device) if per_item else tensor_loop(x.to(device), config.data.batch_size)
    torch.manual_seed(config.seed)
    model = build_model(config).to(device)
    assert isinstance(model, VAE)
    encoder, decoder = model.posterior.network, model.likelihood.network
    assert isinstance(encoder, nn.Module)
    assert isinstance(decoder, nn.Module)
    optimizer = instantiate(config.optimizer)(model.parameters())
    start = 0.0
    for epoch in range(epochs + 1):
        if epoch == 1:  # the first is not measured
            synchronize(device)
            start = time.perf_counter()
        for batch in loop():
            mean, log_scale = encoder(batch).unbind(1)
            z = mean + log_scale.exp() * torch.randn_like(mean)
            output = decoder(z).squeeze(1)
            if binary:
                distortion = nn.functional.binary_cross_entropy_with_logits(output, batch, reduction="sum") / len(batch)
            else:
                distortion = nn.functional.mse_loss(output, batch, reduction="sum") / (2 * config.likelihood.sigma**2 * len(batch))
            rate = 0.5 * (mean.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).sum() / len(batch)
            loss = distortion + beta * rate
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    synchronize(device)
    return epochs * len(x) / (time.perf_counter() - start)


def images(config: DictConfig) -> Tensor:
    """The training images of the config, as they lie in memory."""
    datamodule = build_data(config)
    datamodule.setup("fit")
    split = datamodule.splits["train"]
    if not isinstance(split.dataset, InMemory) or split.dataset.x.dtype != torch.uint8 or not isinstance(datamodule.modality, Images):
        raise ValueError("the benchmark needs 8-bit images that are held in memory")
    return split.dataset.x[split.indices]


def tensor_loop(x: Tensor, batch_size: int) -> Callable[[], Iterator[Tensor]]:
    """Epochs over a tensor that stays where it is."""

    def epoch() -> Iterator[Tensor]:
        for indices in torch.randperm(len(x), device=x.device).split(batch_size):
            yield to_float(x[indices])

    return epoch


def tutorial_loop(x: Tensor, batch_size: int, device: torch.device) -> Callable[[], Iterator[Tensor]]:
    """Epochs over a DataLoader as tutorials set it up."""
    loader = DataLoader(Items(x), batch_size=batch_size, shuffle=True)
    return lambda: (batch.to(device) for batch, _ in loader)


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


STANDARD = {"channels_last": False, "bf16": False, "compile": False}
