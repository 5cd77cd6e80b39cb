"""Output of `vaelab summarize`: a table on the terminal, and files."""

import html
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from matplotlib.figure import Figure

from vaelab.figures.charts.parallel import Panel, parallel_chart
from vaelab.figures.charts.summary import Dot, RateDistortion, metrics_chart, rate_distortion_chart
from vaelab.runs.folder import RESULTS
from vaelab.runs.report import PAGE, figures_of, section
from vaelab.runs.summary.finished import ABSENT
from vaelab.runs.summary.formats import FORMATS, Cell, best_runs, left_out, legend, plain_tables, print_summary, with_arrow
from vaelab.runs.summary.settings import as_number
from vaelab.runs.summary.table import Setting, Summary, direction, summarize

MOST_AXES = 10  # of parallel coordinates, with which one still sees something


def main(
    folders: Sequence[str],
    metrics: Sequence[str] = (),
    baseline: str | None = None,
    format: str = "text",
    output: str | None = None,
    results: str = RESULTS,
    leading: Sequence[str] = (),
    more: Mapping[str, Figure] = MappingProxyType({}),
) -> None:
    """Prints a summary ("text", "csv", "markdown" or "latex") and, with an output folder, writes it there, with more figures.

    Raises:
        ValueError: as `summarize` and `write_summary`.
    """
    summary = summarize(folders, metrics, baseline, results, leading)
    paths = write_summary(summary, Path(output), more) if output is not None else []
    if format == "text":
        print_summary(summary)
    else:
        print(FORMATS[format](summary), end="")
    for path in paths:
        print(path, file=sys.stderr)


def write_summary(summary: Summary, folder: Path, more: Mapping[str, Figure] = MappingProxyType({})) -> list[Path]:
    """Writes summary.csv, summary.md, summary.tex, summary.html, the figures of `draw_summary`, and more of them.

    Raises:
        ValueError: if the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = {folder / f"summary.{suffix}": name for suffix, name in (("csv", "csv"), ("md", "markdown"), ("tex", "latex"))}
        for path, name in paths.items():
            path.write_text(FORMATS[name](summary))
        figures = {folder / f"{name}.png": figure for name, figure in (draw_summary(summary) | dict(more)).items()}
        for path, figure in figures.items():
            figure.savefig(path, dpi=150)
        page = folder / "summary.html"
        page.write_text(web_page(summary, list(figures)), encoding="utf-8")
        return [*paths, *figures, page]
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}") from error


def web_page(summary: Summary, pictures: Sequence[Path]) -> str:
    """Tables, notes and figures on one page that fetches nothing."""
    parts = [f"<h1>{html.escape(plain_tables(summary)[0].title)}</h1>"]
    for i, grid in enumerate(plain_tables(summary)):
        head = "".join(f"<th>{html.escape(name)}</th>" for name in grid.header)
        rows = ["".join(f"<td>{cell_in_html(cell)}</td>" for cell in row) for row in grid.rows]
        title = f"<h2>{html.escape(grid.title)}</h2>" if i else ""
        table = f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
        parts.append(f'{title}<div style="overflow-x: auto; white-space: nowrap">{table}</div>')
    parts += [f"<p>{html.escape(line)}</p>" for line in best_runs(summary)]
    notes = [f"{legend(summary)}; bold: the best", *summary.notes, *left_out(summary)]
    parts += [f'<p class="muted">{html.escape(note)}</p>' for note in notes]
    parts += [section("Figures", figures_of(pictures, side_by_side=False))]
    return PAGE.format(title=html.escape(plain_tables(summary)[0].title), body="\n".join(parts))


def cell_in_html(cell: Cell) -> str:
    text = html.escape(cell.written() + cell.brackets)
    return f"<b>{text}</b>" if cell.best else text


def draw_summary(summary: Summary) -> dict[str, Figure]:
    """The figures of a summary, by name.

    metrics has a panel for each; rate_distortion is drawn of runs that have both, parallel_coordinates if there are two parameters or more
    (of a single one, metrics shows as much).
    """
    swept = _swept(summary)
    panels = {with_arrow(metric): _dots(summary, metric, swept) for metric in summary.metrics}
    figures = {"metrics": metrics_chart(panels, None if swept is None else summary.columns[swept])}
    if planes := _planes(summary):
        figures["rate_distortion"] = rate_distortion_chart(planes)
    if coordinates := _coordinates(summary):
        figures["parallel_coordinates"] = parallel_chart(coordinates)
    return figures


def _coordinates(summary: Summary) -> list[Panel]:
    """The settings with finite means, apart where these cannot be compared, if there are three of two parameters or more."""
    panels, leading = [], summary.leading
    for group in summary.comparable(leading[0]) if leading else []:
        finite = [setting for setting in group if all(math.isfinite(setting.mean(metric)) for metric in leading)]
        ranked = sorted(finite, key=lambda setting: direction(leading[0]) * setting.mean(leading[0]))
        columns = [i for i in range(len(summary.columns)) if len({setting.values[i] for setting in ranked}) > 1]
        if len(ranked) > 2 and 1 < len(columns) <= MOST_AXES:
            parameters = {summary.columns[i]: _typed([setting.values[i] for setting in ranked]) for i in columns}
            metrics = {with_arrow(metric): [setting.mean(metric) for setting in ranked] for metric in leading}
            panels.append(Panel(_shared(summary, ranked), parameters, metrics))
    return panels


def _typed(values: Sequence[str]) -> list[float] | list[str]:
    """Numbers, if all are."""
    numbers = [each for value in values if (each := as_number(value)) is not None]
    return numbers if len(numbers) == len(values) else list(values)


def _numeric(summary: Summary) -> list[int]:
    """The columns that are a number in every row."""
    columns = range(len(summary.columns))
    return [i for i in columns if all(as_number(setting.values[i]) is not None for setting in summary.settings)]


def _swept(summary: Summary) -> int | None:
    """The column for the axis: the number that takes most values, if they are more than two."""
    counts = {i: len({setting.values[i] for setting in summary.settings}) for i in _numeric(summary)}
    found = max(counts, key=lambda i: counts[i], default=None)
    return found if found is not None and counts[found] > 2 else None


def _label(summary: Summary, setting: Setting, among: Sequence[Setting], but: int | None) -> str:
    """Differences of a setting to others, but for one column; with keys as short as they are clear."""
    last = [column.split(".")[-1] for column in summary.columns]
    parts = []
    for i, (column, name, value) in enumerate(zip(summary.columns, last, setting.values, strict=True)):
        if i != but and any(other.values[i] != value for other in among):
            parts.append(f"{name if last.count(name) == 1 else column}={value}")
    return ", ".join([part for part in parts if not part.endswith(ABSENT)] or parts)


def _dots(summary: Summary, metric: str, swept: int | None) -> list[Dot]:
    dots = []
    for setting in summary.settings:
        value = setting.interval(metric)
        if value is not None:
            runs = [run.metrics[metric] for run in setting.runs if metric in run.metrics]
            x = None if swept is None else as_number(setting.values[swept])
            dots.append(Dot(_label(summary, setting, summary.settings, swept), x, runs, value.mean, value.half_width))
    return dots


def _planes(summary: Summary) -> list[tuple[str, list[RateDistortion]]]:
    """The runs with a finite rate and distortion, apart where these cannot be compared."""
    beta = next((i for i in _numeric(summary) if summary.columns[i].split(".")[-1] == "beta"), None)
    groups = [[setting for setting in group if _points(setting)] for group in summary.comparable("distortion")]
    planes = [plane for plane in groups if plane]

    def drawn(setting: Setting, plane: list[Setting]) -> RateDistortion:
        value = None if beta is None else as_number(setting.values[beta])
        return RateDistortion(_label(summary, setting, plane, beta), value, _points(setting))

    return [(_shared(summary, plane), [drawn(setting, plane) for setting in plane]) for plane in planes]


def _shared(summary: Summary, plane: Sequence[Setting]) -> str:
    """Values that the settings of a plane share, of columns that differ anywhere."""
    agreed = zip(summary.columns, zip(*(setting.values for setting in plane), strict=True), strict=True)
    return ", ".join(f"{column}={values[0]}" for column, values in agreed if len(set(values)) == 1 and values[0] != ABSENT)


def _points(setting: Setting) -> list[tuple[float, float]]:
    pairs = [(run.metrics.get("rate", math.nan), run.metrics.get("distortion", math.nan)) for run in setting.runs]
    return [(rate, distortion) for rate, distortion in pairs if math.isfinite(rate) and math.isfinite(distortion)]
