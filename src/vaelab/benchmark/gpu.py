"""Tests and speeds on a GPU, in a page that is written again after each piece."""

import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vaelab.benchmark.alone import alone, device_of
from vaelab.benchmark.likelihood import seconds_and_growth
from vaelab.benchmark.loops import by_graph, by_hand
from vaelab.benchmark.training import by_vaelab
from vaelab.commands.composing import typed_words
from vaelab.runs.folder import RunFolder
from vaelab.runs.provenance import git, processor
from vaelab.training.fastest import STANDARD

LOOP, GRAPH, OURS = "hand-written loop", "its CUDA graph", "vaelab"
RESIDENT = "data resident"
LEAST = 15.0  # seconds, without which no piece is begun
SHARE_OF_TESTS = 0.5  # of the time, at most
GRACE = 10.0  # seconds, in which tests that are stopped may end


@dataclass
class Page:
    """The results so far, as Markdown.

    Args:
        path: of the file.
        device: where it was found out.
        models: the rows of its table.
        speeds: the last columns of its table.
    """

    path: Path
    device: torch.device
    models: Sequence[str]
    speeds: Sequence[str]
    tests: str = "not run"
    rates: dict[tuple[str, str], float] = field(default_factory=dict)  # images per second, of a model and a column
    memory: dict[str, float] = field(default_factory=dict)  # MiB, of a model
    decodings: dict[str, float] = field(default_factory=dict)  # per second
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The columns of the table that hold rates."""
        return [LOOP, GRAPH, OURS, RESIDENT, *self.speeds]

    def write(self) -> None:
        """Write all of it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("\n".join(self.lines()) + "\n")

    def lines(self) -> Iterator[str]:
        """The lines of the file."""
        yield f"# Speed on {'a GPU' if self.device.type == 'cuda' else 'the CPU'}"
        yield f"\n`make gpu` wrote this page on {time.strftime('%Y-%m-%d')}, on {machine(self.device)}."
        yield f"\nTests of `tests/gpu`: {self.tests}."
        yield "\n## Training, images per second\n"
        yield f"In brackets the share of the {LOOP}, whose data are resident, too. The CUDA graph of its step is the limit that"
        yield "its kernels set when nobody has to launch them. Each number is of one process, without its first epoch. Matrix"
        yield "products are in float32, convolutions in TF32, as torch has it by default. What is right of it has resident data, too.\n"
        yield f"| model | {' | '.join(self.columns)} | peak memory |"
        yield "|---|" + "---|" * (len(self.columns) + 1)
        for model in self.models:
            memory = f"{self.memory[model]:,.0f} MiB" if model in self.memory else "-"
            yield f"| {model} | {' | '.join(self.cell(model, column) for column in self.columns)} | {memory} |"
        if self.decodings:
            yield "\n## log p(x), decodings per second\n"
            yield "| of a 784-512-16 MLP | decodings/s |\n|---|---|"
            yield from (f"| {name} | {rate:,.0f} |" for name, rate in self.decodings.items())
        if self.notes:
            yield "\n## What is missing\n"
            yield from (f"* {note}" for note in self.notes)

    def cell(self, model: str, column: str) -> str:
        """Images per second, and their share of the hand-written loop's."""
        rate, base = self.rates.get((model, column)), self.rates.get((model, LOOP))
        share = f" ({rate / base:.2f})" if rate and base and column != LOOP else ""
        return f"{rate:,.0f}{share}" if rate else "-"


def gpu(config: DictConfig) -> None:
    """Tests and measures on a GPU, and writes `benchmark.gpu.page` after each piece.

    No piece begins when `benchmark.gpu.minutes` are over, and one that lasts longer is stopped; the page names both.

    Raises:
        ValueError: if there is no GPU, unless trainer=cpu asks for the CPU.
    """
    options, folder, device = config.benchmark.gpu, Path(HydraConfig.get().runtime.output_dir), device_of(config)
    if device.type == "cpu" and config.trainer.accelerator != "cpu":
        raise ValueError("benchmark.parts=[gpu] needs a GPU, and torch sees none: trainer=cpu tries all of it on the CPU")
    typed, end = typed_words(HydraConfig.get()), time.monotonic() + 60 * options.minutes
    models = {model.name: compose("benchmark", [*typed, *model.words]) for model in options.models}
    page = Page(Path(options.page or folder / "gpu.md"), device, list(models), list(options.speeds))
    if options.tests:
        page.tests = run_tests(list(options.tests), device, SHARE_OF_TESTS * 60 * options.minutes, folder / "tests.txt")
        print(f"tests: {page.tests}", flush=True)
    page.write()
    for what, measure in pieces(page, config, models, folder):
        left, reason = end - time.monotonic(), None
        try:
            if left > LEAST:
                measure(left)
            else:
                reason = "left out, because the time was over"
        except TimeoutError:
            reason = "stopped, because the time was over"
        except Exception as error:  # whatever it is, the other pieces are measured
            reason = f"failed: {' '.join(str(error).split())[:300] or type(error).__name__}"
        page.notes += [f"{what}: {reason}"] if reason else []
        page.write()
        print(f"{what}: {reason or 'done'}", flush=True)
    print(f"page:      {page.path}")


def pieces(page: Page, config: DictConfig, models: Mapping[str, DictConfig], folder: Path) -> Iterator[tuple[str, Callable[[float], None]]]:
    """Each piece in words, with a function that measures it within so many seconds; what is dearest comes last."""

    speeds = config.benchmark.gpu.speeds

    def rate(model: str, column: str, seconds: float) -> None:
        of_model = models[model].copy()
        of_model.paths.new_dir, of_model.data.device_resident = None, column not in (LOOP, GRAPH, OURS)
        if column in (LOOP, GRAPH):
            page.rates[model, column] = alone(by_graph if column == GRAPH else by_hand, of_model, seconds=seconds)
            return
        run = folder / f"{list(models).index(model)}_{column.replace(' ', '_')}"
        page.rates[model, column] = alone(by_vaelab, of_model, STANDARD | dict(speeds.get(column, {})), run, seconds=seconds)
        if column == RESIDENT:
            results = RunFolder(run).results()
            page.memory[model] = results.get("peak_device_memory_mib", results["peak_memory_mib"])

    def likelihood(seconds: float) -> None:
        options = config.benchmark.likelihood
        found, growth = alone(seconds_and_growth, config, seconds=seconds)
        total = options.num_images * options.num_samples
        page.decodings = {name: total / statistics.median(values) for name, values in found.items()}
        print(f"with twice as many samples, peak memory grows by {growth:.1f} MB")

    yield "log p(x)", likelihood
    for column in page.columns:
        yield from ((f"{model}, {column}", partial(rate, model, column)) for model in models)


def run_tests(words: list[str], device: torch.device, seconds: float, output: Path) -> str:
    """The last line of pytest, and what failed.

    Args:
        words: of its command line.
        device: that the tests run on.
        seconds: after which they are stopped.
        output: file of all that is printed.
    """
    line, stopped = [sys.executable, "-m", "pytest", *words, f"--device={device.type}", "-p", "no:cacheprovider"], ""
    with output.open("w") as file:
        process = subprocess.Popen(line, stdout=file, stderr=subprocess.STDOUT)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            stopped = f"stopped after {seconds:.0f} s; "
            process.send_signal(signal.SIGINT)  # pytest says then what it has found
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    printed = output.read_text().strip().splitlines() or ["nothing was printed"]
    failed = [each.split(" - ")[0] for each in printed if each.startswith(("FAILED", "ERROR"))]
    return stopped + "; ".join([printed[-1].strip("= "), *failed])


def machine(device: torch.device) -> str:
    """The device, its driver and the versions that count."""
    versions = f"torch {torch.__version__}, Python {sys.version.split()[0]}, commit {str(git()['git_commit'])[:10]}"
    if device.type == "cpu":
        return f"{processor()}: {versions}"
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    return f"{torch.cuda.get_device_name(0)} ({memory:.0f} GiB), driver {driver()}, CUDA {torch.version.cuda}: {versions}; {processor()}"


def driver() -> str:
    """The version of the driver, as nvidia-smi says."""
    line = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(line, capture_output=True, text=True, check=True, timeout=20).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"
