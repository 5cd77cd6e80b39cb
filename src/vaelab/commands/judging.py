"""Metrics that a config names, of one checkpoint: checked, computed, drawn and printed, after training as at any time later."""

import inspect
import io
import math
import re
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from vaelab import rng
from vaelab.build import OpenedRun
from vaelab.commands.common import WithProgress, check_counts
from vaelab.data import DataModule
from vaelab.evidence import evaluating
from vaelab.figures.charts.code_length import code_length_chart
from vaelab.figures.charts.disentanglement import disentanglement_chart
from vaelab.figures.charts.latent import active_units_chart, code_usage_chart, rate_chart
from vaelab.figures.charts.marginals import marginal_distances_chart
from vaelab.metrics.latent.usage import counting_codes
from vaelab.models import Model
from vaelab.objectives import Objective
from vaelab.runs.folder import RESULTS, RunFolder
from vaelab.runs.log import tell
from vaelab.runs.provenance import stamp
from vaelab.runs.report import write_report
from vaelab.training.validation import mean_bounds

# what is drawn of results, and the number that it needs
CHARTS: dict[str, tuple[Callable[[Mapping[str, Any]], Figure], str]] = {
    "active_units": (active_units_chart, "active_units_variances"),
    "rate_per_dimension": (rate_chart, "rate_per_dimension"),
    "disentanglement": (disentanglement_chart, "mig"),
    "marginal_distances": (marginal_distances_chart, "marginal_distances"),
    "code_length": (code_length_chart, "code_bits_per_dim"),
}
WIDTH = 100  # characters of a table of numbers
COUNTS = {"num_samples": 1, "chunk_size": 1, "num_images": 1}  # options of several metrics, and the least of each
Metric = Callable[..., dict[str, Any]]  # metric(model, data), or metric(model, data, run=...): what it found out, flat
Keep = Callable[[str, dict[str, Any], dict[str, Any]], None]  # keep(name of a metric, what it found, how)


def build_metrics(metrics: DictConfig, key: str = "metrics") -> dict[str, Metric]:
    """The metrics by name; options of a metric that is not chosen, and so has no `_target_`, are not used.

    Args:
        metrics: of conf/metrics.
        key: of the config where they are.

    Raises:
        ValueError: if a count is no whole number, or too small.
    """
    for name, options in metrics.items():
        given = {option: least for option, least in COUNTS.items() if option in options}
        check_counts(options, ["chunk_size", "num_images"], f"{key}.{name!s}.", **given)
    return {str(name): instantiate(options, _convert_="all") for name, options in metrics.items() if "_target_" in options}


def judge(run: OpenedRun, metrics: DictConfig, seed: int, keep: Keep, known: Mapping[str, Any], key: str = "metrics") -> list[str]:
    """Compute metrics of a run, one after the other; return what could not be computed, and why.

    Each has noise of its own, from the seed, so that its numbers do not depend on which others were chosen.

    Args:
        run: its model is where the metrics are computed.
        metrics: of conf/metrics.
        seed: of the noise.
        keep: called as soon as the numbers of a metric are known.
        known: how metrics have been computed before; what would be the same is not computed again.
        key: of the config where the metrics are, which warnings begin with.
    """
    options: dict[str, Any] = OmegaConf.to_container(metrics, resolve=True)  # type: ignore[assignment]
    failures = []
    for name, metric in build_metrics(metrics, key).items():
        how: dict[str, Any] = {"options": {key: value for key, value in options[name].items() if key != "_partial_"}, "seed": seed}
        before = known.get(name) or {}
        if {key: before.get(key) for key in how} == how:
            tell(f"{name}: known since {before['finished']} (again=true computes it again)")
            continue
        former = [f"{option}={value}" for option, value in (before.get("options") or {}).items() if how["options"].get(option) != value]
        if former:
            tell(f"{name}: takes the place of what is known with {', '.join(former)}")
        started = time.monotonic()
        compared = {"run": run} if "run" in inspect.signature(metric).parameters else {}  # with other runs, which it has to find
        try:
            with rng.fork(seed), evaluating(run.model), warnings.catch_warnings(record=True) as warned:
                found = metric(run.model, WithProgress(run.datamodule, name), **compared)
        except ValueError as error:
            failures.append(f"{name}: {error}")
            continue
        for text in dict.fromkeys(str(warning.message) for warning in warned):
            warnings.warn(f"{key}.{name}: {text}", stacklevel=2)
        seconds = round(time.monotonic() - started, 1)
        keep(name, found, {**how, "keys": sorted(found), "seconds": seconds, **stamp(run.model.device)})
        print_numbers(f"{name}   ({seconds} s)", found)
    return failures


def draw_charts(run: RunFolder, found: Mapping[str, Any]) -> dict[str, Path]:
    """Draw the charts of what a metric found; return their files in figures/, by name."""
    return save_charts(run, {name: chart(found) for name, (chart, needed) in CHARTS.items() if found.get(needed) is not None})


def validate(
    run: RunFolder, model: Model, objective: Objective, datamodule: DataModule, device: torch.device
) -> tuple[dict[str, float], dict[str, Path]]:
    """The bounds of a model on the validation data, the use of its codes, and the files of what was drawn of them, by name.

    Its noise is that of validation while training, so that the best checkpoint has the number that it was chosen by.
    """
    with rng.fork(0), counting_codes(model) as codes:
        val = mean_bounds(model, objective, datamodule.batches("val", device))
    charts = {"code_usage": code_usage_chart(codes.counts)} if codes.counts else {}
    return val | codes.report(), save_charts(run, charts)


def save_charts(run: RunFolder, figures: Mapping[str, Figure]) -> dict[str, Path]:
    """Write charts to figures/; return their files by name."""
    for name, figure in figures.items():
        run.figures.mkdir(parents=True, exist_ok=True)
        figure.savefig(run.figures / f"{name}.png", dpi=130)
    return {name: run.figures / f"{name}.png" for name in figures}


def final_metrics(found: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as they are logged, those of test data as test/<name>: without standard errors and counts, which are no metrics."""
    numbers = {name: value for name, value in found.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    metrics = {name: value for name, value in numbers.items() if not re.search("_std_error$|num_|^latent_dim$", name)}
    return {name if name.startswith("val/") else f"test/{name}": value for name, value in metrics.items()}


def print_numbers(title: str, found: Mapping[str, Any]) -> None:
    """Print numbers with their standard errors or intervals, a line each, and below them lists of rows as tables."""
    table = Table(box=None, show_header=False, padding=(0, 2))
    below = [rows_of(value) for value in found.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    for key, value in found.items():
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            table.add_row(key, ", ".join(value) or "none", "")
            continue
        if isinstance(value, bool | list | dict) or value is None or key.endswith("_std_error"):
            continue
        text = f"{value:.5g}" if isinstance(value, float) else str(value)
        error, interval = found.get(f"{key}_std_error"), found.get(f"{key}_ci")
        spread = f"[{interval[0]:.3g}, {interval[1]:.3g}]" if interval else ""
        if error and math.isfinite(error):
            decimals = max(0, 1 - math.floor(math.log10(error)))  # two digits of the error are known
            text, spread = f"{value:.{decimals}f}", f"± {error:.{decimals}f}"
        table.add_row(key, text, spread)
    page = Console(width=WIDTH, file=io.StringIO())
    page.print(table, *below)
    tell("\n".join([title, *(line.rstrip() for line in page.file.getvalue().splitlines())]))  # type: ignore[attr-defined]


def rows_of(rows: list[dict[str, Any]]) -> Table:
    """A table of rows that have the same keys."""
    table = Table(*rows[0], box=None, padding=(0, 2))
    for row in rows:
        table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()))
    return table


def report(run: RunFolder, config: DictConfig, results: str = RESULTS) -> Path:
    """Write the report.html of a run."""
    return write_report(run, OmegaConf.to_yaml(config), results)
