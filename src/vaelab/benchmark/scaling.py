"""Images a second against devices: measured on this machine, and predicted from the step of one device and the interconnect."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from torch import distributed
from torch.multiprocessing.spawn import spawn

from vaelab.benchmark.alone import device_of, synchronize
from vaelab.benchmark.training import rate_of
from vaelab.build import build_model
from vaelab.commands.composing import typed_words

QUIET = ("evaluation.enabled=false", "evaluation.figures=false", "evaluation.report=false", "trainer.enable_progress_bar=false")
REPEATED = 20  # all-reduces that are timed


class Link(NamedTuple):
    """A connection that gradients travel over."""

    bytes_per_second: float  # each way
    latency: float  # seconds of a message


def all_reduce_seconds(num_devices: int, num_bytes: float, link: Link) -> float:
    """Seconds of an all-reduce in a ring: each device sends 2 (N - 1) messages of G / N bytes.

    Patarasuk & Yuan, 2009, https://doi.org/10.1016/j.jpdc.2008.09.002: 2 (N - 1) (G / N / w + l), whatever the order of the devices.

    Args:
        num_devices: N, in a ring.
        num_bytes: G.
        link: the slowest of the ring.
    """
    return 2 * (num_devices - 1) * (num_bytes / num_devices / link.bytes_per_second + link.latency)


def step_seconds(num_devices: int, alone: float, num_bytes: float, link: Link) -> tuple[float, float]:
    """The seconds of a step of N devices, at worst and at best.

    At worst the gradients are reduced after the step, t_1 + t_ring; at best all the while, max(t_1, t_ring). DistributedDataParallel lies
    between: it reduces the gradients of a layer while those of the layers before it are computed.

    Args:
        num_devices: N; the batch size is that of each.
        alone: t_1, seconds of a step of one device.
        num_bytes: of the gradients.
        link: the slowest between the devices.
    """
    ring = all_reduce_seconds(num_devices, num_bytes, link)
    return alone + ring, max(alone, ring)


def scaling(config: DictConfig) -> None:
    """Prints what one and `benchmark.scaling.measured` devices do on this machine, and what more of them would.

    On the CPU a device is a process with its share of the cores, also where it is alone.

    Raises:
        ValueError: if fewer than two are to be measured, or a bandwidth is not positive.
    """
    options, folder = config.benchmark.scaling, Path(HydraConfig.get().runtime.output_dir)
    for name, least in (("measured", 2), ("gb_per_s", 1e-9), ("between_nodes_gb_per_s", 1e-9)):
        if options[name] is not None and options[name] < least:
            raise ValueError(f"benchmark.scaling.{name}={options[name]} must be at least {least:g}")
    rates: dict[int, list[float]] = {1: [], options.measured: []}
    for i in range(config.benchmark.rounds):
        for num, found in rates.items():
            found.append(rate_of_training(config, num, folder / f"{num}_devices_{i}"))
            print(f"round {i + 1} of {config.benchmark.rounds}: devices={num}: {found[-1]:,.0f} images/s", flush=True)
    num_bytes, found_link = gradient_bytes(config), measure_link(config)
    near = found_link if options.gb_per_s is None else found_link._replace(bytes_per_second=1e9 * options.gb_per_s)
    far = near._replace(bytes_per_second=min(1e9 * options.between_nodes_gb_per_s, near.bytes_per_second))
    measured = {num: statistics.median(found) for num, found in rates.items()}
    step = config.data.batch_size / measured[1]
    found_out = (
        f"a step of one device: {1e3 * step:.3g} ms; gradients: {num_bytes / 1e6:.3g} MB; between devices:"
        f" {near.bytes_per_second / 1e9:.3g} GB/s, {1e6 * near.latency:.3g} us; between nodes of {options.devices_per_node}:"
        f" {far.bytes_per_second / 1e9:.3g} GB/s"
    )
    table = Table("devices", "predicted images/s", "times one", "measured", "times one", box=None)
    for num in sorted({*options.devices, *measured}):
        link = near if num <= options.devices_per_node else far
        times = [step / seconds * num for seconds in step_seconds(num, step, num_bytes, link)]
        seen = [f"{measured[num]:,.0f}", f"{ratio(rates, num):.2f}"] if num in measured else []
        table.add_row(str(num), between([measured[1] * each for each in times], ",.0f"), between(times, ".2f"), *seen)
    console = Console(width=140, highlight=False)
    console.print(found_out)
    console.print(table)


def between(limits: Sequence[float], digits: str) -> str:
    """Text such as "1.2 to 1.4", or "1.2" if both limits round alike."""
    return " to ".join(dict.fromkeys(f"{limit:{digits}}" for limit in limits))


def ratio(rates: dict[int, list[float]], num: int) -> float:
    """The rate of N devices over that of one, the median over rounds."""
    return statistics.median(many / one for many, one in zip(rates[num], rates[1], strict=True))


def rate_of_training(config: DictConfig, num_devices: int, folder: Path) -> float:
    """Images per second of the command line that a user would type, over all devices."""
    hydra = HydraConfig.get()
    typed = [word for word in typed_words(hydra) if not word.lstrip("+").startswith("benchmark.")]
    added = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    typed += [word for path in added for word in ("--config-dir", path)]
    device = device_of(config).type
    words = [f"trainer.devices={num_devices}", f"trainer.accelerator={device}", f"trainer.strategy={'ddp' if num_devices > 1 else 'auto'}"]
    words += [f"trainer.max_epochs={config.benchmark.epochs + 1}", *QUIET, f"hydra.run.dir='{folder}'"]
    share = {} if device == "cuda" else {"OMP_NUM_THREADS": str(threads(config))}
    line = [sys.executable, "-m", "vaelab", "train", *typed, *words]
    done = subprocess.run(line, env={**os.environ, **share}, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{' '.join(line)} failed:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return rate_of(folder)


def threads(config: DictConfig) -> int:
    """Threads of each process on the CPU."""
    return max(1, len(os.sched_getaffinity(0)) // config.benchmark.scaling.measured)


def gradient_bytes(config: DictConfig) -> int:
    """Bytes of the gradients of all that is trained."""
    return sum(weight.numel() * weight.element_size() for weight in build_model(config).parameters() if weight.requires_grad)


def measure_link(config: DictConfig) -> Link:
    """The link between `benchmark.scaling.measured` devices of this machine: latency of a number's all-reduce, and bandwidth."""
    num, device = config.benchmark.scaling.measured, device_of(config).type
    with TemporaryDirectory() as folder:
        spawn(_all_reduce, (num, device, threads(config), folder), nprocs=num)
        small, large, num_bytes = torch.load(Path(folder, "seconds"))
    latency = small / (2 * (num - 1))
    return Link(2 * (num - 1) * num_bytes / num / max(large - small, 1e-9), latency)


def _all_reduce(rank: int, num: int, device: str, num_threads: int, folder: str) -> None:
    """Rank 0 writes the median seconds of a small and a large all-reduce, and the bytes of the large one."""
    torch.set_num_threads(num_threads)
    backend, where = ("nccl", torch.device(device, rank)) if device == "cuda" else ("gloo", torch.device(device))
    if device == "cuda":
        torch.cuda.set_device(where)
    distributed.init_process_group(backend, f"file://{folder}/meet", rank=rank, world_size=num)
    x = torch.ones(2**24, device=where)
    medians = [statistics.median(_timed(part, where)) for part in (x[:1], x)]
    if rank == 0:
        torch.save((*medians, x.numel() * x.element_size()), Path(folder, "seconds"))
    distributed.destroy_process_group()


def _timed(x: torch.Tensor, device: torch.device) -> Iterator[float]:
    for _ in range(REPEATED):
        distributed.barrier()
        synchronize(device)
        start = time.perf_counter()
        distributed.all_reduce(x)
        synchronize(device)
        yield time.perf_counter() - start
