"""Decodings a second of log p(x) by importance sampling, beside a loop over images as one would write it."""

import math
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from vaelab import likelihoods, posteriors, priors
from vaelab.benchmark.alone import alone, device_of, synchronize
from vaelab.evidence import importance_weighted
from vaelab.models import VAE
from vaelab.networks import MLP
from vaelab.runs.provenance import processor


def likelihood(config: DictConfig) -> None:
    """Prints decodings per second, beside a hand-written loop and what the matrix products of the decoder alone take.

    And by how much peak memory grows with the second half of the samples.
    """
    options = config.benchmark.likelihood
    seconds, growth = alone(seconds_and_growth, config)
    decodings = options.num_images * options.num_samples
    title = f"log p(x) of {options.num_images} images, medians of the rounds; {processor()}"
    table = Table("", "decodings/s", "times the loop", "times the products", box=None, title=title)
    for name, values in seconds.items():
        ratios = [statistics.median(a / b for a, b in zip(seconds[base], values, strict=True)) for base in (LOOP, PRODUCTS)]
        table.add_row(name, f"{decodings / statistics.median(values):,.0f}", *(f"{ratio:.2f}" for ratio in ratios))
    console = Console(width=100)
    console.print(table)
    console.print(f"with twice as many samples, peak memory grows by {growth:.1f} MB")
    whole = statistics.median(seconds[OURS]) / options.num_images * 10_000 / 60
    console.print(f"10,000 images with {options.num_samples:,} samples of each would take {whole:.1f} minutes")


def seconds_and_growth(plain: dict[str, Any]) -> tuple[dict[str, list[float]], float]:
    """Seconds of each round, by name; and the growth of peak memory in MB. What x is and what the model has learned take no time."""
    config = OmegaConf.create(plain)
    options, device = config.benchmark.likelihood, device_of(config)
    torch.manual_seed(config.seed)
    model = mlp().to(device).eval()
    x = torch.randint(2, (options.num_images, 1, 28, 28), device=device).float()
    runs: dict[str, Callable[[], Any]] = {
        LOOP: lambda: by_loop(model, x, options.num_samples),
        OURS: lambda: importance_weighted(model, x, num_samples=options.num_samples),
        PRODUCTS: lambda: by_products(model, options.num_images * options.num_samples),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the samples of an untrained model are not effective
        importance_weighted(model, x, num_samples=options.num_samples // 2)
        before = peak_memory(device)
        runs[OURS]()
        growth = peak_memory(device) - before
        runs[LOOP]()
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                synchronize(device)
                seconds[name].append(time.perf_counter() - start)
    return seconds, growth


def mlp() -> VAE:
    """784-512-16, with binary pixels."""
    network, shape = partial(MLP, hidden=(512,)), (1, 28, 28)
    prior = priors.StandardNormal((16,))
    return VAE(posteriors.Gaussian(network, shape, (16,)), likelihoods.Bernoulli(network, (16,), shape), prior)


@torch.no_grad()
def by_loop(model: VAE, x: Float[Tensor, "b c h w"], num_samples: int) -> Float[Tensor, "b"]:
    """log p(x) as a tutorial has it: an image at a time, 1,000 samples at a time. The constants of the two Gaussians cancel."""
    encoder, decoder, found = model.posterior.network, model.likelihood.network, []
    assert isinstance(encoder, nn.Module)
    assert isinstance(decoder, nn.Module)
    for image in x:
        mean, log_scale = encoder(image[None]).unbind(1)
        log_w = []
        for start in range(0, num_samples, 1000):
            noise = torch.randn(min(1000, num_samples - start), mean.shape[1], device=x.device)
            z = mean + log_scale.exp() * noise
            logits = decoder(z).squeeze(1)
            log_px = -nn.functional.binary_cross_entropy_with_logits(logits, image.expand_as(logits), reduction="none").flatten(1).sum(1)
            log_w.append(log_px - 0.5 * z.square().sum(1) + 0.5 * noise.square().sum(1) + log_scale.sum())
        found.append(torch.cat(log_w).logsumexp(0) - math.log(num_samples))
    return torch.stack(found)


@torch.no_grad()
def by_products(model: VAE, num: int) -> None:
    """Multiplies so many codes by the weights of the decoder, 1,000 at a time, and nothing else: no decoder can be faster."""
    decoder = model.likelihood.network
    assert isinstance(decoder, nn.Module)
    weights = [layer.weight.T for layer in decoder.modules() if isinstance(layer, nn.Linear)]
    for _ in range(0, num, 1000):
        h = torch.ones(1000, weights[0].shape[0], device=weights[0].device)
        for weight in weights:
            h = h @ weight


def peak_memory(device: torch.device) -> float:
    """The peak memory of this process so far, in MB: on a GPU that of its tensors."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


LOOP, OURS, PRODUCTS = "hand-written loop over images", "importance_weighted", "matrix products alone"
