"""What the tests on a GPU share. `make gpu` runs them and `make test` does not; --device=cpu proves them on a machine without one."""

from collections.abc import Iterator

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cuda", "cpu"), default="cuda", help="where the tests of tests/gpu run")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    device = torch.device(request.config.getoption("--device"))
    assert device.type == "cpu" or torch.cuda.is_available(), "there is no GPU: run the tests with --device=cpu"
    return device


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Convolutions in float32, as matrix products are: by default cuDNN rounds their inputs to the ten bits of TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    yield
    torch.cuda.empty_cache()
