"""Charts of a search by Optuna."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vaelab.charts.colours import BLUE, GREY, VERMILION


def save_search_charts(study: Any, metrics: Sequence[str], folder: Path) -> None:
    """history.png, parallel_coordinates.png and, of two metrics, pareto_front.png.

    Args:
        study: of Optuna's.
        metrics: the names of its values.
        folder: where they are written.
    """
    done = [trial for trial in study.trials if trial.values is not None]
    if not done:
        return
    folder.mkdir(parents=True, exist_ok=True)
    maximised = [direction.name == "MAXIMIZE" for direction in study.directions]
    values = np.array([trial.values for trial in done])
    numbers = [trial.number for trial in done]
    history_chart(numbers, values[:, 0], metrics[0], maximised[0]).savefig(folder / "history.png", dpi=130)
    parallel_chart([trial.params for trial in done], values[:, 0], metrics[0]).savefig(folder / "parallel_coordinates.png", dpi=130)
    if len(metrics) == 2:
        best = {trial.number for trial in study.best_trials}
        front = np.array([number in best for number in numbers])
        pareto_chart(values, front, metrics).savefig(folder / "pareto_front.png", dpi=130)


def history_chart(numbers: Sequence[int], values: np.ndarray, metric: str, maximised: bool) -> Figure:
    """The value of each trial, and the best so far."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.plot(numbers, values, "o", color=BLUE, ms=5, label="trial")
    axis.step(numbers, (np.maximum if maximised else np.minimum).accumulate(values), where="post", color=VERMILION, label="best so far")
    axis.set(xlabel="trial", ylabel=metric)
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def pareto_chart(values: np.ndarray, front: np.ndarray, metrics: Sequence[str]) -> Figure:
    """Two metrics of each trial, and those that no other is better than in both."""
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axis = figure.subplots()
    axis.plot(*values[~front].T, "o", color=GREY, ms=5, label="trial")
    axis.plot(*values[front][values[front][:, 0].argsort()].T, "s--", color=VERMILION, lw=1, ms=6, label="Pareto front")
    axis.set(xlabel=metrics[0], ylabel=metrics[1])
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def parallel_chart(params: Sequence[dict[str, Any]], values: np.ndarray, metric: str) -> Figure:
    """A line for each trial through the values of its parameters, coloured by a metric."""
    names = sorted({name for point in params for name in point})
    figure = Figure(figsize=(max(5.0, 1.9 * (len(names) + 1)), 4.2), layout="constrained")
    axis = figure.subplots()
    scale = Normalize(values.min(), values.max() if np.ptp(values) else values.min() + 1)
    colours = colormaps["viridis"]
    heights = [[place(point.get(name), [other.get(name) for other in params]) for name in names] for point in params]
    for i in values.argsort():  # the largest on top
        axis.plot(range(len(names) + 1), [*heights[i], scale(values[i])], color=colours(scale(values[i])), alpha=0.8, lw=1.4)
    for x, name in enumerate(names):
        ends = ticks([point.get(name) for point in params])
        for y, word in ends:
            axis.annotate(word, (x, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axis.set_xticks(range(len(names) + 1), [*names, metric], rotation=15, ha="right")
    axis.set_yticks([])
    axis.set_xlim(-0.1, len(names) + 0.1)
    for x in range(len(names) + 1):
        axis.axvline(x, color=GREY, lw=0.8, zorder=0)
    axis.spines[:].set_visible(False)
    figure.colorbar(ScalarMappable(scale, colours), ax=axis, label=metric)
    return figure


def place(value: Any, others: Sequence[Any]) -> float:
    """Where a value lies on its axis, from 0 to 1; positive numbers over two decades or more on a logarithmic one."""
    if not all(isinstance(other, int | float) for other in others):
        kinds = sorted({str(other) for other in others})
        return kinds.index(str(value)) / max(len(kinds) - 1, 1)
    numbers = np.array(others, dtype=float)
    logarithmic = numbers.min() > 0 and numbers.max() / numbers.min() > 100
    low, high, here = (np.log(part) if logarithmic else part for part in (numbers.min(), numbers.max(), value))
    return float((here - low) / (high - low)) if high > low else 0.5


def ticks(others: Sequence[Any]) -> list[tuple[float, str]]:
    """What is written beside an axis: the ends of numbers, or every name."""
    if all(isinstance(other, int | float) for other in others):
        shown = {min(others), max(others)}
        return [(place(value, others), f"{value:.3g}") for value in shown]
    return [(place(value, others), str(value)) for value in sorted({str(other) for other in others})]
