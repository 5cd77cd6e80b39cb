"""What the tests share. vaelab is imported inside functions: the jaxtyping hook must be there before it is."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

# of this process and all that it starts, before torch is imported: one thread each, and the modules of tests/support
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent / "support"), *filter(None, [os.environ.get("PYTHONPATH")])])
# Files are shared out whole (`make test`), for the sake of the runs that their tests share; those with long tests first, so that the end
# is not one of them, and SLURM's last, which wait for what runs in the background.
FIRST = ("test_sweeps", "test_ray", "test_train", "test_end_to_end", "test_combinations", "test_resume", "test_searches", "test_package")
LAST = ("test_slurm",)
SLURM_FOLDER = "VAELAB_TESTS_SLURM"  # of the environment: one for all processes that run tests
collect_ignore = ["gpu"]  # unless it is asked for, as by `make gpu`
CLUSTER = pytest.StashKey[subprocess.Popen[bytes]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full-grid", action="store_true", help="train every legal combination of the grid (some minutes)")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        os.environ[SLURM_FOLDER] = tempfile.mkdtemp()
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        # what a module imports that jaxtyping instruments is compiled anew, and not taken from its .pyc: 13 s
        for name in ("lightning.pytorch", "matplotlib.figure", "scipy.stats", "sklearn.linear_model"):
            import_module(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        name = item.path.stem
        return FIRST.index(name) if name in FIRST else len(FIRST) + (name in LAST)

    items.sort(key=place)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Jobs of SLURM wait for minutes, and do so while other tests run."""
    from slurm_jobs import begin, lacking

    first = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0" and not session.config.option.collectonly
    if first and not lacking() and any("slurm_jobs" in getattr(item, "fixturenames", ()) for item in session.items):
        session.config.stash[CLUSTER] = begin(Path(os.environ[SLURM_FOLDER]))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (cluster := session.config.stash.get(CLUSTER, None)) is not None:
        if session.shouldfail or session.shouldstop:
            cluster.terminate()
        cluster.wait()


def pytest_unconfigure(config: pytest.Config) -> None:
    from forked_scripts import end_server

    end_server()
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ[SLURM_FOLDER])


@pytest.fixture(scope="session")
def slurm_jobs() -> Path:
    """The folder of what runs on a cluster in the background."""
    from slurm_jobs import lacking

    assert not lacking(), f"sweeps on SLURM can be tested after: {lacking()}"
    return Path(os.environ[SLURM_FOLDER])


@pytest.fixture(autouse=True, scope="session")
def _shapes_are_checked() -> None:
    """In every process that runs tests: what asks for `b k ...` is not given a number without dimensions."""
    import torch
    from jaxtyping import TypeCheckError

    from vaelab.distributions.ops import log_mean_exp

    with pytest.raises(TypeCheckError):
        log_mean_exp(torch.zeros(()))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture
def double() -> Iterator[None]:
    """float64, for mathematics."""
    import torch

    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
