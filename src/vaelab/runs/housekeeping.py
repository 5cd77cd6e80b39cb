"""Housekeeping over run folders: what is there, how two of them differ, the same again, and what may go."""

import operator
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from vaelab.runs.configs import Use, flatten, material, quoted, that_only_reads
from vaelab.runs.find import every_run, find_runs
from vaelab.runs.folder import RunFolder
from vaelab.runs.provenance import git

HEADLINE = {"elbo": 10, "log_likelihood": 16}  # and the width of each
COMPARE = {"!=": operator.ne, "<=": operator.le, ">=": operator.ge, "=": operator.eq, "<": operator.lt, ">": operator.gt}
Facts = dict[str, Any]  # of a run: its state, its metrics (elbo, val/elbo), and dotted keys of its config


def list_runs(folders: Sequence[str], where: Sequence[str] = ()) -> None:
    """Prints the runs, the newest last, with their headline numbers.

    Raises:
        ValueError: as `matching`.
    """
    runs = sorted(matching(folders, where), key=lambda pair: pair[0].path.stat().st_mtime)
    print(f"{'written':18}{'state':11}" + "".join(f"{name:>{width}}" for name, width in HEADLINE.items()) + "  run")
    for run, facts in runs:
        written = datetime.fromtimestamp(run.path.stat().st_mtime)
        numbers = [f"{facts[name]:{width}.2f}" if is_number(facts.get(name)) else " " * width for name, width in HEADLINE.items()]
        print(f"{written:%Y-%m-%d %H:%M}  {facts['state']:11}{''.join(numbers)}  {run.name}")
    print(f"{len(runs)} runs")


def show_run(folder: str) -> None:
    """Prints the command line of a run, its numbers and its files.

    Raises:
        ValueError: if it is no run, or a file of it is damaged.
    """
    run = one_run(folder)
    results = run.results()
    print(run.command_line)
    why = f" ({run.reason})" if run.reason else ""
    print(f"\n{run.state}{why}, seed {run.config.get('seed')}, git commit {str(results.get('git_commit') or 'unknown')[:10]}")
    test = results.get("test") or {}
    for name, value in test.items():
        if is_number(value) and not name.endswith("_std_error"):
            error = test.get(f"{name}_std_error")
            print(f"  {name:28} {value:<12.5g}" + (f" ± {error:.2g}" if error else ""))
    print()
    names = [str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()]
    for name in sorted(name for name in names if not re.search(r"(^|/)\.", name)):
        print(f"  {name}")


def compare_runs(folder: str, other: str) -> None:
    """Prints where the configs of two runs differ in what changes numbers, and their numbers beside one another.

    Raises:
        ValueError: if one is no run, or a file of it is damaged.
    """
    runs = one_run(folder), one_run(other)
    first, second = (flatten(material(run.config, Use.SWEEP)) for run in runs)
    rows = [(key, str(first.get(key, "—")), str(second.get(key, "—"))) for key in sorted({**first, **second})]
    results = [run.results() for run in runs]
    commits = [str(record.get("git_commit"))[:10] for record in results]
    rows += [("code", commits[0], commits[1])] if all(record.get("git_commit") for record in results) else []
    rows = [row for row in rows if row[1] != row[2]]
    if not rows:
        print("the configs are the same")
    one, two = (record.get("test") or {} for record in results)
    names = [name for name in one if is_number(one[name]) and is_number(two.get(name)) and not name.endswith("_std_error")]
    rows += [(name, f"{one[name]:.6g}", f"{two[name]:.6g}") for name in names if one[name] != two[name]]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", *(run.name for run in runs)):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


def rerun(folder: str, into: str | None = None) -> int:
    """Trains anew with the config that a run has stored; returns how that ended.

    Raises:
        ValueError: if it is no run, or a file of it is damaged.
    """
    from omegaconf import OmegaConf  # to write what it will read

    run = one_run(folder)
    now, then = git().get("git_commit"), run.results().get("git_commit")
    if then is not None and now != then:
        print(f"the code has changed since: {str(then)[:10]} then, {str(now)[:10]} now; the numbers may, too", file=sys.stderr)
    target = Path(into) if into else run.path.with_name(f"{run.path.name}_again_{datetime.now():%Y-%m-%d_%H-%M-%S}")
    paths = run.config.get("paths", {}) | {"run_dir": "${hydra:runtime.output_dir}"}  # a run that was resumed has stored where it is
    with TemporaryDirectory() as stored:
        OmegaConf.save(OmegaConf.create(that_only_reads(run.config) | {"paths": paths}), Path(stored, "config.yaml"))
        line = [
            sys.executable,
            "-m",
            "vaelab",
            "train",
            "--config-path",
            stored,
            "--config-name",
            "config",
            f"hydra.run.dir={quoted(str(target.absolute()))}",
        ]
        return subprocess.run(line, check=False).returncode


def delete_runs(folders: Sequence[str], where: Sequence[str] = (), yes: bool = False) -> int:
    """Removes runs, after a person has said yes; returns 1 if not.

    Raises:
        ValueError: as `matching`, if a folder holds another run that is to stay, or a process is at work in one, which is kept with
            those after it.
    """
    runs = matching(folders, where)
    if not runs:
        raise ValueError(f"--where {' '.join(where)}: no run is like this; nothing was deleted")
    for run, facts in runs:
        print(f"{run.name}   {facts['state']}")
    check_alone([run for run, _ in runs])
    if not (yes or agreed(f"delete these {len(runs)} folders? [y/N] ")):
        print("nothing was deleted")
        return 1
    for run, _ in sorted(runs, key=lambda pair: -len(pair[0].path.resolve().parts)):  # one within another before that
        with run.claim():
            shutil.rmtree(run.path)
    print(f"{len(runs)} folders deleted")
    return 0


def check_alone(runs: Sequence[RunFolder]) -> None:
    """Raise if one of the folders that are to go holds a run that is to stay.

    Raises:
        ValueError: if one does.
    """
    going = {run.path.resolve() for run in runs}
    for run in runs:
        staying = [other for other in every_run(run.path) if other.resolve() not in going]
        if staying:
            raise ValueError(f"{run.name} holds {len(staying)} other runs, such as {staying[0]}: delete those first, or move them")


def matching(folders: Sequence[str], where: Sequence[str]) -> list[tuple[RunFolder, Facts]]:
    """The runs of some folders for which all conditions hold.

    Raises:
        ValueError: if there is no run, or a condition cannot be read or names what no run has.
    """
    chosen = runs = [(run, facts_of(run)) for run in find_runs(folders)]
    for condition in where:
        parts = re.fullmatch(r"([^<>=!]+)(!=|<=|>=|=|<|>)(.*)", condition)
        if parts is None:
            raise ValueError(f"--where {condition}: a condition is key=value, or elbo>-100")
        key, sign, wanted = parts.groups()
        if all(facts.get(key) is None for _, facts in runs):
            raise ValueError(f"--where {condition}: no run has {key}")
        chosen = [(run, facts) for run, facts in chosen if holds(facts.get(key), sign, wanted)]
    return chosen


def facts_of(run: RunFolder) -> Facts:
    """The facts of a run that conditions are about; of one that is damaged, which is said, its state alone."""
    try:
        results = run.results()
        splits = {f"{split}/{name}": value for split in ("val", "test") for name, value in (results.get(split) or {}).items()}
        return flatten(run.config) | splits | (results.get("test") or {}) | {"state": run.state}
    except ValueError as error:
        print(f"damaged: {error}", file=sys.stderr)
        return {"state": "damaged"}


def holds(value: Any, sign: str, wanted: str) -> bool:
    """True if the condition holds; numbers are compared as numbers, and everything else as text, whatever its case and spaces."""
    if value is None:
        return False
    try:
        return bool(COMPARE[sign](float(value), float(wanted)))
    except (TypeError, ValueError):
        one, other = ("".join(str(each).lower().split()) for each in (value, wanted))
        return sign in ("=", "!=") and bool(COMPARE[sign](one, other))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:  # nobody is there to answer
        return False


def one_run(folder: str) -> RunFolder:
    """The run of a folder.

    Raises:
        ValueError: if there is not exactly one in it.
    """
    found = find_runs([folder])
    if len(found) != 1:
        raise ValueError(f"{folder} holds {len(found)} runs: name one of them")
    return found[0]
