"""A process for each job, as tasks of Ray: on this machine, or on the machines of a cluster that share their files."""

import logging
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException

from vaelab.sweeps.local import STOPPED, LocalLauncher, interrupt, log, start


@dataclass
class RayConf:
    _target_: str = "hydra_plugins.vaelab.RayLauncher"
    address: str | None = None  # of a cluster that runs; null: Ray is started on this machine, for this sweep
    num_cpus: int = 1  # of a job, which has as many threads; jobs run at a time as there is room for
    num_gpus: int = 0  # of a job, which sees no others
    max_retries: int = 3  # how often a job goes on elsewhere whose machine has gone


class RayLauncher(LocalLauncher):
    """A `LocalLauncher` whose jobs run where Ray (Moritz et al., 2018, https://arxiv.org/abs/1712.05889) finds room; an extra: vaelab[ray].

    Raises:
        CompactHydraException: if Ray is not installed.
    """

    def __init__(self, address: str | None, num_cpus: int, num_gpus: int, max_retries: int) -> None:
        if find_spec("ray") is None:
            raise CompactHydraException("launcher=ray needs Ray: pip install 'vaelab[ray]'")
        self.address, self.options = address, {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_retries": max_retries}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Runs the jobs, and returns when all have ended.

        Raises:
            CompactHydraException: if there is no machine that has room for one of them.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
        import ray

        dashboard = None if self.address else False
        ray.init(self.address, include_dashboard=dashboard, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.WARNING)
        wanted = {"CPU": self.options["num_cpus"], "GPU": self.options["num_gpus"]}
        machines = [{name: node["Resources"].get(name, 0) for name in wanted} for node in ray.nodes()]
        if not any(all(machine[name] >= wanted[name] for name in wanted) for machine in machines):
            raise CompactHydraException(f"hydra.launcher asks for {wanted} for a job, but the machines have {machines}")
        jobs = [self.prepared(list(overrides)) for overrides in job_overrides]
        task = ray.remote(run).options(**self.options)
        running = [task.remote(job.command, str(job.console), os.getcwd()) for job in jobs]
        previous = signal.signal(signal.SIGTERM, interrupt)
        try:
            ray.wait(running, num_returns=len(running))
        except KeyboardInterrupt:
            for one in running:
                ray.cancel(one)
            log.info(STOPPED)
            ray.wait(running, num_returns=len(running))  # each writes a checkpoint, and ends
            raise SystemExit(130) from None
        finally:
            signal.signal(signal.SIGTERM, previous)
        return [job.returned(status(one)) for job, one in zip(jobs, running, strict=True)]


def status(job: Any) -> int:
    """The exit code of a job; that of a kill where its machine has gone."""
    import ray

    try:
        return ray.get(job)
    except ray.exceptions.RayError:
        return -9


def run(command: list[str], console: str, folder: str) -> int:
    """The job, in a worker of Ray's; its exit code."""
    os.chdir(folder)  # where the sweep was started, to which paths are relative
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is what Ray cancels by, and what `&` has a shell ignore
    with open(console, "a") as file:
        process = start(command, file, {})
        try:
            while process.poll() is None:
                time.sleep(0.5)  # and no wait(): what Ray raises to cancel a task does not end a call of the system
        except KeyboardInterrupt:
            process.terminate()
        return process.wait()
