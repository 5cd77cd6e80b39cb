"""Housekeeping over run folders: what is there, how two of them differ, the same again, and what may go."""

import json
import operator
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from vaelab.runs.configs import flatten
from vaelab.runs.folder import RunFolder, find_checkpoint, read_checkpoint
from vaelab.runs.provenance import git
from vaelab.runs.summary import find_runs

TRAIN = Path("scripts", "train.py")
HEADLINE = ("elbo", "rate", "distortion", "log_likelihood")
COMPARE = {"!=": operator.ne, "<=": operator.le, ">=": operator.ge, "=": operator.eq, "<": operator.lt, ">": operator.gt}
PRIVATE = ("paths.", "logger.")  # of a config: where things are


class Entry(NamedTuple):
    """A run folder."""

    name: str
    folder: Path
    config: dict[str, Any]  # flat
    results: dict[str, Any]

    @property
    def state(self) -> str:
        if self.results:
            return "finished"
        return "pruned" if (self.folder / "pruned.txt").is_file() else "unfinished"

    @property
    def test(self) -> dict[str, Any]:
        return self.results.get("test") or {}

    def value(self, key: str) -> Any:
        """Of the state, a metric (elbo, or val/elbo), or the config; None if there is no such thing."""
        if key == "state":
            return self.state
        split, _, name = key.rpartition("/")
        found = (self.results.get(split) or {}).get(name) if split else self.test.get(key)
        return self.config.get(key) if found is None else found


def entry(name: str, folder: Path) -> Entry:
    written, results = folder / ".hydra" / "config.yaml", folder / "results.json"
    config: Any = {}
    if written.is_file():
        config = OmegaConf.to_container(OmegaConf.load(written), resolve=False)
    elif any((folder / "checkpoints").glob("*.ckpt")):
        config = read_checkpoint(next((folder / "checkpoints").glob("*.ckpt")))["config"]
    try:
        record = json.loads(results.read_text()) if results.is_file() else {}
    except json.JSONDecodeError:
        record = {}
    return Entry(name, folder, flatten(config), record)


def chosen(folders: Sequence[str], where: Sequence[str]) -> list[Entry]:
    """The runs of some folders for which all conditions hold.

    Raises:
        ValueError: if there is no run, or a condition cannot be read or names what no run has.
    """
    entries = every = [entry(name, folder) for name, folder in find_runs(folders).items()]
    for condition in where:
        parts = re.fullmatch(r"([^<>=!]+)(!=|<=|>=|=|<|>)(.*)", condition)
        if parts is None:
            raise ValueError(f"--where {condition}: a condition is key=value, or elbo>-100")
        key, sign, wanted = parts.groups()
        if all(each.value(key) is None for each in every):
            raise ValueError(f"--where {condition}: no run has {key}")
        entries = [each for each in entries if holds(each.value(key), sign, wanted)]
    return entries


def holds(value: Any, sign: str, wanted: str) -> bool:
    """Numbers are compared as numbers, and everything else as text."""
    if value is None:
        return False
    try:
        return bool(COMPARE[sign](float(value), float(wanted)))
    except ValueError:
        return sign in ("=", "!=") and bool(COMPARE[sign](str(value), wanted))


def list_runs(folders: Sequence[str], where: Sequence[str] = ()) -> None:
    """Prints the runs, the newest last, with their headline numbers.

    Raises:
        ValueError: as `chosen`.
    """
    entries = sorted(chosen(folders, where), key=lambda each: each.folder.stat().st_mtime)
    print(f"{'written':18}{'state':12}" + "".join(f"{name:>16}" for name in HEADLINE) + "  run")
    for each in entries:
        written = datetime.fromtimestamp(each.folder.stat().st_mtime)
        numbers = [f"{each.test[name]:16.2f}" if isinstance(each.test.get(name), int | float) else " " * 16 for name in HEADLINE]
        print(f"{written:%Y-%m-%d %H:%M}  {each.state:12}{''.join(numbers)}  {each.name}")
    print(f"{len(entries)} runs")


def show(folder: str) -> None:
    """Prints the command line of a run, its numbers and its files.

    Raises:
        ValueError: if it is no run.
    """
    each = single(folder)
    typed = each.folder / ".hydra" / "overrides.yaml"
    words = list(OmegaConf.load(typed)) if typed.is_file() else []
    print(" ".join(["python scripts/train.py", *words]))
    print(f"\n{each.state}, seed {each.config.get('seed')}, code {str(each.results.get('git_commit'))[:10]}")
    for name, value in each.test.items():
        if isinstance(value, int | float) and not name.endswith("_std_error"):
            error = each.test.get(f"{name}_std_error")
            print(f"  {name:28} {value:<12.5g}" + (f" ± {error:.2g}" if error else ""))
    print()
    for path in sorted(path for path in each.folder.rglob("*") if path.is_file() and ".hydra" not in path.parts):
        print(f"  {path.relative_to(each.folder)}")


def diff(folder: str, other: str) -> None:
    """Prints where the configs of two runs differ, and their numbers beside one another.

    Raises:
        ValueError: if one is no run.
    """
    pair = single(folder), single(other)
    console, table = Console(highlight=False), Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", pair[0].name, pair[1].name):
        table.add_column(column, overflow="fold")
    keys = sorted(key for key in {**pair[0].config, **pair[1].config} if not key.startswith(PRIVATE))
    rows = [(key, *(str(each.config.get(key, "—")) for each in pair)) for key in keys if pair[0].config.get(key) != pair[1].config.get(key)]
    commits = [str(each.results["git_commit"])[:10] for each in pair if each.results.get("git_commit")]
    rows += [("code", *commits)] if len(set(commits)) == 2 else []
    for row in rows:
        table.add_row(*row)
    if not rows:
        print("the configs are the same")
    names = [name for name in pair[0].test if all(isinstance(each.test.get(name), int | float) for each in pair)]
    for name in names:
        if pair[0].test[name] != pair[1].test[name] and not name.endswith("_std_error"):
            table.add_row(name, *(f"{each.test[name]:.6g}" for each in pair))
    console.print(table)


def rerun(folder: str, into: str | None = None) -> int:
    """Trains anew with the config that a run has stored; returns how that ended.

    Raises:
        ValueError: if it is no run.
    """
    each = single(folder)
    config = each.folder / ".hydra"
    if not (config / "config.yaml").is_file():
        config = each.folder / "rerun"
        config.mkdir(exist_ok=True)
        OmegaConf.save(OmegaConf.create(read_checkpoint(find_checkpoint(each.folder, "last"))["config"]), config / "config.yaml")
    now, then = git().get("git_commit"), each.results.get("git_commit")
    if then is not None and now != then:
        print(f"the code has changed since: {str(then)[:10]} then, {str(now)[:10]} now; the numbers may, too", file=sys.stderr)
    target = Path(into) if into else each.folder.with_name(f"{each.folder.name}_again_{datetime.now():%Y-%m-%d_%H-%M-%S}")
    place = str(target.absolute()).replace("'", "\\'")
    script = Path(sys.argv[0]).with_name(TRAIN.name)
    line = [sys.executable, str(script), "--config-path", str(config.absolute()), "--config-name", "config", f"hydra.run.dir='{place}'"]
    return subprocess.run(line, check=False).returncode


def delete_runs(folders: Sequence[str], where: Sequence[str] = (), yes: bool = False) -> int:
    """Removes runs, after a person has said yes; returns 1 if not.

    Raises:
        ValueError: as `chosen`, or if a process is at work in one, which is kept with those after it.
    """
    entries = chosen(folders, where)
    for each in entries:
        print(f"{each.name}   {each.state}")
    if not entries or not (yes or agreed(f"delete these {len(entries)} folders? [y/N] ")):
        print("nothing was deleted")
        return 1
    for each in entries:
        with RunFolder(each.folder).claim():
            shutil.rmtree(each.folder)
    print(f"{len(entries)} folders deleted")
    return 0


def agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:  # nobody is there to answer
        return False


def single(folder: str) -> Entry:
    """One run.

    Raises:
        ValueError: if there is not exactly one in that folder.
    """
    found = find_runs([folder])
    if len(found) != 1:
        raise ValueError(f"{folder} holds {len(found)} runs: name one of them")
    ((name, path),) = found.items()
    return entry(name, path)
