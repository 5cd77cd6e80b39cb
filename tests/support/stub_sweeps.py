"""Sweeps of the stub application."""

import json
import subprocess
from pathlib import Path

from forked_scripts import command

STUB = Path(__file__).with_name("stub_application.py")


def sweep(folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """How a sweep in `folder` ended, and what it printed."""
    return command(STUB, "-m", *words, check=check, cwd=folder)


def results(folder: Path, name: str) -> dict[str, dict]:
    """results.json of the finished runs of a sweep, by their names."""
    return {path.parent.name: json.loads(path.read_text()) for path in (folder / "outputs/sweeps" / name).glob("*/results.json")}
