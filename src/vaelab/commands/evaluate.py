"""The judgement of trained runs: metrics that a command line names, from run folders alone, added to what is known of each run."""

import fcntl
import glob
import inspect
import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from torch.utils.tensorboard import SummaryWriter

from vaelab import rng
from vaelab.build import Run, open_run
from vaelab.commands.common import (
    Shown,
    UserError,
    chosen_device,
    final_metrics,
    prepare,
    refuse_counts,
    refuse_missing,
    report,
    report_errors,
    shorter,
)
from vaelab.evidence import evaluating
from vaelab.figures.charts.disentanglement import disentanglement_chart
from vaelab.figures.charts.latent import active_units_chart, rate_chart
from vaelab.runs.files import write_json
from vaelab.runs.provenance import git, provenance

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
    prepare()
    refuse_missing(config)
    refuse_counts(config, ["num_images", "chunk_size"], num_samples=1, chunk_size=1, num_images=1)
    if not config.metrics:
        raise ValueError("metrics=[] finds nothing out: choose some, such as metrics=[likelihood,latent]")
    console, failures = Console(soft_wrap=True, highlight=False), []
    runs = find_runs(str(config.run))
    for run in runs:
        try:
            failures += [f"{run}: {failure}" for failure in evaluate_run(run, config, console)]
        except ValueError as error:
            if len(runs) == 1:
                raise
            failures.append(f"{run}: {error}")
    if failures:
        raise UserError("\n".join(["some of it could not be computed (the rest is written):", *failures]))


def find_runs(run: str) -> list[str]:
    """The run folders that a pattern such as outputs/** stands for; what is no pattern is itself.

    Raises:
        ValueError: if a pattern matches no folder with checkpoints.
    """
    if not glob.has_magic(run) or Path(run).exists():
        return [run]
    found = [path for path in glob.glob(run, recursive=True) if any(Path(path, "checkpoints").glob("*.ckpt"))]
    if not found:
        raise ValueError(f"run={run} matches no folder that holds checkpoints/*.ckpt")
    return sorted(os.path.normpath(path) for path in found)


def evaluate_run(folder: str, config: DictConfig, console: Console) -> list[str]:
    """Evaluates one run; returns what could not be computed, and why."""
    run = open_run(folder, config.checkpoint or chosen_checkpoint(folder), config.data_dir, config.trust)
    run.model.to(chosen_device(config))
    failures, path = judge(run, config.metrics, config.seed, config.again, console), run.folder / results_name(run.checkpoint)
    console.print(f"\nresults:  {shorter(path)}")
    if config.report and path.exists():
        console.print(f"report:   {shorter(report(run.folder, run.config, path))}")
    return failures


def judge(run: Run, metrics: DictConfig, seed: int, again: bool, console: Console) -> list[str]:
    """Adds what metrics find to the results of a run, one after the other; returns what could not be computed, and why."""
    path, device = run.folder / results_name(run.checkpoint), run.model.device
    options: dict[str, Any] = OmegaConf.to_container(metrics, resolve=True)  # type: ignore[assignment]
    chosen: dict[str, Metric] = instantiate(metrics, _convert_="all")
    failures = []
    for name, metric in chosen.items():
        how: dict[str, Any] = {"options": {key: value for key, value in options[name].items() if key != "_partial_"}, "seed": seed}
        known = read_results(path).get("evaluations", {}).get(name)
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
        how |= {"keys": sorted(found), "seconds": round(time.time() - started, 1)}
        how |= {"finished": datetime.now().astimezone().isoformat(timespec="seconds"), **git(), **provenance(device)}
        add_results(path, run.checkpoint, name, found, how)
        draw(found, run, path.name)
        show(name, found, how["seconds"], console)
    return failures


def chosen_checkpoint(folder: str) -> str:
    """The checkpoint that results.json of a run is of: the best, unless the run was told to evaluate the last."""
    return Path(read_results(Path(folder, "results.json")).get("checkpoint") or "best").stem


def results_name(checkpoint: Path) -> str:
    """results.json is of the checkpoint that training chose; others have files of their own."""
    results = checkpoint.parent.parent / "results.json"
    chosen = read_results(results).get("checkpoint") if results.exists() else None
    return "results.json" if chosen in (None, f"checkpoints/{checkpoint.name}") else f"results_{checkpoint.stem}.json"


def read_results(path: Path) -> dict[str, Any]:
    """What is known of a run; nothing if there is no file yet.

    Raises:
        ValueError: if the file is broken.
    """
    if not path.exists():
        return {}
    try:
        results = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error}): remove it, and evaluate again") from error
    if not isinstance(results, dict) or not all(isinstance(results.get(key) or {}, dict) for key in ("test", "evaluations")):
        raise ValueError(f"{path} holds no results of a run: remove it, and evaluate again")
    return results


def add_results(path: Path, checkpoint: Path, name: str, found: dict[str, Any], how: dict[str, Any]) -> None:
    """Adds what a metric found."""
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)  # another process may be adding to it
        results = read_results(path)
        results.setdefault("checkpoint", f"checkpoints/{checkpoint.name}")
        before = results.setdefault("evaluations", {}).get(name, {}).get("keys", [])
        test = {key: value for key, value in (results.get("test") or {}).items() if key not in before}
        results["test"] = test | found
        results["evaluations"][name] = how
        write_json(results, path)
    finally:
        os.close(directory)


def draw(found: dict[str, Any], run: Run, results: str) -> None:
    """The charts of what a metric found, in figures/ and in TensorBoard, which has the numbers of results.json, too."""
    figures = {name: chart(found) for name, (chart, needed) in CHARTS.items() if found.get(needed) is not None}
    for name, figure in figures.items():
        (run.folder / "figures").mkdir(exist_ok=True)
        figure.savefig(run.folder / "figures" / f"{name}.png", dpi=130)
    if (run.folder / "tensorboard").is_dir():
        step = read_results(run.folder / "results.json").get("steps", 0)
        with SummaryWriter(str(run.folder / "tensorboard")) as writer:
            for name, figure in figures.items():
                writer.add_figure(name, figure, step)
            for name, value in final_metrics(found).items() if results == "results.json" else ():
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
