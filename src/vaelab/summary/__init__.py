"""One table over run folders: settings in rows, metrics in columns, statistics over seeds."""

from vaelab.summary.formats import FORMATS, comma_separated, latex, markdown, show
from vaelab.summary.intervals import interval
from vaelab.summary.output import main, write
from vaelab.summary.runs import find_runs
from vaelab.summary.table import summarize

__all__ = ["FORMATS", "comma_separated", "find_runs", "interval", "latex", "main", "markdown", "show", "summarize", "write"]
