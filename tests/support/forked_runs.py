"""Runs in processes of their own, forked from one that has imported everything once: a second each, and they can be killed."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from small_runs import composed

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["vaelab.commands.train", "vaelab.training.callbacks", "small_runs"])


def run(folder: Path, *overrides: str, environment: dict[str, str] | None = None) -> tuple[int | None, str]:
    """A run in `folder`: its exit code, which is -9 if it was killed with SIGKILL, and what it and those before it printed."""
    return end(start(train, list(overrides), folder, environment or {}), folder)


def start(function: Callable[..., Any], *arguments: Any) -> BaseProcess:
    process = CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process


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
    from lightning.pytorch.utilities import rank_zero_only

    from vaelab.commands import train as training

    multiprocessing.set_start_method("fork", force=True)  # of processes that load data: that of this process is not the usual one
    os.environ.update(environment)
    rank_zero_only.rank = int(environment.get("LOCAL_RANK", 0))  # which Lightning reads when it is imported
    with folder.with_suffix(".txt").open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    training.train(composed(overrides, folder))
