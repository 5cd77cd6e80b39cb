"""Charts of what metrics report.

Colours are those of Okabe & Ito (2008, https://jfly.uni-koeln.de/color/), told apart with any colour vision; what has an order is shown in
viridis, what comes back to its start in twilight. Nothing is told by colour alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from vaelab.figures.charts.colours import BLUE, GREY, OKABE_ITO, VERMILION

CLASS_COLOURS = (*OKABE_ITO, GREY, "#882255")  # ten, for data of ten classes; the last is the wine red of Paul Tol
CLASS_MARKERS = ("o", "^", "s", "D")  # of each further ten
MAX_CLASSES = len(CLASS_COLOURS) * len(CLASS_MARKERS)
SMALLEST_VARIANCE = 1e-8  # that is shown: a logarithmic axis has no zero
MAX_NAMED = 32  # dimensions, with a number below each
PANELS_IN_A_ROW = 3


def active_units_chart(results: Mapping[str, Any], threshold: float = 0.01) -> Figure:
    """Var_x(E_q(z_d | x)[z_d]) of each dimension, sorted, and the threshold of an active unit (Burda et al., 2016).

    https://arxiv.org/abs/1509.00519

    Args:
        results: with `active_units_variances`, as `vaelab.metrics.latent` reports them.
        threshold: the paper's 0.01.

    Raises:
        ValueError: if the results have no variances.
    """
    variances = reported(results, "active_units_variances")
    order = by_size(variances)
    heights = [max(variances[d], SMALLEST_VARIANCE) for d in order]
    active = sum(variance > threshold for variance in variances)
    figure, axis = one_panel(len(order))
    axis.set_yscale("log")
    floor = min(*heights, threshold) / 3
    axis.set_ylim(floor, 3 * max(*heights, threshold))
    axis.vlines(range(len(order)), floor, heights, color=GREY, lw=0.8)
    for name, ranks, fill in (("active", slice(0, active), BLUE), ("inactive", slice(active, None), "white")):
        count = len(heights[ranks])
        axis.plot(range(len(order))[ranks], heights[ranks], "o", ms=6, mec=BLUE, mfc=fill, label=f"{name}: {count}")
    axis.axhline(threshold, color=VERMILION, ls="--", lw=1.2, zorder=1)
    axis.annotate(
        f"threshold {threshold:g}",
        (1, threshold),
        xycoords=axis.get_yaxis_transform(),
        xytext=(0, 3),
        textcoords="offset points",
        color=VERMILION,
        ha="right",
    )
    axis.legend(frameon=False, loc="upper right", handletextpad=0.2)
    axis.set(title=f"{active} of {len(order)} units are active", ylabel=r"$\mathrm{Var}_x\,(\mathrm{E}_{q(z_d|x)}[z_d])$")
    name_dimensions(axis, order)
    return figure


def rate_chart(results: Mapping[str, Any]) -> Figure:
    """E_x KL(q(z_d | x) || p(z_d)) of each dimension in nats, sorted.

    Args:
        results: with `rate_per_dimension`, as `vaelab.metrics.latent` reports it.

    Raises:
        ValueError: if the results have no rates.
    """
    rates = reported(results, "rate_per_dimension")
    order = by_size(rates)
    heights, total = [rates[d] for d in order], sum(rates)
    figure, axis = one_panel(len(order))
    axis.bar(range(len(order)), heights, width=0.75, color=BLUE)
    axis.set_ylim(bottom=min(0, *heights))
    axis.set(title=f"rate {total:.3g} nats" + concentration(heights), ylabel="rate (nats)")
    axis.grid(axis="y", color="#DDDDDD", lw=0.6)
    axis.set_axisbelow(True)
    name_dimensions(axis, order)
    return figure


def code_usage_chart(counts: Mapping[str, Int[Tensor, "_ _"]]) -> Figure:
    """The use of each code, as a multiple of the even share 1 / K, the codes of each map and depth sorted by it.

    The axis is logarithmic, and codes that were never chosen have no height: where a line ends is how many are used.

    Args:
        counts: of K codes at each of T depths, by the names of maps of codes.
    """
    rows = {(name, depth): row for name, part in counts.items() for depth, row in enumerate(part.cpu())}
    used, total = (sum(map(each, rows.values())) for each in (lambda row: int((row > 0).sum()), len))
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axis = figure.subplots()
    for place, ((name, depth), row) in enumerate(rows.items()):
        heights = row[row > 0].sort(descending=True).values.double() * len(row) / row.sum()
        colour = colormaps["viridis"](0.85 * place / (len(rows) - 1)) if len(rows) > 1 else BLUE
        label = " ".join([name] * bool(name) + [f"depth {depth}"] * (len(counts[name]) > 1))
        label = f"{label}: {len(heights)} of {len(row)}"
        axis.stairs(heights, range(1, len(heights) + 2), baseline=None, color=colour, lw=1.5, label=label, fill=False)
        if len(rows) == 1:
            floor = heights.min().item() / 2
            axis.stairs(heights, range(1, len(heights) + 2), baseline=floor, color=colour, alpha=0.25, fill=True)
    axis.axhline(1, color=GREY, ls="--", lw=1, zorder=1)
    axis.annotate(
        "even use", (1, 1), xycoords=axis.get_yaxis_transform(), xytext=(0, 3), textcoords="offset points", color=GREY, ha="right"
    )
    axis.set_yscale("log")
    axis.set_xlim(1, max(map(len, rows.values())) + 1)
    axis.spines[["top", "right"]].set_visible(False)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(title=f"{used} of {total} codes are used", xlabel="rank of the code", ylabel="use / even use")
    if len(rows) > 1:
        axis.legend(frameon=False, loc="lower left", handletextpad=0.4)
    return figure


def concentration(sizes: Sequence[float], most: float = 0.95) -> str:
    """Text such as ", 95% of it in 3 of 10 dimensions" of sorted sizes; "" if some are negative or all are 0."""
    total, so_far = sum(sizes), 0.0
    if total <= 0 or min(sizes) < 0:
        return ""
    for count, size in enumerate(sizes, start=1):
        so_far += size
        if so_far >= most * total:
            return f", {most:.0%} of it in {count} of {len(sizes)} dimensions"
    return ""


def latent_scatter(
    z: Float[Tensor, "n d"],
    y: Shaped[Tensor, "m ..."],
    names: Sequence[str] = (),
    rates: Sequence[float] | None = None,
    title: str = "",
    values: Mapping[str, Sequence[str]] | None = None,
    cyclic: Sequence[str] = (),
) -> Figure:
    """Points of the latent space in a plane, coloured by their class, or in one panel for each factor.

    The plane is that of the two dimensions of largest rate; of more than two dimensions without rates, that of the first two principal
    components.

    Args:
        z: for example the centres of q(z | x).
        y: labels (N,), grey where below 0, or factors (N, F).
        names: of the classes, or of the factors.
        rates: of the D dimensions, or None.
        title: of the figure.
        values: names of the values of some factors.
        cyclic: factors whose last value is next to the first.

    Raises:
        ValueError: if z and y differ in length, there are no points, or the rates are not those of z.
    """
    if len(z) != len(y) or not len(z):
        raise ValueError(f"a scatter plot needs a class or factors for each point, but z has {len(z)} points and y has {len(y)}")
    points, axis_names = plane(z.detach().double().cpu(), rates)
    if y.ndim == 1 and not y.is_floating_point():
        figure = Figure(figsize=(6.4, 5.2), layout="constrained")
        panels = [figure.subplots()]
        scatter_by_class(panels[0], points, y.cpu(), names)
    else:
        columns = y.reshape(len(y), -1).cpu()
        wide = min(columns.shape[1], PANELS_IN_A_ROW)
        high = -(-columns.shape[1] // wide)
        figure = Figure(figsize=(4.2 * wide, 3.6 * high), layout="constrained")
        grid = figure.subplots(high, wide, squeeze=False).flat
        panels = [grid[i] for i in range(columns.shape[1])]
        for empty in list(grid)[columns.shape[1] :]:
            empty.remove()
        factors = names if len(names) == len(panels) else [f"factor {i}" for i in range(len(panels))]
        for axis, column, name in zip(panels, columns.T, factors, strict=True):
            if values and name in values:
                scatter_by_class(axis, points, column, values[name], at_medians=False)
            else:
                scatter_by_value(figure, axis, points, column, "twilight" if name in cyclic else "viridis")
            axis.set_title(name)
    for axis in panels:
        axis.set(xlabel=axis_names[0], ylabel=axis_names[1])
        axis.set_aspect("equal", adjustable="datalim")
        axis.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(title)
    return figure


def plane(z: Float[Tensor, "n d"], rates: Sequence[float] | None) -> tuple[Float[Tensor, "n 2"], tuple[str, str]]:
    """The points in a plane, and what its two axes are."""
    if rates is not None and len(rates) != z.shape[1]:
        raise ValueError(f"z has {z.shape[1]} dimensions, but there are {len(rates)} rates")
    if z.shape[1] == 1:
        apart = torch.arange(len(z), dtype=z.dtype)[:, None] * 0.618 % 1  # the golden ratio fills an interval evenly
        return torch.cat([z, apart * z.std(correction=0)], dim=1), ("$z_0$", "no meaning: points spread out")
    if rates is None and z.shape[1] > 2:
        centred = z - z.mean(0)
        _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
        shares = sizes.square() / sizes.square().sum().clamp(min=torch.finfo(z.dtype).tiny)
        first, second = (f"principal component {i + 1} ({float(shares[i]):.0%} of the variance)" for i in range(2))
        return centred @ directions[:2].T, (first, second)
    dims = [0, 1] if rates is None else by_size(rates)[:2]
    first, second = (f"$z_{{{d}}}$" + ("" if rates is None else f" (rate {rates[d]:.2g} nats)") for d in dims)
    return z[:, dims], (first, second)


def scatter_by_class(
    axis: Axes, points: Float[Tensor, "n 2"], y: Shaped[Tensor, "n"], names: Sequence[str], at_medians: bool = True
) -> None:
    """Draws points by class, with the name of each class in the legend and at its median.

    Raises:
        ValueError: if there are more classes than can be told apart.
    """
    classes = y[y >= 0].unique().tolist()
    if len(classes) > MAX_CLASSES:
        raise ValueError(f"{len(classes)} classes cannot be told apart: show {MAX_CLASSES} of them, or y[:, None] as a factor")
    size = dot_size(len(points))
    if bool((y < 0).any()):
        axis.scatter(points[y < 0, 0], points[y < 0, 1], s=size, c="#DDDDDD", lw=0, label="unknown")
    marker_of = [CLASS_MARKERS[i // len(CLASS_COLOURS)] for i in range(len(classes))]
    for i, (label, marker) in enumerate(zip(classes, marker_of, strict=True)):
        name, mine = names[label] if label < len(names) else str(label), points[y == label]
        axis.scatter(
            mine[:, 0], mine[:, 1], s=size, color=CLASS_COLOURS[i % len(CLASS_COLOURS)], marker=marker, lw=0, alpha=0.7, label=name
        )
        x, height = mine.median(0).values.tolist()
        if at_medians:
            outline = [withStroke(linewidth=3, foreground="white")]
            axis.annotate(name, (x, height), ha="center", va="center", weight="bold", size=9, path_effects=outline)
    legend = axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), ncols=-(-len(classes) // 20) or 1, handletextpad=0.2)
    for handle in legend.legend_handles:
        assert isinstance(handle, PathCollection)
        handle.set(sizes=[40], alpha=1)


def scatter_by_value(
    figure: Figure, axis: Axes, points: Float[Tensor, "n 2"], values: Shaped[Tensor, "n"], colours: str = "viridis"
) -> None:
    """Draws points by the value of one factor; a factor of few values has a colour bar in steps."""
    levels = values.unique().tolist()
    norm, stepped = None, 1 < len(levels) <= 10 and not values.is_floating_point()
    if stepped:
        edges = [levels[0] - 0.5, *((a + b) / 2 for a, b in zip(levels, levels[1:], strict=False)), levels[-1] + 0.5]
        norm = BoundaryNorm(edges, colormaps[colours].N)
    shown = axis.scatter(points[:, 0], points[:, 1], s=dot_size(len(points)), c=values, cmap=colours, norm=norm, lw=0)
    bar = figure.colorbar(shown, ax=axis, **({"ticks": levels} if stepped else {}))
    bar.outline.set_visible(False)


def dot_size(count: int) -> float:
    """The area of a dot, in square points, so that clouds of any number of dots look alike."""
    return 100 / count**0.35


def reported(results: Mapping[str, Any], name: str) -> list[float]:
    """The numbers of this name.

    Raises:
        ValueError: if there are none.
    """
    numbers = results.get(name)
    if not numbers:
        raise ValueError(f"the results have no {name}: it was not measured, or is not defined for this model")
    return [float(number) for number in numbers]


def by_size(sizes: Sequence[float]) -> list[int]:
    """The indices of the sizes, the largest first."""
    return sorted(range(len(sizes)), key=lambda i: -sizes[i])


def one_panel(count: int) -> tuple[Figure, Axes]:
    """A figure for `count` things in a row."""
    figure = Figure(figsize=(min(max(0.24 * count + 1.6, 5.0), 11.0), 3.6), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlim(-0.7, count - 0.3)
    return figure, axis


def name_dimensions(axis: Axes, order: Sequence[int]) -> None:
    """Writes the dimensions of z below what is shown of them; of many, their ranks."""
    if len(order) <= MAX_NAMED:
        axis.set_xticks(range(len(order)), [str(d) for d in order])
        axis.set_xlabel("dimension $d$ of z, sorted")
    else:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("rank of the dimension of z")
