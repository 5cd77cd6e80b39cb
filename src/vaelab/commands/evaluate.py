"""Metrics of trained runs, from run folders alone, added to what is known of each."""

import glob
import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch.utils.tensorboard import SummaryWriter

from vaelab.commands.common import check_given, chosen_device, chosen_run, prepare_process, shorter
from vaelab.commands.errors import UserError, report_errors
from vaelab.commands.judging import build_metrics, draw_charts, final_metrics, judge, report
from vaelab.figures.files import show_in_tensorboard
from vaelab.runs.folder import RESULTS, RunFolder
from vaelab.runs.log import tell


@report_errors
def evaluate_runs(config: DictConfig) -> None:
    """Compute the chosen metrics on the test data of one run or of many, add what they find to the results, and write a report.

    The numbers of a metric are written as soon as they are known; what a run already has, found with the same options, is not computed
    again.

    Raises:
        ValueError: if a run cannot be opened, or a metric cannot be computed; the other metrics and runs come first.
    """
    prepare_process()
    check_given(config)
    if not build_metrics(config.metrics):
        raise ValueError("metrics=[] finds nothing out: choose some, such as metrics=[likelihood,latent]")
    failures: list[str] = []
    runs = matching_runs(str(config.run))
    for run in runs:
        try:
            failures += [f"{run}: {failure}" for failure in evaluate_run(run, config)]
        except ValueError as error:
            if len(runs) == 1:
                raise
            failures.append(f"{run}: {error}")
    if failures:
        raise UserError("\n".join(["some of it could not be computed (the rest is written):", *failures]))


def matching_runs(run: str) -> list[str]:
    """The run folders that match a pattern such as outputs/**, or `run` itself if it is none.

    Raises:
        ValueError: if a pattern matches no folder with checkpoints.
    """
    if not glob.has_magic(run) or Path(run).exists():
        return [run]
    found = [path for path in glob.glob(run, recursive=True) if any(RunFolder(path).checkpoints.glob("*.ckpt"))]
    if not found:
        raise ValueError(f"run={run} matches no folder that holds checkpoints/*.ckpt")
    return sorted(os.path.normpath(path) for path in found)


def evaluate_run(path: str, config: DictConfig) -> list[str]:
    """Evaluate one run; return what could not be computed, and why."""
    run = chosen_run(config, path)
    run.model.to(chosen_device(config))
    folder, file, step = run.folder, run.folder.results_file(run.checkpoint), run.folder.results().get("steps", 0)

    def keep(name: str, found: dict[str, Any], how: dict[str, Any]) -> None:
        folder.add_results(run.checkpoint, name, found, how)
        show_in_tensorboard(draw_charts(folder, found), folder.tensorboard, step)
        if folder.tensorboard is not None and file == RESULTS:  # TensorBoard has the numbers of results.json
            with SummaryWriter(str(folder.tensorboard)) as writer:
                for metric, value in final_metrics(found).items():
                    writer.add_scalar(metric, value, step)

    known = {} if config.again else folder.results(file).get("evaluations") or {}
    failures = judge(run, config.metrics, config.seed, keep, known)
    tell(f"\nresults:  {shorter(folder.path / file)}")
    if config.report and folder.results(file):
        tell(f"report:   {shorter(report(folder, run.config, file))}")
    return failures
