"""Jobs in forks of a warm process: each is the process that its command line would have been."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vaelab.sweeps.warm import WarmProcess, WarmServer, can_be_warm


@pytest.fixture(scope="module")
def server() -> Iterator[WarmServer]:
    """One that has imported what jobs need."""
    warm = WarmServer(os.environ)
    yield warm
    warm.process.kill()
    warm.process.wait()


class Scripts:
    """Starts scripts in a folder."""

    def __init__(self, server: WarmServer, folder: Path) -> None:
        self.server, self.folder, self.console = server, folder, folder / "console.log"

    def __call__(self, text: str, *words: str, **environment: str) -> WarmProcess:
        path = self.folder / "script.py"
        path.write_text(textwrap.dedent(text))
        return self.server.start([str(path), *words], self.console, {**os.environ, **environment})


@pytest.fixture
def script(server: WarmServer, tmp_path: Path) -> Scripts:
    return Scripts(server, tmp_path)


def test_it_is_the_process_of_its_command_line(script: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words, environment, folder, files and modules beside the script; and no thread was there when it was forked."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside.py").write_text("NAME = __name__")
    process = script(
        """
        import atexit, json, os, signal, sys
        import beside
        assert "torch" in sys.modules and "sklearn" in sys.modules
        atexit.register(print, "the end")
        print(json.dumps({
            "argv": sys.argv, "orig_argv": sys.orig_argv[1:], "folder": os.getcwd(), "kind": os.environ["KIND"], "file": __file__,
            "beside": beside.NAME, "has_server_variable": "OPENBLAS_NUM_THREADS" in os.environ,
            "threads_of_server": len(os.listdir(f"/proc/{os.getppid()}/task")), "threads": len(os.listdir("/proc/self/task")),
            "open": [os.readlink(path) for fd in range(3, 100) if os.path.lexists(path := f"/proc/self/fd/{fd}")],
            "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        }))
        """,
        "seed=1",
        "-m",
        KIND="job",
    )
    assert process.wait() == 0
    first, end = script.console.read_text().splitlines()
    path = str(tmp_path / "script.py")
    assert json.loads(first) == {
        "argv": [path, "seed=1", "-m"],
        "orig_argv": [path, "seed=1", "-m"],
        "folder": str(tmp_path),
        "kind": "job",
        "file": path,
        "beside": "beside",
        "has_server_variable": "OPENBLAS_NUM_THREADS" in os.environ,
        "threads_of_server": 1,
        "threads": 1,
        "open": [],
        "interrupt": True,
    }
    assert end == "the end"


@pytest.mark.parametrize("number", ["1", "2", "3"])
def test_libraries_have_the_threads_of_the_job(number: str, script: Scripts) -> None:
    process = script(
        """
        import threadpoolctl, torch
        print(torch.get_num_threads(), *sorted({pool["num_threads"] for pool in threadpoolctl.threadpool_info()}))
        """,
        OMP_NUM_THREADS=number,
        MKL_NUM_THREADS=number,
    )
    assert process.wait() == 0
    assert script.console.read_text().split() == [number, number]


def test_a_module_runs_too(server: WarmServer, tmp_path: Path) -> None:
    """`python -m vaelab`, with its command."""
    assert server.start(["-m", "vaelab", "--version"], tmp_path / "console.log", os.environ).wait() == 0
    assert (tmp_path / "console.log").read_text().startswith("vaelab ")


@pytest.mark.parametrize(
    ("text", "status", "last"),
    [
        ("raise SystemExit", 0, None),
        ("raise SystemExit(3)", 3, None),
        ("raise SystemExit('no data')", 1, "no data"),
        ("raise ValueError('no data')", 1, "ValueError: no data"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, None),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, None),
    ],
)
def test_it_ends_as_it_would(text: str, status: int, last: str | None, script: Scripts) -> None:
    assert script(text).wait() == status
    lines = script.console.read_text().splitlines()
    assert lines[-1:] == ([last] if last else [])


def wait_for(sign: Path) -> None:
    """Waits until a process has made a file."""
    deadline = time.monotonic() + 60
    while not sign.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sign.exists()


def started(process: WarmProcess, sign: Path) -> WarmProcess:
    """A process that is known to run, because it has made a file."""
    wait_for(sign)
    return process


WAITS = "import sys, time, pathlib; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"


def test_two_run_at_once_and_one_that_is_told_to_end_ends(script: Scripts, tmp_path: Path) -> None:
    first, second = (started(script(WAITS, str(tmp_path / name)), tmp_path / name) for name in ("first", "second"))
    first.send_signal(signal.SIGTERM)
    assert first.wait() == -signal.SIGTERM
    first.send_signal(signal.SIGTERM)  # once more, in vain
    second.send_signal(signal.SIGKILL)
    assert second.wait() == -signal.SIGKILL


TOLD = """
    import pathlib, signal, sys, time
    signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path(sys.argv[2]).touch(), sys.exit()))
    pathlib.Path(sys.argv[1]).touch()
    time.sleep(600)
"""


def test_jobs_are_told_to_end_when_their_server_is_killed(tmp_path: Path) -> None:
    server = WarmServer(os.environ, modules=())
    process = started(Scripts(server, tmp_path)(TOLD, str(tmp_path / "runs"), str(tmp_path / "told")), tmp_path / "runs")
    server.process.kill()
    assert process.wait() == -signal.SIGKILL  # which is all that one can know
    assert not Scripts(server, tmp_path)("").has_begun()  # for the launcher to start it otherwise
    wait_for(tmp_path / "told")


def runs(stat: Path) -> bool:
    """True if a process has not ended; one that has may still be listed, until its new parent asks for its exit code."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_jobs_and_server_end_with_the_sweep(tmp_path: Path) -> None:
    """Also one that is killed."""
    job, sweep = tmp_path / "job.py", tmp_path / "sweep.py"
    job.write_text(textwrap.dedent(TOLD))
    sweep.write_text(
        textwrap.dedent(f"""
        import os, pathlib, sys
        from vaelab.sweeps.warm import WarmServer
        server = WarmServer(os.environ, modules=())
        process = server.start([{str(job)!r}, *sys.argv[1:3]], pathlib.Path(sys.argv[3]), os.environ)
        pathlib.Path(sys.argv[4]).write_text(str(server.process.pid))
        process.wait()
        """)
    )
    signs = [str(tmp_path / name) for name in ("runs", "told", "console.log", "server")]
    process = subprocess.Popen([sys.executable, str(sweep), *signs])
    wait_for(tmp_path / "runs")
    process.kill()
    process.wait()
    wait_for(tmp_path / "told")
    server = Path("/proc", (tmp_path / "server").read_text(), "stat")
    deadline = time.monotonic() + 60
    while runs(server) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not runs(server)


def test_what_can_be_warm() -> None:
    assert can_be_warm(["-m", "vaelab", "train"])
    assert can_be_warm(["scripts/train.py"])
    assert not can_be_warm(["-X", "dev", "scripts/train.py"])
