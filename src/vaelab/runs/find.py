"""Run folders that are found: below other folders, by their seeds, or as the run that another started from."""

import os
from collections.abc import Iterable, Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from vaelab.runs.configs import Use, material, value_at
from vaelab.runs.folder import INSIDE, RESULTS, RunFolder


def find_runs(paths: Iterable[str], results: str = RESULTS) -> list[RunFolder]:
    """The run folders at or below some folders or globs, each with a short name and once.

    Args:
        paths: folders or globs.
        results: name of a file that makes a folder one of a run, besides its config and checkpoints.

    Raises:
        ValueError: if a path is no folder, or there is no run.
    """
    paths, found, seen = list(paths), list[RunFolder](), set[Path]()
    for top in (top for path in paths for top in _folders(path)):
        for folder in _walk(top, results):
            if folder.resolve() not in seen:
                seen.add(folder.resolve())
                found.append(RunFolder(folder, _name(folder, top)))
    if not found:
        raise ValueError(f"there is no run folder in {', '.join(paths)}: `vaelab train` makes them, below outputs/")
    above = {parent for run in found for parent in run.path.parents}  # of a script that started runs below its own folder
    return [run for run in found if run.path not in above or (run.path / results).exists()]


def every_run(top: Path) -> list[Path]:
    """The folder, if it is that of a run, and all those of runs below it."""
    return list(_walk(top, RESULTS))


def other_seeds(run: RunFolder, paths: Iterable[str]) -> dict[int, RunFolder]:
    """The finished runs, by seed, whose configs differ from that of a run in the seed and in what changes no number.

    Args:
        run: the run.
        paths: folders or globs at or below which other seeds are looked for.

    Raises:
        ValueError: as `find_runs`, or if a config cannot be read.
    """
    others = [other for other in find_runs(paths) if other.is_finished]
    own, *settings = (material(setting(lineage(each)), Use.COMPARISON) for each in (run, *others))
    seeds = {other.config.get("seed"): other for other, theirs in zip(others, settings, strict=True) if theirs == own}
    return {seed: seeds[seed] for seed in sorted(seed for seed in seeds if isinstance(seed, int) and seed != run.config.get("seed"))}


def lineage(run: RunFolder) -> list[RunFolder]:
    """A run, the run whose weights it started from (`pretrained`), and so on, as long as they are where they were.

    Raises:
        ValueError: if a config cannot be read.
    """
    found = [run]
    while isinstance(named := found[-1].config.get("pretrained"), str):
        path = Path(str(value_at(found[-1].hydra, "runtime.cwd", "")), named)
        origin = RunFolder.of_checkpoint(path) if path.is_file() else RunFolder(path)
        if not origin.is_run() or any(origin.path.resolve() == each.path.resolve() for each in found):
            break
        found.append(origin)
    return found


def setting(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """The config of the first run of a lineage, in which `pretrained` is the setting of the next."""
    return runs[0].config | ({"pretrained": setting(runs[1:])} if len(runs) > 1 else {})


def _folders(path: str) -> list[Path]:
    matches = sorted(glob(path, recursive=True)) if has_magic(path) and not Path(path).exists() else [path]
    folders = [Path(match) for match in matches if Path(match).is_dir()]
    if not folders:
        raise ValueError(f"there is no folder {path}")
    return folders


def _walk(top: Path, results: str) -> Iterator[Path]:
    for folder, below, _ in os.walk(top):
        is_run = RunFolder(folder).is_run(results)
        below[:] = sorted(name for name in below if not name.startswith(".") and not (is_run and name in INSIDE))
        if is_run:
            yield Path(folder)


def _name(folder: Path, top: Path) -> str:
    """The path from the working directory if the folder lies below it, else from the folder that was given."""
    absolute = folder.absolute()
    return str(absolute.relative_to(Path.cwd() if absolute.is_relative_to(Path.cwd()) else top.absolute().parent))
