"""One table over run folders: settings in rows, metrics in columns, statistics over seeds."""

from vaelab.runs.summary.formats import FORMATS, comma_separated, latex, markdown, print_summary
from vaelab.runs.summary.intervals import student_interval
from vaelab.runs.summary.output import main, write_summary
from vaelab.runs.summary.table import summarize

__all__ = ["FORMATS", "comma_separated", "latex", "main", "markdown", "print_summary", "student_interval", "summarize", "write_summary"]
