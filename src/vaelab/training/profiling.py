"""The profilers of Lightning: their tables, of where the time of training goes, are shown and kept."""

from pathlib import Path
from typing import Any

from lightning.pytorch.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

from vaelab.runs.log import tell

PROFILERS: dict[Any, type[Profiler]] = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
NAME = "profile"


def profiler_of(choice: Any, folder: Path) -> Any:
    """The profiler that trainer.profiler names, which writes its table into a folder; what is no such name stays as it is."""
    return PROFILERS[choice](dirpath=str(folder), filename=NAME) if isinstance(choice, str) and choice in PROFILERS else choice


def show_profile(folder: Path) -> None:
    """Print the tables that a profiler has written into a folder."""
    for path in sorted(folder.glob(f"*{NAME}*.txt")):
        tell(f"{path.read_text().rstrip()}\n")
