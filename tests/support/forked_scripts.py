"""Scripts as a user calls them, in processes that are forked from one that has imported everything once."""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.forkserver import _forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["imported_once"])
PRINTED: list[Path] = []  # where this process prints, if it is forked


class Script:
    """A script that runs, and what it prints.

    Args:
        script: its path, or its name in scripts/.
        arguments: of its command line.
        cwd: the folder that it runs in.
        env: its whole environment.
        preexec_fn: what its process calls first; a function of a module.
    """

    def __init__(
        self,
        script: str | Path,
        *arguments: str,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        preexec_fn: Callable[[], object] | None = None,
    ) -> None:
        self.words = [str(ROOT / "scripts" / script), *arguments]
        self.folder = tempfile.TemporaryDirectory()
        self.printed = [Path(self.folder.name, name) for name in ("stdout", "stderr")]
        for path in self.printed:
            path.touch()
        environment = dict(os.environ if env is None else env)
        self.process = start_script(self.words, self.printed, str(cwd or os.getcwd()), environment, preexec_fn)
        self.pid = self.process.pid

    def poll(self) -> int | None:
        """The exit code, -9 if it was killed by SIGKILL; None as long as it runs."""
        return self.process.exitcode

    def send_signal(self, signum: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def wait(self, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """How it ended, and what it printed.

        Raises:
            AssertionError: if it has to be killed after so many seconds.
        """
        self.process.join(seconds)
        in_time = self.poll() is not None
        self.process.kill()
        self.process.join()
        told = [path.read_text(errors="replace") for path in self.printed]
        assert in_time, f"{self.words} did not end:\n{told[0][-3000:]}\n{told[1][-3000:]}"
        return subprocess.CompletedProcess(self.words, self.process.exitcode or 0, *told)


def command(script: str | Path, *arguments: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    """How a script ended, and what it printed; options are those of `Script`.

    Raises:
        AssertionError: if it failed, unless `check` is off.
    """
    done = Script(script, *arguments, **options).wait()
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def start(function: Callable[..., object], *arguments: object) -> BaseProcess:
    """A process that calls a function of a module."""
    process = CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process


def start_script(
    words: list[str],
    printed: list[Path],
    cwd: str,
    environment: Mapping[str, str],
    preexec_fn: Callable[[], object] | None = None,
) -> BaseProcess:
    """A process that runs a script."""
    _forkserver.ensure_running()
    return start(run_script, words, printed, cwd, environment, preexec_fn, _forkserver._forkserver_address)


class Fork:
    """`subprocess.Popen` of a command of this repository, forked as well: ranks that Lightning or torchrun start, and jobs of a sweep.

    The only difference for who starts it is that the process is not a child of its own.
    """

    def __init__(self, args: Sequence[str], env: Mapping[str, str] | None = None, cwd: str | None = None, **options: object) -> None:
        console = options.get("stdout")  # a file, to which stderr goes as well; or PIPE
        self.folder = tempfile.TemporaryDirectory() if console == subprocess.PIPE else None
        if self.folder is not None:
            self.printed = [Path(self.folder.name, name) for name in ("stdout", "stderr")]
        else:
            self.printed = PRINTED if console is None else [Path(console.name)] * 2
        self.args = args
        self.process = start_script(as_script(args), self.printed, cwd or os.getcwd(), dict(os.environ if env is None else env))
        self.pid = self.process.pid

    def __enter__(self) -> "Fork":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        self.process.join(timeout)
        return self.returncode

    def communicate(self, input: None = None, timeout: float | None = None) -> tuple[str, ...]:
        self.wait(timeout)
        return tuple(path.read_text() if path.exists() else "" for path in self.printed)

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)


class Popen(subprocess.Popen):
    """Stands for `subprocess.Popen` in a forked process: it forks commands of this repository, and starts other programs as ever."""

    def __new__(cls, args: Sequence[str], *others: object, **options: object) -> "Fork | Popen":
        return Fork(args, **options) if not isinstance(args, str) and as_script(args) else super().__new__(cls)


def as_script(args: Sequence[object]) -> list[str]:
    """The path of a script of this repository and its words, from a command line that runs it; [] if it runs something else."""
    words = [str(word) for word in args]
    if words[0] != sys.executable:
        return []
    if words[1:3] == ["-m", "vaelab"]:
        return [str(ROOT / "scripts" / f"{words[3]}.py"), *words[4:]]
    place = next((i for i, word in enumerate(words) if word.endswith(".py") and Path(word).parent == ROOT / "scripts"), len(words))
    return words[place:]


def end_server() -> None:
    """End the process that the others are forked from, which would take seconds to clear up by itself."""
    if _forkserver._forkserver_pid is not None:
        os.kill(_forkserver._forkserver_pid, signal.SIGKILL)
        os.waitpid(_forkserver._forkserver_pid, 0)


def run_script(
    words: list[str],
    printed: list[Path],
    cwd: str,
    environment: Mapping[str, str],
    preexec_fn: Callable[[], object] | None,
    server: str,
) -> None:
    """What the process of a script does."""
    prepare(environment, *printed)
    PRINTED[:] = printed
    _forkserver._forkserver_address, _forkserver.ensure_running = server, lambda: None  # which this process was forked from, too
    subprocess.Popen = Popen
    os.chdir(cwd)
    if preexec_fn is not None:
        preexec_fn()
    sys.argv[:], sys.orig_argv[:] = words, [sys.executable, *words]
    try:
        runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out


def prepare(environment: Mapping[str, str], stdout: Path, stderr: Path) -> None:
    """Make a forked process one that was started with an environment, and that prints to files."""
    assert "imported_once" in sys.modules, "tests/support is not in PYTHONPATH: see tests/conftest.py"
    from lightning.fabric.utilities.rank_zero import _get_rank
    from lightning.pytorch.utilities import rank_zero_only

    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [folder for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder not in sys.path]
    rank_zero_only.rank = _get_rank() or 0  # which Lightning reads when it is imported
    multiprocessing.set_start_method("fork", force=True)  # of processes that load data: that of this process is not the usual one
    for number, path in enumerate((stdout, stderr), start=1):
        with path.open("a") as file:
            os.dup2(file.fileno(), number)
