"""Charts of a search by Optuna."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vaelab.figures.charts.colours import BLUE, GREY, VERMILION


def search_charts(study: Any, metrics: Sequence[str]) -> dict[str, Figure]:
    """The figures of a study of Optuna's, by name: its history and, of two metrics, the Pareto front; none if no trial is complete.

    Args:
        study: with a value for each metric.
        metrics: their names.
    """
    done = [trial for trial in study.trials if trial.values is not None]
    if not done:
        return {}
    maximised = [direction.name == "MAXIMIZE" for direction in study.directions]
    values, numbers = np.array([trial.values for trial in done]), [trial.number for trial in done]
    figures = {"history": history_chart(numbers, values, metrics, maximised)}
    if len(metrics) == 2:
        best = {trial.number for trial in study.best_trials}
        front = np.array([number in best for number in numbers])
        figures["pareto_front"] = pareto_chart(numbers, values, front, metrics, maximised)
    return figures


def history_chart(
    numbers: Sequence[int], values: Float[np.ndarray, "trials metrics"], metrics: Sequence[str], maximised: Sequence[bool]
) -> Figure:
    """The values of each trial, and the best so far, in a panel for each metric."""
    figure = Figure(figsize=(6.4, 1.2 + 2.4 * len(metrics)), layout="constrained")
    axes = figure.subplots(len(metrics), squeeze=False, sharex=True)[:, 0]
    for axis, metric, of_metric, up in zip(axes, metrics, values.T, maximised, strict=True):
        axis.plot(numbers, of_metric, "o", color=BLUE, ms=5, label="trial")
        axis.step(numbers, (np.maximum if up else np.minimum).accumulate(of_metric), where="post", color=VERMILION, label="best so far")
        axis.set_ylabel(arrowed(metric, up))
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("trial")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def pareto_chart(
    numbers: Sequence[int],
    values: Float[np.ndarray, "trials 2"],
    front: Bool[np.ndarray, "trials"],
    metrics: Sequence[str],
    maximised: Sequence[bool],
) -> Figure:
    """Two metrics of each trial, and those that no other is better than in both, with their numbers.

    The steps between them are what has been reached: no trial lies beyond, and of two neighbours neither can be had with the better half
    of the other.
    """
    figure = Figure(figsize=(6.0, 4.4), layout="constrained")
    axis = figure.subplots()
    axis.plot(*values[~front].T, "o", color=GREY, ms=5, label="trial")
    order = np.flatnonzero(front)[values[front][:, 0].argsort()]
    steps, label = "steps-pre" if maximised[0] else "steps-post", "Pareto front, with numbers of trials"
    axis.plot(*values[order].T, "s--", color=VERMILION, lw=1, ms=6, drawstyle=steps, label=label)
    for i in order:
        axis.annotate(str(numbers[i]), values[i], xytext=(5, 5), textcoords="offset points", fontsize=8)
    axis.margins(0.08)
    axis.set(xlabel=arrowed(metrics[0], maximised[0]), ylabel=arrowed(metrics[1], maximised[1]))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def arrowed(metric: str, maximised: bool) -> str:
    """The metric with an arrow up or down, to where it is better."""
    return f"{metric} {'↑' if maximised else '↓'}"
