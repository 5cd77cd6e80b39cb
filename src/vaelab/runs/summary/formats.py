"""A summary as text, CSV, Markdown and LaTeX."""

import csv
import html
import io
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vaelab.runs.summary.finished import ABSENT
from vaelab.runs.summary.intervals import CONFIDENCE, Interval
from vaelab.runs.summary.settings import as_number, labels_of
from vaelab.runs.summary.table import Setting, Summary, direction


class Cell(NamedTuple):
    """A cell that is printed as mean ± half_width (spread)."""

    mean: str
    half_width: str = ""
    spread: str = ""
    best: bool = False

    def written(self, best: str = "{}", plus_minus: str = " ± ") -> str:
        mean = best.format(self.mean) if self.best else self.mean
        return mean + (plus_minus + self.half_width if self.half_width else "")

    @property
    def brackets(self) -> str:
        return f" ({self.spread})" if self.spread else ""


class Column(NamedTuple):
    """A name and a cell for each setting."""

    name: str
    cells: list[Cell]


class PlainTable(NamedTuple):
    """A table, ready to be written in any format."""

    title: str
    settings: list[Column]
    measured: list[Column]

    @property
    def header(self) -> list[str]:
        return [column.name for column in (*self.settings, *self.measured)]

    @property
    def rows(self) -> list[tuple[Cell, ...]]:
        return list(zip(*(column.cells for column in (*self.settings, *self.measured)), strict=True))


def with_arrow(metric: str) -> str:
    """The metric, with an arrow to where it is better."""
    return metric + {1: " ↑", 0: "", -1: " ↓"}[direction(metric)]


def plain_tables(summary: Summary) -> list[PlainTable]:
    """The table of the metrics, and that of the paired differences if there is something to learn from them."""
    settings = [Column(name, [Cell(each.values[i]) for each in summary.settings]) for i, name in enumerate(summary.columns)]
    seeds = Column("seeds", [Cell(str(len(each.runs))) for each in summary.settings])
    table = PlainTable(_title(summary), settings, [seeds, *(_means(summary, metric) for metric in summary.metrics)])
    changes = {metric: [summary.difference(each, metric) for each in summary.settings] for metric in summary.metrics}
    # without a baseline, differences of single seeds say no more than the table itself
    if not any(each and (each.num_values > 1 or summary.baselines) for row in changes.values() for each in row):
        return [table]
    to = " and ".join(map(summary.label, summary.baselines)) or "the best of each column"
    columns = [_differences(summary, metric, row) for metric, row in changes.items() if any(row)]
    return [table, PlainTable(f"difference to {to}, of runs with the same seed", settings, [seeds, *columns])]


def _means(summary: Summary, metric: str) -> Column:
    best = summary.best(metric)
    cells = _cells(summary.settings, [each.interval(metric) for each in summary.settings], metric)
    return Column(with_arrow(metric), [cell._replace(best=each in best) for cell, each in zip(cells, summary.settings, strict=True)])


def _differences(summary: Summary, metric: str, changes: Sequence[Interval | None]) -> Column:
    name = Cell("baseline" if summary.baselines else "best")
    itself = [summary.reference(each, metric) is each for each in summary.settings]
    cells = _cells(summary.settings, changes)
    return Column(with_arrow(metric), [name if reference else cell for cell, reference in zip(cells, itself, strict=True)])


def _cells(settings: Sequence[Setting], intervals: Sequence[Interval | None], metric: str | None = None) -> list[Cell]:
    """Cells of means, with the uncertainty over examples of single runs, or of differences."""
    examples = [each.uncertainty(metric) if metric else () for each in settings]
    spreads = [each.std for each in intervals if each and each.std > 0] or [_error(each) for each in examples if each]
    digits = _decimals([each.mean for each in intervals if each and math.isfinite(each.mean)], [each for each in spreads if each > 0])

    def cell(setting: Setting, each: Interval | None, known: tuple[float, ...]) -> Cell:
        if each is None:
            return Cell(ABSENT)
        half_width = f"{each.half_width:.{digits}f}" if math.isfinite(each.half_width) else ""
        spread = f"{each.std:.{digits}f}" if half_width else " to ".join(f"{value:.{digits}f}" for value in known)
        fewer = f"n={each.num_values}" if each.num_values < len(setting.runs) else ""
        return Cell(f"{each.mean:.{digits}f}", half_width, ", ".join(filter(None, ("se " * (len(known) == 1) + spread, fewer))))

    return [cell(*each) for each in zip(settings, intervals, examples, strict=True)]


def _error(known: tuple[float, ...]) -> float:
    """A standard error, or what it would be in an interval of 95 %."""
    return known[0] if len(known) == 1 else (known[1] - known[0]) / 4


def _decimals(means: Sequence[float], spreads: Sequence[float]) -> int:
    """Decimals with which the usual standard deviation (or error) has two digits and the smallest one; else the largest mean has four."""
    if spreads:
        wanted = max(2 - _magnitude(statistics.median(spreads)), 1 - _magnitude(min(spreads)))
    else:
        wanted = 0 if all(mean == round(mean) for mean in means) else 4 - _magnitude(max(map(abs, means)))
    return min(max(wanted, 0), 6)


def _magnitude(value: float) -> int:
    """Number of digits before the point: 2 for 12.3, -1 for 0.012."""
    return math.floor(math.log10(value)) + 1


def _title(summary: Summary) -> str:
    """Title such as "6 runs of 3 settings on circles"."""
    runs, data = len(summary.runs), set(labels_of(summary.runs, "data"))
    on = f" on {data.pop()}" if len(data) == 1 else ""
    return f"{runs} run{'s' * (runs > 1)} of {len(summary.settings)} setting{'s' * (len(summary.settings) > 1)}{on}"


def legend(summary: Summary) -> str:
    """The meaning of the numbers in the table."""
    parts = ["test data; elbo, rate, distortion and log_likelihood in nats"]
    if any(len(setting.runs) > 1 for setting in summary.settings):
        parts.append(f"mean ± half of the {CONFIDENCE:.0%} Student t interval (standard deviation), over seeds")
    if any(len(setting.runs) == 1 for setting in summary.settings):
        parts.append("a single seed has no interval")
    known = {len(setting.uncertainty(metric)) for setting in summary.settings for metric in summary.metrics}
    parts += ["se: standard error over the test examples of a single run"] * (1 in known)
    parts += [f"(a to b): {CONFIDENCE:.0%} interval over resampled test examples of a single run"] * (2 in known)
    ways = {
        (how["evaluation.num_samples"], how["evaluation.num_images"]) for how in (run.protocol("log_likelihood") for run in summary.runs)
    }
    if "log_likelihood" in summary.metrics and len(ways) == 1:
        parts.append("log_likelihood: {} importance samples, {} examples".format(*ways.pop()))
    return "; ".join(parts)


def best_runs(summary: Summary, quote: str = "") -> list[str]:
    """The folder of the best run: a line for each metric by which runs are ranked, and for each group that can be compared."""
    runs = [(metric, run) for metric in summary.leading for run in summary.best_runs(metric)]
    return [f"best run by {metric}, {run.metrics[metric]:.5g}: {quote}{run.name}{quote}" for metric, run in runs]


def left_out(summary: Summary) -> list[str]:
    """The runs that are not in the table, and why: a line for each reason."""
    named: dict[str, list[str]] = {}
    for run in summary.unfinished:
        named.setdefault(run.reason, []).append(run.name)
    return [f"{reason}: {', '.join(names)}" for reason, names in named.items()]


def print_summary(summary: Summary, console: Console | None = None) -> None:
    """Prints the tables, the notes, and the runs that are not in the tables.

    Where settings are too wide for the terminal they are listed first, and numbered in the table; a wide table is continued below.
    """
    console = console or Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 10_000  # a file has no margin
    tables = plain_tables(summary)
    names = tables[0].settings
    for grid in tables:
        console.print(Text(grid.title, style="bold"))
        if _width(names, console) > console.width / 2:
            console.print(_numbered(summary))
            console.print()
            names = [Column("", [Cell(str(i)) for i in range(1, len(summary.settings) + 1)])]
        for part in _fitted(names, grid.measured, console):
            console.print(part)
            console.print()
    marked = any(summary.best(metric) for metric in summary.metrics)
    console.print(Text(legend(summary) + "; *: the best" * marked, style="dim"))
    for note in [*best_runs(summary), *summary.notes]:
        console.print(Text(note))
    if summary.unfinished:
        console.print(Text("\nnot in the table", style="bold"))
        for line in left_out(summary):
            console.print(Text(line))


def _numbered(summary: Summary) -> Table:
    """The settings, each without what it shares with most of the others; that is said first."""
    modes = [statistics.mode(values) for values in zip(*(each.values for each in summary.settings), strict=True)]
    counts = [sum(each.values[i] == mode for each in summary.settings) for i, mode in enumerate(modes)]
    usual = [mode if 2 * count > len(summary.settings) else None for mode, count in zip(modes, counts, strict=True)]

    def said(values: Sequence[str | None], but: Sequence[str | None]) -> Text:
        named = zip(summary.columns, values, but, strict=True)
        # that an option of another part is absent goes without saying
        told = [f"{column}={value}" for column, value, other in named if value not in (None, other) and (value != ABSENT or other)]
        return Text(", ".join(told), style="cyan")

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row("", said(usual, [ABSENT] * len(usual)).append(", unless said otherwise" if any(usual) else ""))
    for i, setting in enumerate(summary.settings, 1):
        table.add_row(Text(str(i), justify="right"), said(setting.values, usual))
    return table


def _fitted(names: Sequence[Column], measured: Sequence[Column], console: Console) -> list[Table]:
    """Tables no wider than the console, each with the names of the settings."""
    parts: list[list[Column]] = [[]]
    for column in measured:
        if parts[-1] and _width([*names, *parts[-1], column], console) > console.width:
            parts.append([])
        parts[-1].append(column)
    return [_rich([*names, *part], len(names)) for part in parts]


def _width(columns: Sequence[Column], console: Console) -> int:
    return console.measure(_rich(columns), options=console.options.update(width=10_000)).maximum


def _rich(columns: Sequence[Column], num_names: int = 0) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for i, column in enumerate(columns):
        words = any(as_number(cell.mean) is None and cell.mean != ABSENT for cell in column.cells)
        named = i < num_names
        table.add_column(column.name, justify="left" if named and words else "right", style="cyan" if named else "", overflow="fold")
    for row in zip(*(column.cells for column in columns), strict=True):
        parts = [Text(cell.written("* {}"), style="bold green" if cell.best else "") for cell in row]
        table.add_row(*(Text.assemble(text, (cell.brackets, "dim")) for text, cell in zip(parts, row, strict=True)))
    return table


def _markdown(text: str) -> str:
    """Text in a line of Markdown, which is not read as HTML or as the end of a cell."""
    return " ".join(html.escape(text, quote=False).replace("|", r"\|").split())


def markdown(summary: Summary) -> str:
    """Tables for a README or a notebook."""
    parts = []
    for grid in plain_tables(summary):
        rule = ["---"] * len(grid.settings) + ["---:"] * len(grid.measured)
        rows = [[_markdown(cell.written("**{}**") + cell.brackets) for cell in row] for row in grid.rows]
        header = [_markdown(name) for name in grid.header]
        parts += [f"{_markdown(grid.title)}:", "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *rows))]
    parts.append(f"{legend(summary)}; bold: the best")
    parts.append("\n".join(f"- {_markdown(note)}" for note in [*best_runs(summary, "`"), *summary.notes]))
    if summary.unfinished:
        parts.append("not in the table:\n\n" + "\n".join(f"- {_markdown(line)}" for line in left_out(summary)))
    return "\n\n".join(filter(None, parts)) + "\n"


LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"\n": " ", "\r": " "}
    | {"[": "{[}"}  # where it begins a row, it would be an option of the \\\\ before it
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", ABSENT: "--", "↑": r"$\uparrow$", "↓": r"$\downarrow$"}
)


def latex(summary: Summary) -> str:
    """A booktabs tabular for each table."""
    comments = ["needs \\usepackage{booktabs}", f"{legend(summary)}; bold: the best", *best_runs(summary), *summary.notes]
    comments += [f"not in the table: {line}" for line in left_out(summary)]
    lines = [f"% {' '.join(comment.split())}" for comment in comments]
    for grid in plain_tables(summary):
        lines += [
            f"% {' '.join(grid.title.split())}",
            rf"\begin{{tabular}}{{{'l' * len(grid.settings)}{'r' * len(grid.measured)}}}",
            r"\toprule",
        ]
        lines += [" & ".join(name.translate(LATEX) for name in grid.header) + r" \\", r"\midrule"]
        lines += [" & ".join(map(_latex, row)) + r" \\" for row in grid.rows]
        lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def _latex(cell: Cell) -> str:
    if not math.isfinite(as_number(cell.mean) or 0.0) or as_number(cell.mean) is None:
        return cell.mean.translate(LATEX)
    return "$" + cell.written(r"\mathbf{{{}}}", r" \pm ") + "$" + cell.brackets


def _of_no_formula(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) and as_number(text) is None else text


def comma_separated(summary: Summary) -> str:
    """A line for each setting, with every number in full; differences are those to the reference of the metric."""
    names = ("mean", "std", "half_width", "num_seeds", "difference", "difference_std", "difference_half_width", "difference_num_seeds")
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*map(_of_no_formula, summary.columns), "seeds", *(f"{metric}_{name}" for metric in summary.metrics for name in names)])
    for setting in summary.settings:
        row: list[Any] = [*map(_of_no_formula, setting.values), " ".join(str(run.seed) for run in setting.runs)]
        for metric in summary.metrics:
            for each in (setting.interval(metric), summary.difference(setting, metric)):
                row += each or ("", "", "", 0)
        writer.writerow(row)
    return file.getvalue()


FORMATS: dict[str, Callable[[Summary], str]] = {"csv": comma_separated, "markdown": markdown, "latex": latex}
