"""The judgement of trained runs: metrics that a command line names, from run folders alone, added to what is known of each run."""

import glob
import inspect
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from torch.utils.tensorboard import SummaryWriter

from vaelab import rng
from vaelab.build import OpenedRun, open_run
from vaelab.commands.common import (
    Shown,
    UserError,
    check_counts,
    check_given,
    chosen_device,
    final_metrics,
    prepare_process,
    report,
    report_errors,
    shorter,
)
from vaelab.evidence import evaluating
from vaelab.figures.charts.disentanglement import disentanglement_chart
from vaelab.figures.charts.latent import active_units_chart, rate_chart
from vaelab.runs.folder import RESULTS, RunFolder
from vaelab.runs.provenance import stamp

# what is drawn of results, and the number that it needs
CHARTS: dict[str, tuple[Callable[[Mapping[str, Any]], Figure], str]] = {
    "active_units": (active_units_chart, "active_units_variances"),
    "rate_per_dimension": (rate_chart, "rate_per_dimension"),
    "disentanglement": (disentanglement_chart, "mig"),
}
Metric = Callable[..., dict[str, Any]]  # metric(model, data), or metric(model, data, run=...): what it found out, flat


@report_errors
def evaluate(config: DictConfig) -> None:
    """Runs the chosen metrics on the test data of one run or of many, adds what they find to results.json, and draws a report.

    Each metric has noise of its own, from `seed`, so that its numbers do not depend on which others were chosen. Its numbers are written
    as soon as they are known; what a run already has, found with the same options, is not computed again.

    Raises:
        ValueError: if a run cannot be opened, or a metric cannot be computed; the other metrics and runs come first.
    """
    prepare_process()
    check_given(config)
    check_counts(config, ["num_images", "chunk_size"], num_samples=1, chunk_size=1, num_images=1)
    if not config.metrics:
        raise ValueError("metrics=[] finds nothing out: choose some, such as metrics=[likelihood,latent]")
    console, failures = Console(soft_wrap=True, highlight=False), []
    runs = matching_runs(str(config.run))
    for run in runs:
        try:
            failures += [f"{run}: {failure}" for failure in evaluate_run(run, config, console)]
        except ValueError as error:
            if len(runs) == 1:
                raise
            failures.append(f"{run}: {error}")
    if failures:
        raise UserError("\n".join(["some of it could not be computed (the rest is written):", *failures]))


def matching_runs(run: str) -> list[str]:
    """The run folders that a pattern such as outputs/** stands for; what is no pattern is itself.

    Raises:
        ValueError: if a pattern matches no folder with checkpoints.
    """
    if not glob.has_magic(run) or Path(run).exists():
        return [run]
    found = [path for path in glob.glob(run, recursive=True) if any(RunFolder(path).checkpoints.glob("*.ckpt"))]
    if not found:
        raise ValueError(f"run={run} matches no folder that holds checkpoints/*.ckpt")
    return sorted(os.path.normpath(path) for path in found)


def evaluate_run(path: str, config: DictConfig, console: Console) -> list[str]:
    """Evaluate one run; return what could not be computed, and why."""
    evaluated = Path(RunFolder(path).results().get("checkpoint") or "best").stem  # when it had been trained
    run = open_run(path, config.checkpoint or evaluated, config.data_dir, config.trust)
    run.model.to(chosen_device(config))
    failures, file = judge(run, config.metrics, config.seed, config.again, console), run.folder.results_file(run.checkpoint)
    console.print(f"\nresults:  {shorter(run.folder.path / file)}")
    if config.report and run.folder.results(file):
        console.print(f"report:   {shorter(report(run.folder, run.config, file))}")
    return failures


def judge(run: OpenedRun, metrics: DictConfig, seed: int, again: bool, console: Console) -> list[str]:
    """Add what metrics find to the results of a run, one after the other; return what could not be computed, and why."""
    file, device = run.folder.results_file(run.checkpoint), run.model.device
    options: dict[str, Any] = OmegaConf.to_container(metrics, resolve=True)  # type: ignore[assignment]
    chosen: dict[str, Metric] = instantiate(metrics, _convert_="all")
    failures = []
    for name, metric in chosen.items():
        how: dict[str, Any] = {"options": {key: value for key, value in options[name].items() if key != "_partial_"}, "seed": seed}
        known = (run.folder.results(file).get("evaluations") or {}).get(name)
        if known and not again and {key: known[key] for key in how} == how:
            console.print(f"{name}: known since {known['finished']} (again=true computes it again)")
            continue
        started = time.time()
        compared = {"run": run} if "run" in inspect.signature(metric).parameters else {}  # with other runs, which it has to find
        try:
            with rng.set_aside(seed), evaluating(run.model):
                found = metric(run.model, Shown(run.datamodule, name), **compared)
        except ValueError as error:
            failures.append(f"{name}: {error}")
            continue
        how |= {"keys": sorted(found), "seconds": round(time.time() - started, 1), **stamp(device)}
        run.folder.add_results(run.checkpoint, name, found, how)
        draw(found, run.folder, file)
        show(name, found, how["seconds"], console)
    return failures


def draw(found: dict[str, Any], run: RunFolder, file: str) -> None:
    """Draw the charts of what a metric found, as files and in TensorBoard, which has the numbers of results.json, too."""
    figures = {name: chart(found) for name, (chart, needed) in CHARTS.items() if found.get(needed) is not None}
    for name, figure in figures.items():
        run.figures.mkdir(exist_ok=True)
        figure.savefig(run.figures / f"{name}.png", dpi=130)
    if run.tensorboard is not None:
        step = run.results().get("steps", 0)
        with SummaryWriter(str(run.tensorboard)) as writer:
            for name, figure in figures.items():
                writer.add_figure(name, figure, step)
            for name, value in final_metrics(found).items() if file == RESULTS else ():
                writer.add_scalar(name, value, step)


def show(name: str, found: dict[str, Any], seconds: float, console: Console) -> None:
    """One metric's numbers, with their standard errors or intervals."""
    table = Table(
        box=None, show_header=False, padding=(0, 2), title=f"{name}   ({seconds:.1f} s)", title_justify="left", title_style="bold"
    )
    for key, value in found.items():
        if isinstance(value, bool | list | dict) or value is None or key.endswith("_std_error"):
            continue
        error, interval = found.get(f"{key}_std_error"), found.get(f"{key}_ci")
        spread = f"± {error:.2g}" if error else f"[{interval[0]:.3g}, {interval[1]:.3g}]" if interval else ""
        table.add_row(key, f"{value:.5g}" if isinstance(value, float) else str(value), spread)
    console.print(table)
