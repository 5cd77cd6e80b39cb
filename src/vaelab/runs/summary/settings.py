"""Differences between configs, as columns of a table."""

import json
import os
from collections.abc import Sequence
from typing import Any

from vaelab.runs.summary.finished import Finished


def columns_of(runs: Sequence[Finished]) -> list[str]:
    """The keys in which the configs differ.

    Where a part is another one (prior=vamp, prior=mixture) the part is named, and of its options those alone that differ between runs
    which share it, or that were set on the command line. The same holds of an experiment and what it sets.
    """
    names = labels_of(runs, "experiment")
    found = [] if len(set(names)) == 1 else ["experiment"]
    for group in _sharing(runs, names):
        for key in dict.fromkeys(key for run in group for key in run.tree):
            found += [column for column in _differing(group, key) if column not in found]
    for key in dict.fromkeys(key for run in runs for key in run.overrides):
        if key not in found and len(set(labels_of(runs, key))) > 1:
            found.append(key)
    return sorted(found, key=lambda key: key not in ("experiment", "data"))  # what a table is about stands first


def _differing(runs: Sequence[Finished], key: str) -> list[str]:
    nodes = [run.written(key) for run in runs]
    if all(node == nodes[0] for node in nodes):
        return []
    names = labels_of(runs, key)
    found = [key] if len(set(names)) > 1 else []
    for group in _sharing(runs, names):
        parts = [node for run in group if isinstance(node := run.written(key), dict)]
        if len(parts) == len(group):
            for name in dict.fromkeys(name for part in parts for name in part if name != "_partial_"):
                found += [column for column in _differing(group, f"{key}.{name}") if column not in found]
    return found


def _sharing(runs: Sequence[Finished], names: Sequence[str]) -> list[list[Finished]]:
    return [[run for run, other in zip(runs, names, strict=True) if other == name] for name in dict.fromkeys(names)]


def labels_of(runs: Sequence[Finished], key: str) -> list[str]:
    """The label of each run at a key: a value, the choice of a dial, or the class of a part."""
    if key == "experiment":
        chosen = [run.choices.get(key) for run in runs]
        return [str(choice) for choice in chosen] if all(chosen) else [""] * len(runs)  # without one, a config has no name
    nodes = [run.written(key) for run in runs]
    named = all(key in run.choices for run, node in zip(runs, nodes, strict=True) if isinstance(node, dict))
    first: dict[str, str] = {}  # one part under two names is one part

    def label(run: Finished, node: Any) -> str:
        if isinstance(node, dict) and named:
            return first.setdefault(json.dumps(node, sort_keys=True, default=str), run.choices[key])
        return text(node if isinstance(node, dict) else run.value(key))

    return [label(run, node) for run, node in zip(runs, nodes, strict=True)]


def text(value: Any) -> str:
    """A value in the form in which one types it, a part by its name or class."""
    if isinstance(value, dict):
        return str(value.get("name") or value.get("_target_", "given")).split(".")[-1] if value else "null"
    if isinstance(value, list):
        return f"[{', '.join(text(item) for item in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def shortened(values: Sequence[str]) -> list[str]:
    """Absolute paths as far as they differ."""
    paths = [value for value in values if os.path.isabs(value)]
    common = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    return [os.path.relpath(value, common) if value in paths else value for value in values]


def as_number(value: str) -> float | None:
    """The number that a label says, if it says one."""
    try:
        return float(value)
    except ValueError:
        return None
