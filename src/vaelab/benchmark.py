"""How many images a second are trained on, beside what one would write by hand."""

import csv
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

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

from vaelab.data import InMemory
from vaelab.experiment import build_data, build_model, train

Loop = Callable[[], Iterable[Tensor]]  # one epoch of batches of x in [0, 1]


class Pictures(Dataset):
    """A dataset as tutorials have it: a PIL picture for each item, made a tensor one by one."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        array = self.x[index].permute(1, 2, 0).numpy()
        return to_tensor(Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array)), 0


def benchmark(config: DictConfig) -> None:
    """Prints images per second and ratios.

    Raises:
        ValueError: if the data are not 8-bit images in memory, or the model is not one that the hand-written loop knows.
    """
    options, folder = config.benchmark, Path(HydraConfig.get().runtime.output_dir)
    datamodule = build_data(config)
    datamodule.setup("fit")
    split = datamodule.splits["train"]
    if not isinstance(split.dataset, InMemory) or split.dataset.x.dtype != torch.uint8 or len(datamodule.shape) != 3:
        raise ValueError("the benchmark needs 8-bit images that are held in memory")
    x = split.dataset.x[split.indices]
    device = torch.device("cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu")
    resident = x.to(device)
    loader = DataLoader(Pictures(x), batch_size=datamodule.batch_size, shuffle=True)

    def in_memory() -> Iterator[Tensor]:
        for indices in torch.randperm(len(x), device=device).split(datamodule.batch_size):
            yield resident[indices].float().div_(255)

    def tutorial() -> Iterator[Tensor]:
        for batch, _ in loader:
            yield batch.to(device)

    runs: dict[str, Callable[[int], float]] = {
        "(a) hand-written loop over a tensor": lambda i: by_hand(config, in_memory, len(x), device),
        "(b) hand-written loop over ToTensor items": lambda i: by_hand(config, tutorial, len(x), device),
        "(c) vaelab, speed=standard": lambda i: by_vaelab(config, "standard", folder / f"standard_{i}"),
    }
    if config.speed.bf16 or config.speed.compile or config.speed.channels_last:
        runs["(d) vaelab, speed=fast"] = lambda i: by_vaelab(config, "fast", folder / f"fast_{i}")
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(options.rounds):
        for name, run in runs.items():
            rates[name].append(run(i))
            Console().print(f"round {i + 1}: {name}: {rates[name][-1]:,.0f} images/s", highlight=False)
    hand, *_ = rates.values()
    table = Table("", "images/s (median)", "of (a) (median of rounds)", box=None)
    for name, values in rates.items():
        ratio = statistics.median(value / base for value, base in zip(values, hand, strict=True))
        table.add_row(name, f"{statistics.median(values):,.0f}", f"{ratio:.2f}")
    Console().print(table)


def by_hand(config: DictConfig, loop: Loop, num_images: int, device: torch.device) -> float:
    """Images per second of what a tutorial writes: networks, reparameterisation, the two terms, Adam."""
    epochs = config.benchmark.epochs
    torch.manual_seed(config.seed)
    model = build_model(OmegaConf.merge(config, {"speed": STANDARD})).to(device)  # type: ignore[arg-type]
    encoder, decoder = model.posterior.network, model.likelihood.network
    assert isinstance(encoder, nn.Module)
    assert isinstance(decoder, nn.Module)
    optimizer = instantiate(config.optimizer)(model.parameters())
    beta, binary = config.objective.beta, config.likelihood._target_.endswith("Bernoulli")
    if not isinstance(beta, int | float) or not (binary or isinstance(config.likelihood.sigma, int | float)):
        raise ValueError("the hand-written loop knows a constant beta, and the likelihoods Bernoulli and Gaussian with a fixed sigma")
    start = 0.0
    for epoch in range(epochs + 1):
        if epoch == 1:  # the first is not measured
            synchronize(device)
            start = time.perf_counter()
        for x in loop():
            mean, log_scale = encoder(x).unbind(1)
            z = mean + log_scale.exp() * torch.randn_like(mean)
            output = decoder(z).squeeze(1)
            if binary:
                distortion = nn.functional.binary_cross_entropy_with_logits(output, x, reduction="sum") / len(x)
            else:
                distortion = nn.functional.mse_loss(output, x, reduction="sum") / (2 * config.likelihood.sigma**2 * len(x))
            rate = 0.5 * (mean.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).sum() / len(x)
            loss = distortion + beta * rate
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    synchronize(device)
    return epochs * num_images / (time.perf_counter() - start)


def by_vaelab(config: DictConfig, speed: str, folder: Path) -> float:
    """Images per second of `vaelab.experiment.train`, as its own metrics.csv has them, but for the first epoch."""
    config = OmegaConf.merge(  # type: ignore[assignment]
        config,
        {
            "speed": FAST if speed == "fast" else STANDARD,
            "paths": {"run_dir": str(folder)},
            "trainer": {"max_epochs": config.benchmark.epochs + 1},
        },
    )
    train(config)
    with (folder / "metrics.csv").open(newline="") as file:
        rates = [float(row["train/images_per_second"]) for row in csv.DictReader(file) if row["train/images_per_second"]]
    return statistics.harmonic_mean(rates[1:])


def synchronize(device: torch.device) -> None:
    """Waits for what a GPU has been asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


STANDARD = {"channels_last": False, "bf16": False, "compile": False}
FAST = {"channels_last": True, "bf16": True, "compile": True}
