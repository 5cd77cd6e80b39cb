"""Lists, comparison, repetition and deletion of runs, from the command line."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence

EXAMPLES = """\
examples:
  vaelab runs list outputs --where 'elbo>-100' objective.beta=4
  vaelab runs list outputs/sweeps/betas --where state=interrupted
  vaelab runs show outputs/shapes/2026-11-21_12-00-00
  vaelab runs diff outputs/shapes/2026-11-21_12-00-00 outputs/shapes/2026-11-21_13-00-00
  vaelab runs rerun outputs/shapes/2026-11-21_12-00-00
  vaelab runs delete outputs --where state=interrupted
"""


def manage_runs(typed: Sequence[str]) -> int:
    """Do what is typed after `vaelab runs`; return the exit code."""
    parser = ArgumentParser(
        "vaelab runs", description="The runs of a folder.", epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    where = (
        "dotted keys of the config, metrics or state (running, finished, pruned, failed, interrupted, damaged),"
        " with =, !=, <, >, <= or >=; all of them must hold"
    )
    for name, words in (("list", "date, state, headline numbers and name"), ("delete", "removes folders, after asking")):
        command = commands.add_parser(name, help=words)
        command.add_argument("folders", nargs="*" if name == "list" else "+", default=["outputs"])
        command.add_argument("--where", nargs="+", default=[], metavar="KEY=VALUE", help=where)
        if name == "delete":
            command.add_argument("--yes", action="store_true", help="do not ask")
    commands.add_parser("show", help="command line, numbers and files of a run").add_argument("folder")
    diff = commands.add_parser("diff", help="where two configs and their numbers differ")
    diff.add_argument("folder")
    diff.add_argument("other")
    again = commands.add_parser("rerun", help="trains anew with the config of a run, seed and all")
    again.add_argument("folder")
    again.add_argument("--into", metavar="DIR", help="default: a new folder beside it")
    again.add_argument("--trust", action="store_true", help="build classes from outside vaelab that the run names; for runs of your own")
    arguments = vars(parser.parse_args(typed))

    from vaelab.runs.housekeeping import compare_runs, delete_runs, list_runs, show_run  # only now, so that --help answers at once

    functions: dict[str, Callable[..., int | None]] = {
        "list": list_runs,
        "show": show_run,
        "diff": compare_runs,
        "rerun": run_again,
        "delete": delete_runs,
    }
    try:
        if "" in (arguments.get("folder"), arguments.get("other"), *arguments.get("folders", [])):
            raise ValueError("a folder without a name: write . for the one that you are in")
        return functions[arguments.pop("command")](**arguments) or 0
    except ValueError as error:
        print(f"vaelab runs: {error}", file=sys.stderr)
        return 2


def run_again(folder: str, into: str | None = None, trust: bool = False) -> int:
    """Train anew with the config that a run has stored; return how that ended.

    Raises:
        ValueError: as `rerun`, or if the config would build what is not trusted.
    """
    from omegaconf import OmegaConf

    from vaelab.build import check_trusted
    from vaelab.runs.housekeeping import one_run, rerun

    if not trust:
        run = one_run(folder)
        check_trusted(OmegaConf.create(run.config | {"paths": run.config.get("paths", {}) | {"run_dir": str(run)}}), training=True)
    return rerun(folder, into)
