"""What scripts/summarize.py prints, and the files that it leaves."""

import html
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from vaelab.charts.summary import Dot, RateDistortion, metrics_chart, rate_distortion_chart
from vaelab.report import PAGE, figures_of, section
from vaelab.summary.formats import FORMATS, Cell, grids, heading, legend, show, unfinished
from vaelab.summary.runs import ABSENT
from vaelab.summary.settings import number
from vaelab.summary.table import Setting, Summary, summarize


def main(
    folders: Sequence[str],
    metrics: Sequence[str] = (),
    baseline: str | None = None,
    format: str = "text",
    output: str | None = None,
    results: str = "results.json",
) -> None:
    """Prints a summary ("text", "csv", "markdown" or "latex") and, with an output folder, writes it there.

    Raises:
        ValueError: as `summarize` and `write`.
    """
    summary = summarize(folders, metrics, baseline, results)
    paths = write(summary, Path(output)) if output is not None else []
    if format == "text":
        show(summary)
    else:
        print(FORMATS[format](summary), end="")
    for path in paths:
        print(path, file=sys.stderr)


def write(summary: Summary, folder: Path) -> list[Path]:
    """summary.csv, summary.md, summary.tex, summary.html, metrics.png, and rate_distortion.png if runs have both.

    Raises:
        ValueError: if the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = {folder / f"summary.{suffix}": name for suffix, name in (("csv", "csv"), ("md", "markdown"), ("tex", "latex"))}
        for path, name in paths.items():
            path.write_text(FORMATS[name](summary))
        figures = {folder / f"{name}.png": figure for name, figure in draw(summary).items()}
        for path, figure in figures.items():
            figure.savefig(path, dpi=150)
        page = folder / "summary.html"
        page.write_text(web_page(summary, list(figures)), encoding="utf-8")
        return [*paths, *figures, page]
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}") from error


def web_page(summary: Summary, pictures: Sequence[Path]) -> str:
    """Tables, notes and figures on one page that fetches nothing."""
    parts = [f"<h1>{html.escape(grids(summary)[0].title)}</h1>"]
    for i, grid in enumerate(grids(summary)):
        head = "".join(f"<th>{html.escape(name)}</th>" for name in grid.header)
        rows = ["".join(f"<td>{cell_in_html(cell)}</td>" for cell in row) for row in grid.rows]
        title = f"<h2>{html.escape(grid.title)}</h2>" if i else ""
        parts.append(f"{title}<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>")
    notes = [f"{legend(summary)}; bold: the best", *summary.notes, *unfinished(summary)]
    parts += [f'<p class="muted">{html.escape(note)}</p>' for note in notes]
    parts += [section("Figures", figures_of(pictures))]
    return PAGE.format(title=html.escape(grids(summary)[0].title), body="\n".join(parts))


def cell_in_html(cell: Cell) -> str:
    text = html.escape(cell.written() + cell.brackets)
    return f"<b>{text}</b>" if cell.best else text


def draw(summary: Summary) -> dict[str, Figure]:
    """The figures of a summary, by name."""
    swept = _swept(summary)
    panels = {heading(metric): _dots(summary, metric, swept) for metric in summary.metrics}
    figures = {"metrics": metrics_chart(panels, None if swept is None else summary.columns[swept])}
    planes = _planes(summary)
    return figures | {"rate_distortion": rate_distortion_chart(planes)} if planes else figures


def _numeric(summary: Summary) -> list[int]:
    """The columns that are a number in every row."""
    columns = range(len(summary.columns))
    return [i for i in columns if all(number(setting.values[i]) is not None for setting in summary.settings)]


def _swept(summary: Summary) -> int | None:
    """The column for the axis: the number that takes most values, if they are more than two."""
    counts = {i: len({setting.values[i] for setting in summary.settings}) for i in _numeric(summary)}
    found = max(counts, key=lambda i: counts[i], default=None)
    return found if found is not None and counts[found] > 2 else None


def _label(summary: Summary, setting: Setting, among: Sequence[Setting], but: int | None) -> str:
    """In what a setting differs from others, apart from one column; with keys as short as they are clear."""
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
            x = None if swept is None else number(setting.values[swept])
            dots.append(Dot(_label(summary, setting, summary.settings, swept), x, runs, value.mean, value.half_width))
    return dots


def _planes(summary: Summary) -> list[tuple[str, list[RateDistortion]]]:
    """The runs with a finite rate and distortion, apart where these cannot be compared."""
    beta = next((i for i in _numeric(summary) if summary.columns[i].split(".")[-1] == "beta"), None)
    planes: list[list[Setting]] = []
    for setting in summary.settings:
        same = [plane for plane in planes if plane[0].protocol("distortion") == setting.protocol("distortion")]
        if _points(setting):
            same[0].append(setting) if same else planes.append([setting])

    def drawn(setting: Setting, plane: list[Setting]) -> RateDistortion:
        value = None if beta is None else number(setting.values[beta])
        return RateDistortion(_label(summary, setting, plane, beta), value, _points(setting))

    return [(_shared(summary, plane), [drawn(setting, plane) for setting in plane]) for plane in planes]


def _shared(summary: Summary, plane: Sequence[Setting]) -> str:
    """In what the settings of a plane agree, of all that differs anywhere."""
    agreed = zip(summary.columns, zip(*(setting.values for setting in plane), strict=True), strict=True)
    return ", ".join(f"{column}={values[0]}" for column, values in agreed if len(set(values)) == 1 and values[0] != ABSENT)


def _points(setting: Setting) -> list[tuple[float, float]]:
    pairs = [(run.metrics.get("rate", math.nan), run.metrics.get("distortion", math.nan)) for run in setting.runs]
    return [(rate, distortion) for rate, distortion in pairs if math.isfinite(rate) and math.isfinite(distortion)]
