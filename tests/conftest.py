"""What the tests share. vaelab is imported inside functions: the jaxtyping hook must be there before it is."""

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full-grid", action="store_true", help="train every legal combination of the grid (some minutes)")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def double():
    """float64, for mathematics."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
