"""A chart of the distances between columns of samples and of data."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from vaelab.figures.charts.colours import BLUE, VERMILION

MOST_SHOWN = 30  # columns
MOST_OF_NAME = 28  # letters


def marginal_distances_chart(results: Mapping[str, Any]) -> Figure:
    """The distance of each column from that of the data, of samples as a bar, of training data as a mark; the largest first.

    Args:
        results: with `marginal_distances`, as `vaelab.metrics.two_sample` reports them.
    """
    ours: Mapping[str, float] = results["marginal_distances"]
    floor: Mapping[str, float] = results.get("marginal_distances_of_train") or {}
    shown = sorted(ours, key=lambda name: -ours[name])[:MOST_SHOWN]
    figure = Figure(figsize=(7.0, 1.3 + 0.24 * len(shown)), layout="constrained")
    axis = figure.subplots()
    axis.barh(range(len(shown)), [ours[name] for name in shown], height=0.7, color=BLUE, label="samples")
    known = [place for place, name in enumerate(shown) if name in floor]
    axis.plot([floor[shown[place]] for place in known], known, "|", ms=11, mew=2.2, color=VERMILION, label="training data")
    axis.set_yticks(range(len(shown)), [name[:MOST_OF_NAME] for name in shown])
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.spines[["top", "right"]].set_visible(False)
    left = f", the {len(shown)} worst of {len(ours)}" if len(shown) < len(ours) else ""
    axis.set_title(f"distance of columns from test data{left}", fontsize=11)
    axis.set_xlabel("numbers: Wasserstein-1 in standard deviations; categories: total variation", fontsize=9)
    axis.legend(frameon=False, loc="lower right")
    return figure
