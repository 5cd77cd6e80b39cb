"""A process for each job, some of them at a time, on this machine."""

import logging
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from vaelab.runs.configs import quoted
from vaelab.sweeps.warm import WarmProcess, WarmServer, can_be_warm, end_with_parent

log = logging.getLogger(__name__)
# of the ranks that a trainer or a scheduler started: a job starts its own
RANKS = ("LOCAL_RANK", "NODE_RANK", "GLOBAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED")
OF_THE_SWEEP = ("hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper", "hydra.sweep", "hydra.mode", "hydra.run.dir")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
STOPPED = "stopped: what runs writes a checkpoint and ends; the same line goes on"


@dataclass
class LocalConf:
    _target_: str = "hydra_plugins.vaelab.LocalLauncher"
    n_jobs: int = 1  # at a time; cores and GPUs are shared out among them


class LocalLauncher(Launcher):
    """Runs the script itself for each job, as if its command line had been typed, in a process that has imported what it needs.

    So a job that dies takes no other with it, and its trainer may start further processes, which repeat that command line. On Linux these
    processes are forks of one; elsewhere each imports for itself.

    Raises:
        CompactHydraException: if n_jobs is below 1.
    """

    def __init__(self, n_jobs: int) -> None:
        if n_jobs < 1:
            raise CompactHydraException(f"hydra.launcher.n_jobs={n_jobs} must be at least 1")
        self.n_jobs = n_jobs
        self.server: WarmServer | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.loader = config, hydra_context.config_loader

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        pieces = self.pieces([list(overrides) for overrides in job_overrides])
        at_once = min(self.n_jobs, len(pieces))
        places: queue.Queue[dict[str, str]] = queue.Queue()
        for place in range(at_once):
            places.put(cores_and_gpu(place, at_once))
        running: list[subprocess.Popen | WarmProcess] = []
        server = self.warm_server()
        previous = signal.signal(signal.SIGTERM, interrupt)
        try:
            with ThreadPoolExecutor(at_once) as pool:
                tasks = [pool.submit(self.run, [job for _, job in piece], places, running, server) for piece in pieces]
                try:
                    found = {
                        i: ret for piece, task in zip(pieces, tasks, strict=True) for (i, _), ret in zip(piece, task.result(), strict=True)
                    }
                    return [found[i] for i in range(len(job_overrides))]
                except KeyboardInterrupt:
                    pool.shutdown(wait=False, cancel_futures=True)
                    for process in running:
                        process.send_signal(signal.SIGTERM)  # each writes a checkpoint, and ends
                    log.info(STOPPED)
                    raise SystemExit(130) from None
        finally:
            signal.signal(signal.SIGTERM, previous)

    def warm_server(self) -> WarmServer | None:
        """The process that jobs are forked from, where they can be; the same for all that this launcher starts."""
        if self.server is None and can_be_warm(program()):
            self.server = WarmServer(of_a_job({}))
        return self.server

    def pieces(self, jobs: Sequence[list[str]]) -> list[list[tuple[int, list[str]]]]:
        """The jobs with their numbers, dealt out to processes: here one to each."""
        return [[each] for each in enumerate(jobs)]

    def run(
        self,
        jobs: Sequence[list[str]],
        places: "queue.Queue[dict[str, str]]",
        running: list[subprocess.Popen | WarmProcess],
        server: WarmServer | None,
    ) -> list[JobReturn]:
        """The jobs of one process, in the next place that is free."""
        (overrides,) = jobs
        job = self.prepared(overrides)
        status, seconds = self.run_command(job.command, job.console, job.folder.name, places, running, server)
        return [job.returned(status, f" after {seconds:.0f} s")]

    def run_command(
        self,
        command: Sequence[str],
        output: Path,
        name: str,
        places: "queue.Queue[dict[str, str]]",
        running: list[subprocess.Popen | WarmProcess],
        server: WarmServer | None,
    ) -> tuple[int, float]:
        """Runs a command in the next place that is free; its exit code, and how many seconds it took."""
        place = places.get()
        started = time.monotonic()
        log.info(f"{'starts':22}  {name}")
        try:
            warm = None if server is None else server.start(command[1:], output, of_a_job(place))
            if warm is not None:
                running.append(warm)
            if warm is not None and warm.has_begun():
                status = warm.wait()
            else:
                with output.open("a") as console:
                    process = start(list(command), console, place)
                running.append(process)
                status = process.wait()
        finally:
            places.put(place)
        return status, time.monotonic() - started

    def prepared(self, overrides: list[str]) -> "Process":
        """A job, whose folder is there."""
        sweep = self.config.hydra.sweep
        named = [word for word in overrides if word.startswith("hydra.sweep.subdir=")]
        if named:  # by a sweeper of vaelab: to compose the whole config for it would take a third of a second
            subdir = OverridesParser.create().parse_override(named[-1]).value()
        else:
            sweep = self.loader.load_sweep_config(self.config, overrides).hydra.sweep
            subdir = sweep.subdir
        folder = Path(sweep.dir, str(subdir)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return Process(overrides, folder, self.command(overrides, folder))

    def command(self, overrides: list[str], folder: Path) -> list[str]:
        """The words that a person would type for this job alone."""
        added = [source.path for source in self.config.hydra.runtime.config_sources if source.provider == "command-line"]
        own = [word for word in self.config.hydra.overrides.hydra if not word.lstrip("+~").startswith(OF_THE_SWEEP)]
        job = [word for word in overrides if not word.startswith("hydra.sweep")]
        return [
            sys.executable,
            *program(),
            *[word for path in added for word in ("--config-dir", path)],
            "--config-name",
            self.config.hydra.job.config_name,
            *job,
            *own,
            f"hydra.run.dir={quoted(str(folder))}",
            "hydra.mode=RUN",
        ]


@dataclass
class Process:
    """The process of a job."""

    overrides: list[str]
    folder: Path
    command: list[str]

    @property
    def console(self) -> Path:
        """The file of what it prints."""
        return self.folder / "console.log"

    def returned(self, status: int, when: str = "") -> JobReturn:
        """The end of the job, for Hydra and in the log."""
        ret = JobReturn(overrides=filter_overrides(self.overrides), working_dir=os.getcwd())
        ret.status = JobStatus.COMPLETED if status == 0 else JobStatus.FAILED
        if status:
            ret.return_value = CompactHydraException(f"{ended(status)}: {last_line(self.console)}")
        log.info(f"{('done' if status == 0 else ended(status)) + when:22}  {self.folder.name}")
        return ret


def program() -> list[str]:
    """The words that started this process, without Python's own path and without those that Hydra reads.

    Such as ["/path/scripts/train.py"], ["/path/bin/vaelab", "train"] or ["-m", "vaelab", "train"].
    """
    words = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv[1:])]
    return [os.path.abspath(word) if word == sys.argv[0] else word for word in words]


def start(command: list[str], console: IO[str], environment: dict[str, str]) -> subprocess.Popen:
    """A process that is a job, and that is told to end when the one that starts it is killed."""
    return subprocess.Popen(
        command,
        env=of_a_job(environment),
        stdout=console,
        stderr=subprocess.STDOUT,
        preexec_fn=end_with_parent,
    )


def of_a_job(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a job: this one, but for the rank of this process, and what is set for the job."""
    return {key: value for key, value in os.environ.items() if key not in RANKS} | environment


def cores_and_gpu(place: int, at_once: int) -> dict[str, str]:
    """The cores and the GPU of one of several jobs at a time."""
    if at_once == 1:
        return {}
    import torch  # only to count

    threads = str(max(len(os.sched_getaffinity(0)) // at_once, 1))
    environment = {name: os.environ.get(name, threads) for name in THREADS}
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(torch.cuda.device_count()))))
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus.split(",")[place % len(gpus.split(","))]
    return environment


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def ended(status: int) -> str:
    """The end of a process, in words."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit code {status}"


def last_line(path: Path) -> str:
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line]
    return lines[-1].strip() if lines else "it printed nothing"
