"""Imports point downwards in layers, and Hydra is seen by commands/ and sweeps/ alone."""

from pathlib import Path

import pytest
from house import ROOT, circles, imports, modules, numbers, room

# Each room may import itself and the rooms named with it. A room is a package directly below vaelab, or a module beside its __init__.
MAY_IMPORT = {
    "checks": set(),  # which every room may import
    # mathematics: torch only
    "schedules": set(),
    "networks": set(),
    "rng": set(),
    "collectives": set(),
    "distributions": {"collectives"},
    "flows": set(),
    "conditional": {"distributions"},
    "draw": {"distributions"},
    "divergences": {"draw"},
    "evidence": {"networks"},
    "posteriors": {"conditional", "distributions", "schedules"},
    "likelihoods": {"conditional", "distributions"},
    "priors": {"conditional", "distributions", "networks"},
    "models": {"distributions", "draw", "evidence", "networks"},
    "objectives": {"collectives", "distributions", "divergences", "draw", "models", "schedules"},
    "metrics": {"distributions", "divergences", "draw", "evidence", "models"},
    "applications": {"distributions", "divergences", "draw", "evidence", "metrics", "models"},
    # data
    "data": set(),
    # pictures and charts
    "figures": {"applications", "data", "distributions", "models", "rng"},
    # run folders: the file system
    "runs": {"figures"},
    # training: Lightning
    "training": {"conditional", "data", "distributions", "draw", "figures", "metrics", "models", "objectives", "rng", "runs", "schedules"},
    # from configs to objects
    "build": {"data", "models", "runs", "training"},
    # Hydra
    "sweeps": {"figures", "runs"},
    "commands": {"applications", "build", "data", "evidence", "figures", "metrics", "models", "objectives", "rng", "runs", "training"},
    "benchmark": {
        "build",
        "commands",
        "data",
        "evidence",
        "likelihoods",
        "metrics",
        "models",
        "networks",
        "posteriors",
        "priors",
        "runs",
        "training",
    },
    "hydra_plugins": {"sweeps"},
    "__init__": {"build", "commands", "data", "draw", "metrics", "models", "objectives", "runs"},  # the public names
}
SEES_HYDRA = {"build", "commands", "sweeps", "benchmark", "hydra_plugins"}
READS_CONFIGS = SEES_HYDRA | {"runs"}  # which resolves interpolations of stored configs


def test_every_room_is_known() -> None:
    assert {room(path) for path in modules()} == MAY_IMPORT.keys()


def test_there_is_no_circle() -> None:
    assert not circles(MAY_IMPORT)


@pytest.mark.parametrize(("name", "most"), [("rooms", 28), ("arrows inside", 80), ("circles", 0), ("loose modules", 9)])
def test_the_house_does_not_grow(name: str, most: int) -> None:
    assert numbers()[name] <= most


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_imports_point_downwards(path: Path) -> None:
    here = room(path)
    used = {name.split(".")[1] for name in imports(path) if name.startswith("vaelab.")}
    assert used <= MAY_IMPORT[here] | {here, "checks"}
    roots = {name.split(".")[0] for name in imports(path)}
    assert here in SEES_HYDRA or "hydra" not in roots
    assert here in READS_CONFIGS or "omegaconf" not in roots
