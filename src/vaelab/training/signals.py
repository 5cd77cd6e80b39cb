"""A process that is told to end: by Ctrl-C, by whoever started it, or by SLURM before its time is up."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from vaelab.runs.log import tell

# SLURM sends the second two some time before a time limit, if asked to: sbatch --signal=USR1@120
STOP = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
REQUEUE = STOP[2:]
AGAIN = 1.0  # seconds after which another Ctrl-C is one more, and not the same one passed on by a launcher


class Preempted(BaseException):
    """Ends what runs because a signal asked for it; no Exception, so that nothing takes it for an error of its own."""

    def __init__(self, signum: int, where: str = "") -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum, self.where = signum, where


class Signals:
    """A context in which a signal that asks this process to end raises `Preempted`.

    With `deferred`, it is only kept in `received`, for training to end after its step. Another Ctrl-C then ends it at once.
    Signals can be handled in the main thread alone; in another one, nothing changes.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.deferred = False
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        self._before = {signum: signal.getsignal(signum) for signum in STOP}
        self.handle()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum, handler in self._before.items():
                signal.signal(signum, handler)
        self._before = {}

    def unblock(self) -> None:
        """Let signals through that were held back while there was nobody to handle them."""
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)

    def handle(self) -> None:
        """Take the signals back from whoever took them since: Lightning's Trainer would write in the middle of a step."""
        if self._before and threading.current_thread() is threading.main_thread():
            for signum in STOP:
                signal.signal(signum, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        first = self.received is None
        if first:
            self.received, self._since = signum, now
        again = now - self._since > AGAIN
        if signum == signal.SIGINT and again:
            raise KeyboardInterrupt
        if not self.deferred and (first or again):
            raise Preempted(signum)

    def before(self, signum: int) -> Callable[[int, FrameType | None], Any] | None:
        """The former handler of a signal; None if there was none."""
        handler = self._before.get(signum)
        return handler if callable(handler) and handler is not signal.default_int_handler else None


def exit_code(signum: int) -> int:
    """The exit code of a process that a signal ended, as a shell gives it: 143 for SIGTERM."""
    return 128 + signum


def was_requeued() -> bool:
    """True if SLURM has started this job before."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


def requeue(signum: int, signals: Signals) -> None:
    """Have SLURM start this job again if the signal is one that announces the end of its time, and say so.

    After SIGTERM it does not: scancel sends it for a job that shall end, and a job that SLURM preempts is requeued by SLURM.
    Where somebody else waited for the signal, as submitit does, it is theirs to requeue.
    """
    if signum not in REQUEUE:
        return
    theirs = signals.before(signum)
    if theirs is not None:
        theirs(signum, None)
        return
    job = os.environ.get("SLURM_JOB_ID")
    if os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if job is None:
        return
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True, timeout=60)
        tell(f"SLURM will start job {job} again")
    except subprocess.CalledProcessError as error:
        tell(f"SLURM does not start job {job} again: {error.stderr.strip()}")
    except (OSError, subprocess.TimeoutExpired) as error:
        tell(f"SLURM does not start job {job} again: {error}")
