"""Parallel coordinates (Inselberg, 1985, https://doi.org/10.1007/BF01898350): many settings of many parameters, and how good they are."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaelab.figures.charts.colours import GREY
from vaelab.figures.charts.summary import BETAS

SPREAD = 0.06  # of lines that meet, relative to the height of an axis


class Panel(NamedTuple):
    """Settings whose metrics can be compared, from the worst to the best."""

    title: str
    parameters: Mapping[str, Sequence[float] | Sequence[str]]  # of each setting
    metrics: Mapping[str, Sequence[float]]


def parallel_chart(panels: Sequence[Panel]) -> Figure:
    """A line for each setting through its parameters and its metrics, coloured by the first of these; the best is the thick one.

    Numbers lie between the least and the largest of their axis; parameters of which that is ten times the least, on a logarithmic scale.
    Words are evenly spaced. Lines that meet in a value lie beside one another, the better above, so that each can be followed.
    """
    most = max(len(panel.parameters) + len(panel.metrics) for panel in panels)
    figure = Figure(figsize=(1.2 + 1.8 * most, 3.8 * len(panels)), layout="constrained")
    for axis, panel in zip(figure.subplots(len(panels), squeeze=False).flat, panels, strict=True):
        _draw(axis, panel)
    figure.supxlabel("a line for each setting; thick: the best", fontsize=8, color=GREY)
    return figure


def _draw(axis: Axes, panel: Panel) -> None:
    names = [*panel.parameters, *panel.metrics]
    scales = [*map(parameter_scale, panel.parameters.values()), *(number_scale(values, False) for values in panel.metrics.values())]
    heights = np.stack([height for height, _ in scales], axis=1)
    beside = np.linspace(-0.5, 0.5, len(heights)) * SPREAD
    for column in heights.T[: len(panel.parameters)]:
        column += beside * (len(np.unique(column)) < len(column))
    for i, line in enumerate(heights):
        colour, best = BETAS(float(line[len(panel.parameters)])), i == len(heights) - 1
        axis.plot(range(len(names)), line, color=colour, linewidth=3.0 if best else 1.4, alpha=1.0 if best else 0.8)
    for x, (_, ticks) in enumerate(scales):
        axis.axvline(x, color=GREY, linewidth=0.8, zorder=0)
        for y, word in ticks.items():
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
            axis.annotate(word, (x, y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8, bbox=box)
    axis.set_xticks(range(len(names)), names)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.set_yticks([])
    axis.set_xlim(-0.1, len(names) - 0.6)
    axis.set_title(panel.title, fontsize=9, pad=12)
    axis.spines[:].set_visible(False)


Scale = tuple[Float[np.ndarray, "settings"], dict[float, str]]  # where values lie on an axis, from 0 to 1, and what is written beside it


def parameter_scale(values: Sequence[float] | Sequence[str]) -> Scale:
    """The scale of numbers, or of words in their order."""
    if not any(isinstance(value, str) for value in values):
        least, largest = min(values), max(values)
        return number_scale(values, least > 0 and largest >= 10 * least)  # type: ignore[arg-type, operator]
    words = sorted(set(map(str, values)))
    places = np.linspace(0, 1, len(words)) if len(words) > 1 else np.array([0.5])
    return np.array([places[words.index(str(value))] for value in values]), dict(zip(places.tolist(), words, strict=True))


def number_scale(values: Sequence[float], logarithmic: bool) -> Scale:
    """The scale of numbers, with every number beside the axis if there is room for them, else with five that are evenly spaced."""
    forth, back = (np.log, np.exp) if logarithmic else (np.asarray, np.asarray)
    numbers = forth(np.array(values, dtype=float))
    low, span = numbers.min(), np.ptp(numbers)
    if not span:
        return np.full(len(numbers), 0.5), {0.5: f"{values[0]:.4g}"}
    heights = (numbers - low) / span
    places = np.unique(heights.round(9))
    if np.diff(places).min() < 0.06:
        places = np.linspace(0, 1, 5)
    return heights, {place: f"{back(low + place * span):.4g}" for place in places.tolist()}
