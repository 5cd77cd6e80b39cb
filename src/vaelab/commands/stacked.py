"""The process of a stack: trains the jobs that a file names, each in a thread of its own that waits for the others at each step.

python -m vaelab.commands.stacked <file>
"""

import json
import runpy
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton

from vaelab.commands.cli import main as run_command_line
from vaelab.training.signals import STOP, Preempted, exit_code
from vaelab.training.stacking.members import Member, StackedSteps
from vaelab.training.stacking.noise import NotStackableError
from vaelab.training.stacking.together import Together, bytes_of, free_bytes
from vaelab.training.stacking.turns import Surroundings, Turn

SHARE_OF_MEMORY = 0.8  # of what is free when a stack begins


class Job:
    """A command line that runs in a thread.

    Args:
        name: of its folder.
        words: after Python's own path, such as ["-m", "vaelab", "train", ...].
        console: the file that it prints to.
    """

    def __init__(self, name: str, words: Sequence[str], console: str) -> None:
        self.name, self.words, self.console = name, list(words), Path(console)
        self.member: Member | None = None
        self.stack: Together | None = None
        self.last_steps: StackedSteps | None = None
        own = {kind: each for kind, each in Singleton._instances.items() if kind not in (GlobalHydra, HydraConfig)}
        self._singletons, self._outer = own, Singleton._instances
        self.turn = Turn(self.run, Surroundings(self.console.open("a", buffering=1)), self.swap)

    def swap(self, begins: bool) -> None:
        """Gives the thread what Hydra has once in a process."""
        if begins:
            self._outer, Singleton._instances = Singleton._instances, self._singletons
        else:
            self._singletons, Singleton._instances = Singleton._instances, self._outer

    def run(self, turn: Turn[None]) -> None:
        self.member = Member(self.name, turn.wait)
        sys.orig_argv[:] = [sys.executable, *self.words]
        if self.words[:2] == ["-m", "vaelab"]:
            sys.argv[:] = self.words[1:]
            code = run_command_line()
        else:
            sys.argv[:] = self.words
            runpy.run_path(self.words[0], run_name="__main__")
            code = 0
        if code:
            raise SystemExit(code)

    def go_on(self) -> None:
        """Lets it train on, up to its next steps."""
        self.turn.go_on()
        steps = self.member.steps if self.member is not None else None
        if self.stack is not None and (steps is None or self.turn.has_ended):
            assert self.last_steps is not None
            if self.member is not None and self.member.why_alone is not None:
                print(f"{self.name} has left its stack: {self.member.why_alone}", flush=True)
            self.stack.leave(self.last_steps)
            self.stack = None
        self.last_steps = steps

    @property
    def code(self) -> int:
        """Its exit code, once it has ended; what ended it is in its console."""
        error = self.turn.error
        if error is None:
            return 0
        if isinstance(error, SystemExit):
            if isinstance(error.code, int) or error.code is None:
                return error.code or 0
            text = str(error.code)
        else:
            text = "".join(traceback.format_exception(error))
        with self.console.open("a") as file:
            print(text, file=file)
        return 1


class StackProcess:
    """Trains jobs as stacks, until all have ended.

    Args:
        jobs: command lines.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = list(jobs)
        self.stopped: int | None = None
        self.running: Job | None = None

    def stop(self, signum: int, frame: FrameType | None) -> None:
        """Has all jobs end after their next steps, as a job does that a signal asks to; one that does not train ends at once."""
        self.stopped = signum
        if self.running is not None and self.running.member is not None and not self.running.member.stop(signum):
            self.running.turn.interrupt(preempted_by(signum))

    def run(self) -> dict[str, int]:
        """The exit codes of the jobs, by name."""
        for signum in STOP:
            signal.signal(signum, self.stop)
        going = list(self.jobs)
        while going:
            for job in going:
                if self.stopped is not None and job.member is not None:
                    job.member.stop(self.stopped)
                if self.stopped is None or job.member is not None:
                    self.running = job
                    job.go_on()
                    self.running = None
            waiting = [job for job in self.jobs if job.member is not None and not job.turn.has_ended]
            self.form([job for job in waiting if job.stack is None])
            going = []
            for stack in dict.fromkeys(job.stack for job in waiting if job.stack is not None):
                mine = [job for job in waiting if job.stack is stack]
                try:
                    # models that train no more take time as well
                    now = stack if 2 * len(mine) > len(stack.members) else self.stack(mine)
                    now.advance()
                    going += [job for job in mine if job.last_steps is not None and job.last_steps.taken]
                except NotStackableError as error:
                    self.leave_alone(mine, str(error))
                    going += mine
            going += [job for job in waiting if job.stack is None and job not in going]
        return {job.name: exit_code(self.stopped) if job.member is None and self.stopped else job.code for job in self.jobs}

    def form(self, jobs: Sequence[Job]) -> None:
        """Makes stacks of jobs that wait and are in none."""
        groups: list[list[Job]] = []
        reasons: dict[str, str] = {}
        for job in jobs:
            for group in groups:
                reason = difference(group[0], job)
                if reason is None:
                    group.append(job)
                    break
                reasons[job.name] = reason
            else:
                groups.append([job])
        for group in groups:
            if len(group) == 1:
                self.leave_alone(group, reasons.get(group[0].name, "there is no other job like it"))
                continue
            try:
                parts = self.parts_that_fit(group)
            except NotStackableError as error:
                self.leave_alone(group, str(error))
                continue
            for part in parts:
                try:
                    self.stack(part)
                except NotStackableError as error:
                    self.leave_alone(part, str(error))

    def parts_that_fit(self, jobs: Sequence[Job]) -> list[Sequence[Job]]:
        """The jobs in as few stacks as memory has room for; says how much is needed."""
        steps = jobs[0].last_steps
        assert steps is not None
        needed, free = bytes_of(steps), SHARE_OF_MEMORY * free_bytes(steps.module.device)
        most = max(1, min(len(jobs), int(free // needed) if free < float("inf") else len(jobs)))
        words = f"{len(jobs)} runs of {sum(weight.numel() for weight in steps.trained.parameters()):,} weights need about"
        words += f" {len(jobs) * needed / 2**20:,.0f} MiB"
        num = -(-len(jobs) // most)
        print(words if num == 1 else f"{words}, but {free / 2**20:,.0f} MiB may be used: they train in {num} stacks", flush=True)
        return [jobs[i * len(jobs) // num : (i + 1) * len(jobs) // num] for i in range(num)]

    def stack(self, jobs: Sequence[Job]) -> Together:
        """A stack of jobs that wait."""
        stack = Together([steps for job in jobs if (steps := job.last_steps) is not None])
        for job in jobs:
            assert job.member is not None
            job.stack, job.member.size = stack, max(job.member.size, len(jobs))
        return stack

    def leave_alone(self, jobs: Sequence[Job], why: str) -> None:
        """Has jobs train by themselves."""
        for job in jobs:
            assert job.member is not None
            job.member.why_alone, job.stack = why, None
            print(f"{job.name} trains by itself: {why}", flush=True)


def preempted_by(signum: int) -> type[Preempted]:
    """A class of exceptions that are made without arguments, of one signal."""
    return type("Preempted", (Preempted,), {"__init__": lambda self: Preempted.__init__(self, signum)})


def difference(a: Job, b: Job) -> str | None:
    """Reason why two jobs cannot be in one stack; None if they can."""
    assert a.last_steps is not None
    assert b.last_steps is not None
    return a.last_steps.difference(b.last_steps)


def main(path: str) -> None:
    """Trains the jobs of a file, and writes their exit codes into another."""
    request = json.loads(Path(path).read_text())
    codes = StackProcess([Job(**job) for job in request["jobs"]]).run()
    Path(request["answer"]).write_text(json.dumps(codes))


if __name__ == "__main__":
    main(sys.argv[1])
