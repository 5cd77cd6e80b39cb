"""Commands of Python in forks of a process that has imported what they need; on Linux."""

import atexit
import ctypes
import gc
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

# a fork has one thread: numpy's linear algebra would have started more when it is imported
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
PR_SET_PDEATHSIG = 1  # of Linux' prctl


def end_with_parent() -> None:
    """Have this process told to end when the one that started it is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class WarmProcess:
    """A command that runs in a fork of a `WarmServer`."""

    def __init__(self) -> None:
        self.pid: Future[int] = Future()
        self.status: Future[int] = Future()

    def has_begun(self) -> bool:
        """True as soon as it runs; False if there is no server that could start it."""
        return self.pid.result() > 0

    def wait(self) -> int:
        """The exit code; -9 if it was killed by SIGKILL."""
        return self.status.result()

    def lose(self) -> None:
        """Ends the waiting for a process whose server has gone, and which was told to end."""
        for future in (self.pid, self.status):
            if not future.done():
                future.set_result(-signal.SIGKILL)

    def send_signal(self, signum: int) -> None:
        """Sends it a signal, if it has not ended."""
        if not self.status.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid.result(), signum)


class WarmServer:
    """A process that imports modules once, and then forks for each command.

    It ends with this process, and so do its forks, which are told to by SIGTERM.

    Args:
        environment: that they are imported with, such as numbers of threads.
        modules: what is imported.
    """

    def __init__(self, environment: Mapping[str, str], modules: Sequence[str] = ("vaelab.sweeps.imports",)) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), *modules],
                env={**environment, **ONE_THREAD},
                pass_fds=[theirs.fileno()],
                preexec_fn=end_with_parent,
            )
        self.connection = Connection(ours.detach())
        self.jobs: list[WarmProcess] = []
        self.lock = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, words: Sequence[str], console: Path, environment: Mapping[str, str]) -> WarmProcess:
        """Runs a command.

        Args:
            words: of its command line after Python's own path, such as ["-m", "vaelab", "train"] or ["scripts/train.py"].
            console: the file that it prints to.
            environment: all of it.
        """
        with self.lock:
            job = WarmProcess()
            self.jobs.append(job)
            try:
                self.connection.send((list(words), str(console), os.getcwd(), dict(environment)))
            except OSError:  # of a server that has gone
                job.lose()
            return job

    def _listen(self) -> None:
        try:
            while True:
                number, is_end, value = self.connection.recv()
                (self.jobs[number].status if is_end else self.jobs[number].pid).set_result(value)
        except (EOFError, OSError):
            with self.lock:
                self.connection.close()
                for job in self.jobs:
                    job.lose()


def can_be_warm(words: Sequence[str]) -> bool:
    """True if a command can run in a fork: of a script or a module, without options of Python itself, on Linux."""
    return sys.platform == "linux" and (words[0] == "-m" or not words[0].startswith("-"))


def serve(connection: Connection, modules: Sequence[str]) -> None:
    """Imports modules and forks for each command that comes, until the other end of the connection is closed."""
    for module in modules:
        import_module(module)
    gc.freeze()  # or the first collection of each fork would copy all that it shares
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sweep to pass on
    numbers, num_started = dict[int, int](), 0
    while True:
        ready = select.select([connection.fileno(), ended], [], [])[0]
        if ended in ready:
            os.read(ended, 4096)
            for pid in list(numbers):
                if (found := os.waitpid(pid, os.WNOHANG))[0]:
                    connection.send((numbers.pop(pid), True, os.waitstatus_to_exitcode(found[1])))
        if connection.fileno() in ready:
            try:
                request = connection.recv()
            except EOFError:
                return
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for each in (connection.fileno(), ended, wake):
                    os.close(each)
                run(*request)
            connection.send((num_started, False, pid))
            numbers[pid], num_started = num_started, num_started + 1


def run(words: list[str], console: str, folder: str, environment: Mapping[str, str]) -> NoReturn:
    """Makes this process, a fork, that of a command; ends it with the exit code."""
    end_with_parent()
    for signum in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = os.open(console, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    set_threads()
    sys.orig_argv[:] = [sys.executable, *words]
    try:
        if words[0] == "-m":
            sys.argv[:], sys.path[0] = words[1:], folder
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv[:], sys.path[0] = words, str(Path(words[0]).parent)
            runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if error.code is not None and code is not error.code:
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        threading._shutdown()  # type: ignore[attr-defined]  # what Python does at its end, but for its own memory
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code & 0xFF)


def set_threads() -> None:
    """Gives the libraries that are loaded as many threads as they would have if they were loaded now."""
    if "threadpoolctl" in sys.modules and "torch" in sys.modules:
        import threadpoolctl
        import torch

        cores = len(os.sched_getaffinity(0))
        number = int(os.environ.get("OMP_NUM_THREADS", cores))
        threadpoolctl.threadpool_limits(int(os.environ.get("OPENBLAS_NUM_THREADS", number)), user_api="blas")
        threadpoolctl.threadpool_limits(number, user_api="openmp")
        torch.set_num_threads(number)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), sys.argv[2:])
