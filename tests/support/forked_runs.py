"""Runs of configs in processes that are forked from one that has imported everything once: a second each, and they can be killed."""

import os
import socket
from multiprocessing.process import BaseProcess
from pathlib import Path

from forked_scripts import prepare, start
from small_runs import composed


def run(folder: Path, *overrides: str, environment: dict[str, str] | None = None) -> tuple[int | None, str]:
    """A run in `folder`: its exit code, which is -9 if it was killed with SIGKILL, and what it and those before it printed."""
    return end(start(train, list(overrides), folder, environment or {}), folder)


def run_ranks(folder: Path, count: int, *overrides: str) -> tuple[list[int | None], str]:
    """A run of several processes that are started from outside, as torchrun or SLURM starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [start(train, list(overrides), folder, common | {"LOCAL_RANK": str(rank)}) for rank in range(count)]
    return [end(rank, folder)[0] for rank in ranks], output(folder)


def end(process: BaseProcess, folder: Path) -> tuple[int | None, str]:
    process.join(60)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"the run did not end:\n{output(folder)}")
    return process.exitcode, output(folder)


def output(folder: Path) -> str:
    path = folder.with_suffix(".txt")
    return path.read_text() if path.exists() else ""


def train(overrides: list[str], folder: Path, environment: dict[str, str]) -> None:
    """What such a process does."""
    from vaelab.commands import train as training

    prepare(os.environ | environment, folder.with_suffix(".txt"), folder.with_suffix(".txt"))
    training.train(composed(overrides, folder))
