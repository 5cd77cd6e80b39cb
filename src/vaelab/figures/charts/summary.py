"""Charts of many runs: each metric by setting, and the rate-distortion plane."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator

from vaelab.figures.charts.colours import GREY, OKABE_ITO

COLOURS = (*OKABE_ITO[:-1], GREY)  # black is left for text
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
BELOW: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, -0.12), "fontsize": 8, "frameon": False}
BETAS = ListedColormap(colormaps["viridis"](np.linspace(0, 0.88, 256)))  # its lightest end cannot be seen on white


class Dot(NamedTuple):
    """A metric of one setting."""

    name: str  # of the setting, apart from what is swept
    x: float | None  # the number that is swept, if there is one
    runs: Sequence[float]
    mean: float
    half_width: float  # NaN for a single run


class RateDistortion(NamedTuple):
    """The runs of one setting."""

    name: str  # of the setting, apart from beta
    beta: float | None
    points: Sequence[tuple[float, float]]  # rate, distortion


def metrics_chart(panels: Mapping[str, Sequence[Dot]], x_name: str | None = None) -> Figure:
    """A panel for each metric, with means, intervals and, beside them, each run as a small dot.

    With x_name the settings lie along a number that is swept, with a line for each of their other differences; else one below the other.
    Panels are as large as the runs need: an interval of two runs may be so wide that nothing else could be seen, and then leaves its panel.
    """
    names = list(dict.fromkeys(dot.name for dots in panels.values() for dot in dots))
    columns = min(len(panels), 3 if x_name else 5)
    rows = -(-len(panels) // columns)
    height, width = (2.9, 3.6) if x_name else (0.9 + 0.36 * len(names), 2.7)
    margin = 0.0 if x_name else 0.08 * max(map(len, names), default=0)
    figure = Figure(figsize=(max(width * columns + margin, 5.0), height * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axis, (metric, dots) in zip(grid.flat, panels.items(), strict=False):
        if x_name:
            _along(axis, dots, names)
            axis.set_xlabel(x_name)
        else:
            _below(axis, dots, names, axis in grid[:, 0])
        axis.set_title(metric, fontsize=11)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in grid.flat[len(panels) :]:
        axis.set_visible(False)
    if x_name and names != [""]:
        handles = [Line2D([], [], color=_colour(i), marker=_marker(i), label=name) for i, name in enumerate(names)]
        room = int(figure.get_figwidth() / (0.8 + 0.09 * max(map(len, names))))
        figure.legend(handles=handles, loc="outside upper center", ncols=max(min(len(names), room), 1), frameon=False)
    if any(math.isfinite(dot.half_width) for dots in panels.values() for dot in dots):
        figure.supxlabel("dots: runs; bars: mean and 95 % interval over seeds, cut where it leaves the panel", fontsize=8, color=GREY)
    return figure


def _along(axis: Axes, dots: Sequence[Dot], names: Sequence[str]) -> None:
    places = sorted({dot.x for dot in dots if dot.x is not None})
    logarithmic = places[0] > 0 and places[-1] / places[0] >= 10
    span = (math.log(places[-1] / places[0]) if logarithmic else places[-1] - places[0]) or 1.0

    def beside(x: float, share: float) -> float:
        return x * math.exp(share * span) if logarithmic else x + share * span

    for i, name in enumerate(names):
        line = sorted((dot.x, dot) for dot in dots if dot.name == name and dot.x is not None)
        shift = min(0.03, 0.4 / (len(names) * len(places))) * (i - (len(names) - 1) / 2)
        for x, dot in line:
            if len(dot.runs) > 1:
                axis.scatter([beside(x, shift + 0.02)] * len(dot.runs), dot.runs, s=10, color=_colour(i), alpha=0.6, linewidths=0, zorder=2)
        finite = [(beside(x, shift), dot) for x, dot in line if math.isfinite(dot.mean)]
        bars = [dot.half_width if math.isfinite(dot.half_width) else 0.0 for _, dot in finite]
        axis.errorbar(
            [x for x, _ in finite],
            [dot.mean for _, dot in finite],
            bars,
            color=_colour(i),
            marker=_marker(i),
            markersize=5,
            linewidth=1.2,
            capsize=3,
            zorder=3,
        )
    axis.margins(x=0.08)
    axis.set_ylim(_view(dots))
    axis.ticklabel_format(axis="y", useOffset=False)
    axis.yaxis.set_major_locator(MaxNLocator(5, integer=_whole(dots)))
    if logarithmic:
        axis.set_xscale("log")
    steps = np.diff(np.log(places) if logarithmic else places) / span
    if steps.min(initial=1.0) > 0.07:  # each has room for a label of its own
        axis.xaxis.set_major_locator(FixedLocator(places))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xticks(places, [f"{x:.4g}" for x in places])


def _below(axis: Axes, dots: Sequence[Dot], names: Sequence[str], labelled: bool) -> None:
    for dot in dots:
        y = names.index(dot.name)
        if len(dot.runs) > 1:
            axis.scatter(dot.runs, [y + 0.2] * len(dot.runs), s=10, color=COLOURS[0], alpha=0.6, linewidths=0, zorder=2)
        if math.isfinite(dot.mean):
            bar = dot.half_width if math.isfinite(dot.half_width) else None
            axis.errorbar(dot.mean, y, xerr=bar, color=COLOURS[0], marker="o", markersize=5, linewidth=1.2, capsize=3, zorder=3)
    axis.set_yticks(range(len(names)), names if labelled else [""] * len(names))
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlim(_view(dots))
    axis.ticklabel_format(axis="x", useOffset=False)
    axis.xaxis.set_major_locator(MaxNLocator(4, integer=_whole(dots)))


def _view(dots: Sequence[Dot]) -> tuple[float, float]:
    """All runs, and of the intervals so much as leaves the runs half of the panel."""
    runs = [value for dot in dots for value in dot.runs if math.isfinite(value)] or [0.0]
    low, high = min(runs), max(runs)
    span = max(high - low, 1.0 if _whole(dots) else 1e-3 * max(abs(low), abs(high)), 1e-6)
    ends = [dot.mean + sign * dot.half_width for dot in dots if math.isfinite(dot.half_width) for sign in (-1, 1)] or runs
    least, most = max(min(ends), low - 0.5 * span), min(max(ends), high + 0.5 * span)
    return min(least, low) - 0.08 * span, max(most, high) + 0.08 * span


def _whole(dots: Sequence[Dot]) -> bool:
    return all(value == round(value) for dot in dots for value in dot.runs if math.isfinite(value))


def rate_distortion_chart(planes: Sequence[tuple[str, Sequence[RateDistortion]]]) -> Figure:
    """Distortion D against rate R, with lines of equal ELBO = -(R + D), whose slope is -1 (Alemi et al., 2018,
    https://arxiv.org/abs/1711.00464).

    Runs are small, and tied to the mean of their setting. Settings with a beta are coloured by it and joined in its order: the curve of
    rates and distortions that the model can attain, which a beta-VAE meets where its slope is -beta. Each plane has a panel and a title.
    """
    named = max(len({setting.name for setting in plane}) for _, plane in planes)
    figure = Figure(figsize=(6.4 * len(planes), 4.8 + 0.2 * named * (named > 1)), layout="constrained")
    for axis, (title, plane) in zip(figure.subplots(1, len(planes), squeeze=False).flat, planes, strict=True):
        points = np.array([point for setting in plane for point in setting.points])
        low, high = points.min(0), points.max(0)
        margin = 0.12 * np.maximum(high - low, np.maximum(0.01 * np.abs(high), 1e-3))
        axis.set_xlim(low[0] - margin[0], high[0] + margin[0])
        axis.set_ylim(low[1] - margin[1], high[1] + margin[1])
        _equal_elbo(axis)
        (_curves if all(setting.beta is not None for setting in plane) else _clouds)(axis, plane)
        axis.set(xlabel="rate R (nats)", ylabel="distortion D (nats)")
        axis.set_title(title, fontsize=9, pad=16)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _equal_elbo(axis: Axes) -> None:
    """A few lines R + D = c, each with its ELBO where it enters on the left or from above."""
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    for c in MaxNLocator(9, steps=[1, 2, 5, 10]).tick_values(left + bottom, right + top):
        if left + bottom < c < right + top:
            axis.axline((left, c - left), slope=-1, color="#d0d0d0", linewidth=0.8, zorder=1)
            inside = c - left <= top
            axis.annotate(
                f"ELBO {-c:g}".replace("-", "−"),
                (left, c - left) if inside else (c - top, top),
                xytext=(3 if inside else 0, 2),
                ha="left" if inside else "center",
                textcoords="offset points",
                fontsize=7,
                color=GREY,
            )


def _curves(axis: Axes, plane: Sequence[RateDistortion]) -> None:
    betas = sorted({setting.beta for setting in plane if setting.beta is not None})
    norm = (LogNorm if betas[0] > 0 and betas[-1] / betas[0] >= 10 else Normalize)(betas[0], betas[-1])
    names, named = list(dict.fromkeys(setting.name for setting in plane)), list[tuple[float, float]]()
    labelled = len(betas) <= 10 and len(betas) == sum(setting.name == names[0] for setting in plane)  # the first curve has them all
    for i, name in enumerate(names):
        curve = sorted((setting.beta or 0.0, setting) for setting in plane if setting.name == name)
        axis.plot(
            *np.transpose([np.mean(setting.points, axis=0) for _, setting in curve]), color=GREY, linewidth=1, linestyle=_style(i), zorder=2
        )
        for beta, setting in curve:
            mean = _tied(axis, setting.points, BETAS(float(norm(beta))), _marker(i))
            if labelled and i == 0 and not any(_near(axis, mean, other) for other in named):
                axis.annotate(rf"$\beta$ = {beta:.4g}", mean, xytext=(7, 5), textcoords="offset points", fontsize=9, zorder=5)
                named.append(mean)
    if not labelled:
        figure = axis.get_figure()
        assert figure is not None
        figure.colorbar(ScalarMappable(norm, BETAS), ax=axis, label=r"$\beta$")
    if names != [""]:
        handles = [Line2D([], [], color=GREY, marker=_marker(i), linestyle=_style(i), label=name) for i, name in enumerate(names)]
        axis.legend(handles=handles, **BELOW)


def _near(axis: Axes, a: tuple[float, float], b: tuple[float, float]) -> bool:
    """True if there is no room for labels at both points."""
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    return bool(abs(a[0] - b[0]) < 0.15 * (right - left) and abs(a[1] - b[1]) < 0.05 * (top - bottom))


def _clouds(axis: Axes, plane: Sequence[RateDistortion]) -> None:
    for i, setting in enumerate(plane):
        label = ", ".join(filter(None, (setting.name, "" if setting.beta is None else rf"$\beta$ = {setting.beta:g}")))
        _tied(axis, setting.points, _colour(i), _marker(i), label)
    if len(plane) > 1:
        axis.legend(**BELOW)


def _tied(
    axis: Axes, points: Sequence[tuple[float, float]], colour: str | tuple[float, ...], marker: str, label: str = ""
) -> tuple[float, float]:
    """Draws runs and their mean, and returns the mean."""
    rate, distortion = np.mean(points, axis=0).tolist()
    for point in points if len(points) > 1 else []:
        axis.plot([rate, point[0]], [distortion, point[1]], color=colour, linewidth=0.8, alpha=0.6, zorder=3)
        axis.plot(*point, color=colour, marker="o", markersize=3, zorder=3)
    axis.plot(rate, distortion, color=colour, marker=marker, markersize=8, markeredgecolor="white", linestyle="", label=label, zorder=4)
    return rate, distortion


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _style(i: int) -> tuple[float, Sequence[float]]:
    """Solid, dashed, dotted, and the mixture of both."""
    return 0.0, ((), (5, 2), (1, 2), (5, 2, 1, 2))[i % 4]


def _marker(i: int) -> str:
    """Another one when the colours begin again."""
    return MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]
