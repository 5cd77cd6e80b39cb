"""Charts of anomaly scores, and the examples that they rank highest and lowest.

Anomalies and normal examples are told apart by colour and by fill.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vaelab.data.modality import Modality
from vaelab.figures.charts.colours import BLACK, BLUE, GREY, OKABE_ITO, VERMILION
from vaelab.figures.curves import Panels, in_units
from vaelab.figures.tiles import tile

NUM_BINS = 50
TAIL = 0.005  # of the scores on each side, which is left out of the histograms: one outlier would squeeze all others into one bin
ABOVE_STRIP = 0.8  # inches, for its title, and the scores and names of its examples
STYLES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Strip:
    """Examples in a row, with their reconstructions below and their scores."""

    title: str
    x: Float[Tensor, "n ..."]
    reconstructions: Float[Tensor, "n ..."]
    scores: Float[Tensor, "n"]
    names: Sequence[str] = ()  # of the examples


def scores_chart(
    scores: Mapping[str, Float[Tensor, "n"]], is_anomaly: Bool[Tensor, "n"], reports: Mapping[str, Mapping[str, float]], title: str = ""
) -> Figure:
    """A histogram of each score over normal examples and over anomalies, and all ROC curves.

    Args:
        scores: by name.
        is_anomaly: which examples are.
        reports: by name, with `auroc`, as `vaelab.applications.detection` reports it.
        title: of the figure.
    """
    wide = min(3, len(scores) + 1)
    high = -(-(len(scores) + 1) // wide)
    figure = Figure(figsize=(4.2 * wide, 3.0 * high + 0.5), layout="constrained")
    panels = list(figure.subplots(high, wide, squeeze=False).flat)
    for axis, (name, values) in zip(panels, scores.items(), strict=False):
        histogram(axis, values, is_anomaly)
        axis.set_title(f"{in_words(name)}: AUROC {with_error(reports[name], 'auroc')}", size=10)
    panels[0].legend(frameon=False, fontsize=8)
    roc(panels[len(scores)], scores, is_anomaly, reports)
    for empty in panels[len(scores) + 1 :]:
        empty.remove()
    figure.suptitle(title)
    return figure


def histogram(axis: Axes, scores: Float[Tensor, "n"], is_anomaly: Bool[Tensor, "n"]) -> None:
    """Two densities over the same bins; what is not finite is not shown."""
    seen = scores.isfinite()
    low, high = (float(scores[seen].quantile(share)) for share in (TAIL, 1 - TAIL))
    bins = np.linspace(low, high if high > low else low + 1, NUM_BINS + 1).tolist()
    normal, anomalous = (scores[seen & chosen].numpy() for chosen in (~is_anomaly, is_anomaly))
    axis.hist(normal, bins=bins, density=True, histtype="stepfilled", color=BLUE, alpha=0.45, label=f"normal: {int((~is_anomaly).sum())}")
    axis.hist(anomalous, bins=bins, density=True, histtype="step", color=VERMILION, lw=1.6, label=f"anomalies: {int(is_anomaly.sum())}")
    axis.set(yticks=[], xlabel="nats")
    axis.spines[["top", "right", "left"]].set_visible(False)


def roc(axis: Axes, scores: Mapping[str, Tensor], is_anomaly: Bool[Tensor, "n"], reports: Mapping[str, Mapping[str, float]]) -> None:
    """The true positive rate over the false positive rate; the best score first in the legend."""
    from sklearn.metrics import roc_curve  # imported here, because figures are imported to train, and few programs detect

    axis.plot([0, 1], [0, 1], color=GREY, lw=0.8)
    for i, name in enumerate(sorted(scores, key=lambda name: -reports[name]["auroc"])):
        ranks = scores[name].unique(return_inverse=True)[1]
        false_positives, true_positives, _ = roc_curve(is_anomaly.numpy(), ranks.numpy())
        colour, style = OKABE_ITO[i % len(OKABE_ITO)], STYLES[i % len(STYLES)]
        axis.plot(false_positives, true_positives, color=colour, ls=style, lw=1.4, label=in_words(name))
    axis.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC", xlim=(0, 1), ylim=(0, 1.005), aspect="equal")
    axis.title.set_fontsize(10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def extremes_chart(strips: Sequence[Strip], modality: Modality, title: str = "") -> Figure:
    """Strips of examples, each with its reconstruction below it and its score below that.

    Args:
        strips: of equally many examples or fewer.
        modality: of the examples.
        title: of the figure.
    """
    if modality.has_curves:
        return extreme_curves(strips, modality, title)
    levels = modality.levels(torch.cat([strip.x for strip in strips]))
    pictures = [tile(modality.pictures(torch.stack([strip.x, strip.reconstructions])), levels, background=1.0) for strip in strips]
    most = max(len(strip.x) for strip in strips)
    height, width = pictures[0].shape[1], pictures[0].shape[2] * most / len(strips[0].x)
    figure = Figure(figsize=(11, len(strips) * (11 * height / width + 0.75) + 0.5), layout="constrained")
    for axis, picture, strip in zip(figure.subplots(len(strips), 1, squeeze=False).flat, pictures, strips, strict=True):
        axis.imshow(picture.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set_xlim(-0.5, width - 0.5)
        column = picture.shape[2] / len(strip.x)
        ticks = [column * (i + 0.5) - 0.5 for i in range(len(strip.x))]
        names = strip.names or [""] * len(ticks)
        words = [f"{score:.4g}\n{name}".strip() for score, name in zip(strip.scores.tolist(), names, strict=True)]
        axis.set_xticks(ticks, words, size=8, color=BLACK)
        axis.set_yticks([])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        axis.set_title(strip.title, loc="left", size=10)
    figure.suptitle(title)
    return figure


def extreme_curves(strips: Sequence[Strip], modality: Modality, title: str) -> Figure:
    """The same of series and vectors: a row of panels for each strip, in each an example and its reconstruction."""
    most = max(len(strip.x) for strip in strips)
    every = torch.cat([torch.cat([strip.x, strip.reconstructions]) for strip in strips])
    grid = Panels(in_units(modality), most * len(strips), every, most, title=title, above=ABOVE_STRIP)
    for row, strip in enumerate(strips):
        names = strip.names or [""] * len(strip.x)
        for column, (x, other, score, name) in enumerate(zip(strip.x, strip.reconstructions, strip.scores.tolist(), names, strict=True)):
            place = row * most + column
            grid.draw(place, x, color=BLACK, alpha=0.55, linewidth=1.4, label="x")
            grid.draw(place, other, color=BLUE, label="E[x | z]")
            grid.titled(place, f"{score:.4g}\n{name}".strip())
        grid.of(row * most)[0].annotate(strip.title, (0, 1), (0, 32), "axes fraction", "offset points", size=10)
        for axis in (axis for place in range(row * most + len(strip.x), (row + 1) * most) for axis in grid.of(place)):
            axis.set_visible(False)
    grid.legend()
    return grid.figure


def with_error(report: Mapping[str, float], key: str) -> str:
    """A number and its standard error, with as many digits as that is known to."""
    error = report[f"{key}_std_error"]
    digits = 3 if error == 0 else min(max(1 - math.floor(math.log10(error)), 2), 4)
    return f"{report[key]:.{digits}f} ± {error:.{digits}f}"


def in_words(name: str) -> str:
    """A name of the code as a person writes it."""
    return name.replace("_", " ").replace("kl ", "KL ").replace("elbo", "ELBO").replace("negative log likelihood", "-log p(x)")
