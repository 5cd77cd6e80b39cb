"""Series, spectra and other vectors as lines: one panel for each example, a row of it for each channel, all in the units of the data."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vaelab.data.modality import Modality, Vectors
from vaelab.figures.charts.colours import BLACK, BLUE, GREY, OKABE_ITO

WIDTH = 10.5  # inches
LEFT, RIGHT, TOP, BOTTOM, ABOVE, BETWEEN = 0.6, 0.65, 0.35, 0.5, 0.25, 0.2  # of a figure, of a panel, and between panels, in inches
MOST_CHANNELS = 4  # that are shown
LINE, UPRIGHT = 0.19, 0.7  # of a title, and the space below a figure where words stand upright, in inches
MOST_LETTERS = 120  # of a title at its usual size
FEW = 24  # values of a vector, up to which each is a bar or a point
WIDE = 100  # how many times the median value the largest one is, from which the axis is logarithmic
NUM_OF_ROUGH = 16  # values that are shown of a longer vector whose neighbours are not alike
LEAST_ALIKE = 0.25  # correlation of neighbours in a vector, from which it is a line
COLUMNS = 4  # panels side by side
BANDS = ((0.05, 0.95, 0.18), (0.25, 0.75, 0.32))  # quantiles, and how dense their band is
DPI_OF_FRAMES = 90


class Panels:
    """A grid of panels, each as many axes above one another as there are channels; the axes of a channel share their range.

    Args:
        modality: of x.
        num: of the panels.
        shown: all x that will be drawn, whose range the axes have.
        columns: panels side by side.
        height: of an axis in inches.
        title: of the figure.
        above: space above each panel in inches.
    """

    def __init__(
        self,
        modality: Modality,
        num: int,
        shown: Float[Tensor, "n ..."],
        columns: int = COLUMNS,
        height: float = 1.5,
        title: str = "",
        above: float = ABOVE,
    ) -> None:
        self.modality, self.columns = modality, max(1, min(columns, num))
        self.chosen: np.ndarray | None = None  # the values of a vector that are shown; None: all
        self.values = self.lines(shown)  # (n, channels, times)
        if isinstance(modality, Vectors):
            self.chosen = those_that_vary(self.values[:, 0])
            self.values = self.lines(shown)
        self.channels, self.is_short = self.values.shape[-2], isinstance(modality, Vectors) and self.values.shape[-1] <= FEW
        height = 2.1 if self.channels == 1 and num <= 2 else height if self.channels < 3 else 0.7 * height
        total = modality.shape[0] if len(modality.shape) > 1 else 1
        self.words = f" (the first {self.channels} of {total} channels)" if total > self.channels else ""
        self.words += "" if self.chosen is None else f"\n(the {len(self.chosen)} of {modality.shape[0]} values that vary most)"
        words = title + self.words
        self.top, self.above, self.bottom = TOP + LINE * words.count("\n"), above, BOTTOM if self.chosen is None else UPRIGHT
        self.figure, self.axes = self._placed(num, -(-num // self.columns), height)
        size = 11 * min(1.0, MOST_LETTERS / max(1, *map(len, words.split("\n"))))
        self.title = self.figure.text(0.5, 1 - 0.45 * self.top / self.figure.get_figheight(), words, size=size, ha="center", va="center")
        for place in range(num):
            for channel, axis in enumerate(self.of(place)):
                self._prepare(axis, channel, place % self.columns == 0, place + self.columns >= num and channel == self.channels - 1)

    def _placed(self, num: int, rows: int, height: float) -> tuple[Figure, list[list[Axes]]]:
        """The axes of each panel, at places in inches: to find them out would take matplotlib longer than to draw."""
        wide = (WIDTH - LEFT - RIGHT + BETWEEN) / self.columns
        high = self.channels * (height + 0.08) + self.above
        total = self.top + rows * high + self.bottom
        figure, axes = Figure(figsize=(WIDTH, total)), list[list[Axes]]()
        for place in range(num):
            row, column = divmod(place, self.columns)
            lowest = [total - self.top - row * high - self.above - (channel + 1) * (height + 0.08) for channel in range(self.channels)]
            boxes = [(LEFT + column * wide, low, wide - BETWEEN, height) for low in lowest]
            axes.append([figure.add_axes((x / WIDTH, y / total, w / WIDTH, h / total)) for x, y, w, h in boxes])
        return figure, axes

    def lines(self, x: Float[Tensor, "..."]) -> np.ndarray:
        """The lines of x in the units of the data, of the channels and values that are shown: (..., channels, times)."""
        curves = self.modality.curves(self.modality.unscale(x))
        lines = curves[..., :MOST_CHANNELS, :].detach().cpu().numpy()
        return lines if self.chosen is None else lines[..., self.chosen]

    def of(self, place: int) -> list[Axes]:
        """The axes of a panel, one for each channel."""
        return self.axes[place]

    def _prepare(self, axis: Axes, channel: int, is_left: bool, is_lowest: bool) -> None:
        seen = self.values[:, channel][np.isfinite(self.values[:, channel])]
        low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
        margin = 0.05 * (high - low) or 1.0
        size = float(np.median(np.abs(seen[seen != 0]))) if (seen != 0).any() else 1.0
        if max(abs(low), abs(high)) > WIDE * size:
            axis.set_yscale("symlog", linthresh=size)
            axis.set_ylim(1.5 * low if low < 0 else -0.2 * size, 1.5 * high)
        else:
            axis.set_ylim(low - margin, high + margin)
        times = self.values.shape[-1]
        axis.set_xlim(-0.6 if self.is_short else -0.02 * times, times - 0.4 if self.is_short else 1.02 * times)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=7, labelleft=is_left, labelbottom=is_lowest)
        if is_left and self.channels > 1:
            axis.set_ylabel(f"channel {channel}", size=8)
        if self.is_short:
            words = list(map(str, range(times) if self.chosen is None else self.chosen.tolist()))
            room = 1 if self.columns <= COLUMNS else 3  # a word at every third place only
            axis.set_xticks(range(0, times, room), words[::room], size=6, rotation=0 if self.chosen is None else 90)

    def draw(self, place: int, x: Float[Tensor, "..."], **style: object) -> list:
        """One line of each channel; of a few values or times, with a point at each."""
        lines, drawn = self.lines(x), []
        marker = {"marker": "o", "markersize": 3} if lines.shape[-1] <= FEW else {}
        for channel, axis in enumerate(self.of(place)):
            drawn += axis.plot(lines[channel], **{"linewidth": 1, **marker, **style})  # type: ignore[arg-type]
        return drawn

    def bars(self, place: int, x: Float[Tensor, "..."], **style: object) -> None:
        """A bar for each value of a short vector."""
        (values,), (axis,) = self.lines(x), self.of(place)
        axis.bar(range(len(values)), values, color=GREY, alpha=0.6, **style)  # type: ignore[arg-type]

    def titled(self, place: int, words: str) -> None:
        """Write above a panel."""
        self.of(place)[0].set_title(words, size=9)

    def legend(self) -> None:
        """Name each kind of line of the first panel once, below all of them."""
        handles, labels = self.of(0)[0].get_legend_handles_labels()
        named = dict(zip(reversed(labels), reversed(handles), strict=True))
        words = list(dict.fromkeys(labels))
        self.figure.legend([named[word] for word in words], words, loc="lower center", ncols=len(words), frameon=False, fontsize=9)

    def colours(self, scale: ScalarMappable, symbol: str) -> None:
        """A bar of colours to the right, and what they stand for."""
        high = self.figure.get_figheight()
        axis = self.figure.add_axes(
            (1 - 0.5 / WIDTH, self.bottom / high, 0.1 / WIDTH, max(0.5, 1 - (self.top + self.bottom + self.above) / high))
        )
        self.figure.colorbar(scale, cax=axis)
        axis.tick_params(labelsize=7)
        axis.set_title(symbol, size=9)


def those_that_vary(x: Float[np.ndarray, "n d"]) -> np.ndarray | None:
    """Places of the values with the largest variances, rising; None if there are few, or neighbours are alike, as in a spectrum.

    Neighbours are alike if r = 1 - sum_i (x_i+1 - x_i)^2 / (2 sum_i (x_i - mean)^2), nearly their correlation (von Neumann, 1941,
    https://doi.org/10.1214/aoms/1177731677), is at least 1/4 in the median over x. A line through values without an order says nothing.
    """
    if x.shape[1] <= FEW:
        return None
    known = x[np.isfinite(np.diff(x)).any(1)]
    steps, spread = np.nanmean(np.diff(known) ** 2, 1), 2 * np.nanvar(known, 1)
    alike = 1 - steps[spread > 0] / spread[spread > 0]
    if not len(alike) or np.median(alike) >= LEAST_ALIKE:
        return None
    return np.sort(np.argsort(-np.ma.masked_invalid(x).var(0).filled(0))[:NUM_OF_ROUGH])


def overlaid(modality: Modality, curves: Float[Tensor, "panels k ..."], names: Sequence[str], panels: Sequence[str], title: str) -> Figure:
    """Panels of lines over one another: the first, which is the data or a sample, in grey, or as bars.

    Args:
        modality: of x.
        curves: x of each panel.
        names: of its lines.
        panels: what is written above each.
        title: of the figure.
    """
    grid = Panels(modality, len(curves), curves.flatten(0, 1), title=title)
    styles = [{"color": BLACK if not grid.is_short else GREY, "alpha": 0.55, "linewidth": 1.6}]
    styles += [{"color": colour, "linewidth": 1.2} for colour in OKABE_ITO]
    for place, (lines, words) in enumerate(zip(curves, panels, strict=True)):
        for line, name, style in zip(lines, names, styles, strict=False):
            if grid.is_short and name == names[0]:
                grid.bars(place, line, label=name)
            else:
                alone = {"linestyle": "none", "markersize": 4} if grid.is_short else {}
                grid.draw(place, line, label=name, **style | alone)
        if words:
            grid.titled(place, words)
    grid.legend()
    return grid.figure


def fans(modality: Modality, groups: Mapping[str, Float[Tensor, "_ ..."]], title: str, num_lines: int = 4) -> Figure:
    """A panel for each group: the bands that hold half and nine tenths of its values, time by time, and some of its lines.

    Args:
        modality: of x.
        groups: x by name; data and samples in turn.
        title: of the figure.
        num_lines: that are shown of each group.
    """
    ends = [torch.nanquantile(x, x.new_tensor([BANDS[0][0], BANDS[0][1]]), dim=0) for x in groups.values()]
    shown = torch.cat([*ends, *(x[:num_lines] for x in groups.values())])
    grid = Panels(modality, len(groups), shown, columns=2 if len(groups) <= 2 else COLUMNS, height=1.8, title=title)
    for place, (name, x) in enumerate(groups.items()):
        lines, colour = grid.lines(x), (BLACK, BLUE)[place % 2]
        for channel, axis in enumerate(grid.of(place)):
            at = np.arange(lines.shape[-1])
            for low, high, density in BANDS:
                axis.fill_between(at, *np.nanquantile(lines[:, channel], [low, high], axis=0), color=colour, alpha=density, lw=0)
        for line, tint in zip(x[:num_lines], OKABE_ITO[1:], strict=False):
            grid.draw(place, line, color=tint, linewidth=0.9)
        grid.titled(place, name)
    return grid.figure


def families(
    modality: Modality,
    curves: Float[Tensor, "panels steps ..."],
    at: Sequence[float],
    panels: Sequence[str],
    symbol: str,
    title: str,
    ends: Float[Tensor, "panels 2 ..."] | None = None,
) -> Figure:
    """Panels of families of lines, coloured by where they are on a walk.

    Args:
        modality: of x.
        curves: x at each step of the walk of a panel.
        at: where the steps are.
        panels: what is written above each.
        symbol: of what is walked along.
        title: of the figure.
        ends: x at which a walk starts, in black, and to which it leads, dashed.
    """
    shown = curves.flatten(0, 1) if ends is None else torch.cat([curves.flatten(0, 1), ends.flatten(0, 1)])
    grid, scale = Panels(modality, len(curves), shown, title=title), colour_scale(at)
    for place, (lines, words) in enumerate(zip(curves, panels, strict=True)):
        if ends is not None:
            grid.draw(place, ends[place, 0], color=BLACK, linewidth=1.1)
            grid.draw(place, ends[place, 1], color=BLACK, linewidth=1.1, linestyle="--")
        for line, colour in zip(lines, scale.to_rgba(np.array(at)), strict=True):
            grid.draw(place, line, color=colour, alpha=0.9)
        if words:
            grid.titled(place, words)
    grid.colours(scale, symbol)
    return grid.figure


def colour_scale(at: Sequence[float]) -> ScalarMappable:
    """The colours of the steps of a walk, from dark to light."""
    return ScalarMappable(Normalize(min(at), max(at)), colormaps["viridis"])


def moving(
    modality: Modality, curves: Float[Tensor, "panels steps ..."], at: Sequence[float], panels: Sequence[str], titles: Sequence[str]
) -> list[Image.Image]:
    """A frame for each step of the walks: its line in each panel, over the others, which are faint.

    What stays is drawn once.

    Args:
        modality, curves, at, panels: as of `families`.
        titles: of the frames.
    """
    grid, colours = Panels(modality, len(curves), curves.flatten(0, 1), title=titles[0]), colour_scale(at).to_rgba(np.array(at))
    for place, (lines, words) in enumerate(zip(curves, panels, strict=True)):
        for line in lines:
            grid.draw(place, line, color=GREY, alpha=0.25)
        grid.titled(place, words)
    title, (num_panels, steps) = grid.title, curves.shape[:2]
    lines = [grid.draw(place, curves[place, 0], linewidth=2, animated=True) for place in range(num_panels)]
    heights = [[grid.lines(curves[place, step]) for place in range(num_panels)] for step in range(steps)]
    title.set_animated(True)
    grid.figure.set_dpi(DPI_OF_FRAMES)
    canvas = FigureCanvasAgg(grid.figure)
    canvas.draw()
    still, frames = canvas.copy_from_bbox(grid.figure.bbox), list[Image.Image]()
    for step in range(steps):
        canvas.restore_region(still)
        title.set_text(titles[step] + grid.words)
        grid.figure.draw_artist(title)
        for place in range(num_panels):
            for axis, line, values in zip(grid.of(place), lines[place], heights[step][place], strict=True):
                line.set(ydata=values, color=colours[step])
                axis.draw_artist(line)
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    return frames


def tiled(modality: Modality, curves: Float[Tensor, "rows columns ..."], title: str) -> Figure:
    """A line in each cell of a grid, all of one range; of several channels, each in its colour."""
    figure = Figure(figsize=(WIDTH, 0.75 * WIDTH))
    axis = figure.add_axes((0.01, 0.01, 0.98, 0.94))
    lines = modality.curves(modality.unscale(curves))[..., :MOST_CHANNELS, :].detach().cpu().numpy()
    chosen = those_that_vary(lines[..., 0, :].reshape(-1, lines.shape[-1])) if isinstance(modality, Vectors) else None
    lines = lines if chosen is None else lines[..., chosen]
    low = lines.min(axis=(0, 1, 3), keepdims=True)
    lines = (lines - low) / np.maximum(lines.max(axis=(0, 1, 3), keepdims=True) - low, 1e-12)
    rows, columns, channels, times = lines.shape
    across = np.linspace(0.05, 0.95, times) if times > 1 else np.array([0.5])
    for row in range(rows):
        for column in range(columns):
            for channel in range(channels):
                axis.plot(column + across, rows - 1 - row + 0.1 + 0.8 * lines[row, column, channel], color=OKABE_ITO[channel], lw=0.8)
    axis.set(xlim=(0, columns), ylim=(0, rows), xticks=range(columns + 1), yticks=range(rows + 1))
    axis.tick_params(length=0, labelbottom=False, labelleft=False)
    axis.grid(color="#DDDDDD", lw=0.6)
    axis.spines[:].set_visible(False)
    figure.suptitle(title, size=11)
    return figure


def in_units(modality: Modality) -> Modality:
    """The modality of the same x in the units of the data."""
    return type(modality)(modality.shape)
