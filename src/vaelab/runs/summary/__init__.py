"""One table over run folders: settings in rows, metrics in columns, statistics over seeds."""

from vaelab.runs.summary.formats import FORMATS, comma_separated, latex, markdown, show
from vaelab.runs.summary.intervals import interval
from vaelab.runs.summary.output import main, write
from vaelab.runs.summary.runs import find_runs
from vaelab.runs.summary.table import summarize

__all__ = ["FORMATS", "comma_separated", "find_runs", "interval", "latex", "main", "markdown", "show", "summarize", "write"]
