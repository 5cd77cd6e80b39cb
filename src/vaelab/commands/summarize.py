"""A table over runs, from the command line.

What it is told is a list of folders, with globs, as the shell gives it: those are not key=value pairs, and there is no config to compose
and no run to record, so it is not a Hydra application.
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence

from vaelab.runs.folder import RESULTS

EXAMPLES = """\
examples:
  vaelab train -m objective.beta=0.1,1,10 seed=0,1,2
  vaelab summarize outputs/sweeps/2026-11-21_12-00-00 output=summary
  vaelab summarize outputs --metrics elbo 'val/*' --baseline prior=standard_normal
  vaelab summarize 'outputs/mnist*' --format latex > table.tex
  vaelab summarize outputs --results results_last.json --metrics '*'

Runs that differ in their seed alone are one row; columns are the keys in which configs differ. The best run is named by val/elbo, or by the
first of --metrics. output=<folder> writes summary.csv, summary.md, summary.tex, summary.html and figures there: each metric, the
rate-distortion plane, and parallel coordinates of two parameters or more.
"""
OUTPUT = "output="


def summarize_runs(typed: Sequence[str]) -> int:
    """Print and write the table that is typed after `vaelab summarize`; return the exit code."""
    parser = ArgumentParser(
        "vaelab summarize",
        usage="vaelab summarize folder [folder ...] [output=FOLDER] [--option ...]",
        description="One table over run folders, with statistics over seeds.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", help="run folders, or folders above them, or globs")
    parser.add_argument("--metrics", nargs="+", default=[], metavar="NAME", help="names or patterns; default: the headline metrics")
    parser.add_argument("--baseline", metavar="NAME", help="the setting to compare with, as key=value[,key=value]; default: the best")
    parser.add_argument("--format", choices=["text", "csv", "markdown", "latex"], default="text", help="of what is printed; default: text")
    parser.add_argument("--results", default=RESULTS, metavar="FILE", help=f"of each run folder; default: {RESULTS}")
    arguments = parser.parse_args([word for word in typed if not word.startswith(OUTPUT)])
    output = next((word.removeprefix(OUTPUT) for word in reversed(typed) if word.startswith(OUTPUT)), None)
    if output == "":
        parser.error("output= is empty: name a folder, or leave it out")

    from vaelab.runs.summary import main as summarize  # imports matplotlib: only now, so that --help answers at once

    try:
        summarize(**vars(arguments), output=output)
    except ValueError as error:
        print(f"vaelab summarize: {error}", file=sys.stderr)
        return 2
    return 0
