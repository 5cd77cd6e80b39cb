"""Imports point downwards, and Hydra meets the library in one place."""

import ast
from pathlib import Path

import pytest
from running import ROOT

PACKAGE = ROOT / "src" / "vaelab"
# each room may import itself, those named with it, and those of the lines above it that it needs
MAY_IMPORT = {
    "schedules": set(),
    "networks": set(),
    "distributions": set(),
    "generators": set(),
    "conditional": {"distributions"},
    "processes": set(),
    "flows": set(),
    "posteriors": {"conditional", "distributions", "schedules"},
    "likelihoods": {"conditional", "distributions", "processes"},
    "priors": {"conditional", "distributions", "networks"},
    "draw": {"distributions"},
    "divergences": {"draw"},
    "metrics": {"draw", "divergences", "distributions"},
    "models": {"draw", "divergences", "distributions", "metrics", "networks"},
    "objectives": {"draw", "divergences", "distributions", "processes", "schedules"},
    "applications": {"distributions", "divergences", "draw", "models", "metrics"},
    "data": set(),
    "speed": {"conditional"},
    "pictures": set(),
    "charts": {"pictures"},
    "provenance": set(),
    "metrics_csv": set(),
    "checkpoints": set(),
    "preemption": set(),
    "report": {"charts"},
    "figures": {"applications", "charts", "data", "distributions", "generators", "models", "pictures"},
    "sharding": {"objectives"},
    "lit": {"checkpoints", "data", "generators", "metrics", "models", "objectives", "sharding"},
    "callbacks": {"data", "distributions", "draw", "figures", "generators", "lit", "objectives", "preemption", "schedules", "sharding"},
}
# may import everything, and Hydra
TOP = {"experiment", "continuation", "evaluation", "anomalies", "inpainting", "summary", "runs", "benchmark", "seeds"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "vaelab" else {node.module or ""}
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_is_known() -> None:
    assert {room(path) for path in modules()} == MAY_IMPORT.keys() | TOP | {"__init__"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    here = room(path)
    used = {name.split(".")[1] for name in imports(path) if name.startswith("vaelab.")}
    if here in MAY_IMPORT:
        assert used <= MAY_IMPORT[here] | {here}
    if here not in TOP:
        assert not {name for name in imports(path) if name.split(".")[0] in ("hydra", "omegaconf")}
