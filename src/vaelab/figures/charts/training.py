"""Charts of what was logged while a model was trained."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from vaelab.figures.charts.colours import BLUE, VERMILION

PANELS = {"ELBO": "elbo", "rate": "rate", "distortion": "distortion"}
STYLES = {"train": {"color": BLUE, "linewidth": 1, "alpha": 0.8}, "val": {"color": VERMILION, "marker": "o", "markersize": 3}}


def bound_chart(logged: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """ELBO, rate and distortion in nats over steps, in training and validation.

    Args:
        logged: (step, value) of each metric by name, such as "val/elbo".
    """
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, len(PANELS))
    for axis, (title, name) in zip(axes, PANELS.items(), strict=True):
        curves = {split: logged.get(f"{split}/{name}", []) for split in STYLES}
        for split, points in curves.items():
            axis.plot([step for step, _ in points], [value for _, value in points], label=split, **STYLES[split])
        axis.set(title=title, xlabel="step", ylabel="nats")
        axis.spines[["top", "right"]].set_visible(False)
        later = sorted(value for points in curves.values() for _, value in points[1:])
        if name != "rate" and later:  # the first steps would hide all that comes after
            low, high = later[len(later) // 20], later[-1 - len(later) // 20]
            margin = 0.1 * (high - low) or 1.0
            axis.set_ylim(low - margin, high + margin)
    axes[0].legend(frameon=False)
    return figure
