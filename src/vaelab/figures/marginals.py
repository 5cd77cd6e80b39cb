"""Columns of a table, one by one: data against samples of the model, the worst fitted first."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import ks_2samp

from vaelab.data.columns import CODED, Column

MOST_SHOWN = 24  # columns
NUM_BINS = 30
NUM_ACROSS = 4  # columns of a table in a row of the figure


def distance(column: Column, data: Float[np.ndarray, "n"], samples: Float[np.ndarray, "m"]) -> float:
    """Distance of two samples of a column, from 0 to 1: Kolmogorov's and Smirnov's; of codes, the total variation."""
    if column.kind not in CODED:
        return float(ks_2samp(data, samples).statistic)
    shares = [np.bincount(column.codes(part), minlength=len(column.values)) / len(part) for part in (data, samples)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def marginals(columns: Sequence[Column], data: Float[np.ndarray, "n d"], samples: Float[np.ndarray, "m d"]) -> Figure:
    """Histograms, or bars of codes, of each column, with how far apart they are.

    Args:
        columns: of the table.
        data: rows of it; NaN is left out.
        samples: rows that the model made.
    """
    known = [data[~np.isnan(data[:, j]), j] for j in range(len(columns))]
    distances = [distance(column, known[j], samples[:, j]) if len(known[j]) else 0.0 for j, column in enumerate(columns)]
    order = sorted(range(len(columns)), key=lambda j: -distances[j])[:MOST_SHOWN]
    height = -(-len(order) // NUM_ACROSS)
    figure = Figure(figsize=(3.2 * NUM_ACROSS, 2.4 * height), layout="constrained")
    for axes, j in zip(figure.subplots(height, NUM_ACROSS, squeeze=False).flat, order, strict=False):
        of_column(axes, columns[j], known[j], samples[:, j])
        axes.set_title(f"{columns[j].name[:24]}: {distances[j]:.2f}", fontsize=9)
        axes.tick_params(labelsize=7)
        axes.set_yticks([])
    for axes in list(figure.axes)[len(order) :]:
        axes.set_axis_off()
    figure.axes[0].legend(fontsize=7)
    figure.suptitle("columns of data and of samples, and the distance between them; the worst fitted first", fontsize=10)
    return figure


def of_column(axes: Axes, column: Column, data: Float[np.ndarray, "n"], samples: Float[np.ndarray, "m"]) -> None:
    """Draw one column."""
    both = {"data": data, "samples": samples}
    if column.kind in CODED:
        places = np.arange(len(column.values))
        for shift, (label, values) in zip((-0.2, 0.2), both.items(), strict=True):
            shares = np.bincount(column.codes(values), minlength=len(places)) / max(len(values), 1)
            axes.bar(places + shift, shares, 0.4, label=label)
        shown = [value[:8] for value in column.values] if len(places) <= 8 else []
        axes.set_xticks(places if shown else [], shown)
        return
    low, high = np.quantile(np.concatenate([data, samples]), [0.005, 0.995])
    bins = np.linspace(low, high if high > low else low + 1, NUM_BINS + 1).tolist()
    if column.kind == "count":  # as many whole numbers in each
        step = max(1, int(np.ceil((high - low) / NUM_BINS)))
        bins = np.arange(np.floor(low) - 0.5, high + step, step).tolist()
    for label, values in both.items():
        weights = np.full(len(values), 1 / max(len(values), 1))
        axes.hist(values, bins, weights=weights, alpha=0.55, label=label)
    axes.locator_params(axis="x", nbins=4)
