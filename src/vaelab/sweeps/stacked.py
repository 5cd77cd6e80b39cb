"""Jobs that differ in numbers alone, trained as one stack in one process, each in a folder of its own."""

import json
import logging
import queue
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException

from vaelab.runs.folder import RunFolder
from vaelab.sweeps.local import LocalConf, LocalLauncher, Process
from vaelab.sweeps.warm import WarmProcess, WarmServer

log = logging.getLogger(__name__)
# keys of which each member of a stack may have a number of its own
FREE = re.compile(r"(seed|(objective|optimizer|scheduler|schedule|schedule@[\w.]+|likelihood|posterior|prior)\.[\w.]+)=[-+.\deE]+")

OF_A_JOB = ("hydra.", "+callbacks.pruning=")  # words that name the folder of a job, and its number in a search


@dataclass
class StackedConf(LocalConf):
    _target_: str = "hydra_plugins.vaelab.StackedLauncher"
    max_stack: int | None = 32  # models in a stack; null: as many as there are


class StackedLauncher(LocalLauncher):
    """Trains jobs that differ in numbers alone as one stack: a step of all of them costs little more than one of a small model.

    Each job leaves what it leaves under launcher=local. Jobs that differ in more are stacks of their own; what cannot be stacked is trained
    by itself, and a line says why.

    Raises:
        CompactHydraException: if n_jobs or max_stack is below 1.
    """

    def __init__(self, n_jobs: int, max_stack: int | None) -> None:
        super().__init__(n_jobs)
        if max_stack is not None and max_stack < 1:
            raise CompactHydraException(f"hydra.launcher.max_stack={max_stack} must be at least 1, or null for as many as there are")
        self.max_stack = max_stack

    def pieces(self, jobs: Sequence[list[str]]) -> list[list[tuple[int, list[str]]]]:
        """The jobs with their numbers, dealt out to as many processes as run at a time, by what may be one stack."""
        devices = str(self.config.trainer.get("devices", 1))
        if devices not in ("1", "auto"):
            log.info(f"trainer.devices={devices}: a stack is on one device, so each job is trained by itself")
            return super().pieces(jobs)
        alike: dict[tuple[str, ...], list[tuple[int, list[str]]]] = {}
        for i, words in enumerate(jobs):
            kind = tuple(re.sub("=.*", "", word) if FREE.fullmatch(word) else word for word in words if not word.startswith(OF_A_JOB))
            alike.setdefault(kind, []).append((i, words))
        pieces = [part for group in alike.values() for part in equal_parts(group, self.max_stack or len(group))]
        while len(pieces) < self.n_jobs and max(map(len, pieces)) > 1:
            largest = pieces.pop(max(range(len(pieces)), key=lambda i: len(pieces[i])))
            pieces += equal_parts(largest, -(-len(largest) // 2))
        return pieces

    def run(
        self,
        jobs: Sequence[list[str]],
        places: "queue.Queue[dict[str, str]]",
        running: list[subprocess.Popen | WarmProcess],
        server: WarmServer | None,
    ) -> list[JobReturn]:
        """The jobs of one process."""
        if len(jobs) == 1:
            return super().run(jobs, places, running, server)
        members = [self.prepared(overrides) for overrides in jobs]
        output = Path(self.config.hydra.sweep.dir, "stack.log").absolute()
        with tempfile.TemporaryDirectory(prefix="vaelab_stack_") as folder:
            request, answer = Path(folder, "jobs.json"), Path(folder, "codes.json")
            told = [{"name": job.folder.name, "words": job.command[1:], "console": str(job.console)} for job in members]
            request.write_text(json.dumps({"jobs": told, "answer": str(answer)}))
            name = f"{members[0].folder.name} and {len(members) - 1} more, as one stack"
            command = [sys.executable, "-m", "vaelab.commands.stacked", str(request)]
            status, seconds = self.run_command(command, output, name, places, running, server)
            codes = json.loads(answer.read_text()) if answer.is_file() else {}
        return [self.ended(job, codes, status, seconds) for job in members]

    def ended(self, job: Process, codes: dict[str, int], status: int, seconds: float) -> JobReturn:
        """The end of a job: its own, or that of its process if that ended before the job had its results."""
        killed = 0 if RunFolder(job.folder).is_finished else status or 1
        return job.returned(codes.get(job.folder.name, killed), f" after {seconds:.0f} s")


def equal_parts(jobs: list[tuple[int, list[str]]], size: int) -> list[list[tuple[int, list[str]]]]:
    """Parts of at most `size` jobs, as equal as can be."""
    num = -(-len(jobs) // size)
    return [jobs[i * len(jobs) // num : (i + 1) * len(jobs) // num] for i in range(num)]
