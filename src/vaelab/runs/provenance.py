"""The origin of numbers: time, code, versions, device."""

import platform
import re
import resource
import subprocess
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def stamp(device: "torch.device") -> dict[str, Any]:
    """The origin of numbers that are ready now: the time, the code, versions, the device and memory."""
    return {"finished": datetime.now().astimezone().isoformat(timespec="seconds"), **git(), **provenance(device)}


def provenance(device: "torch.device") -> dict[str, Any]:
    """Versions, the device, and the peak memory of this process in MiB."""
    import torch  # run folders are read without it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    record: dict[str, Any] = {
        "versions": {
            "python": platform.python_version(),
            **{name: installed(name) for name in ("vaelab", "torch", "lightning", "hydra-core")},
        },
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({processor()})",
        "threads": torch.get_num_threads(),
        "peak_memory_mib": round(peak, 1),
    }
    if device.type == "cuda":
        record["peak_device_memory_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return record


def processor() -> str:
    """The name of the processor, such as "AMD EPYC 7763 64-Core Processor"; its kind where the system does not tell."""
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def installed(package: str) -> str | None:
    """The version of a package; None for one that is imported from its sources without having been installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git() -> dict[str, Any]:
    """The commit that this package was imported from, and whether files differ from it; None where there is no repository."""
    folder = Path(__file__).parent

    def ask(*args: str) -> str | None:
        try:
            return subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    status = ask("status", "--porcelain")
    return {"git_commit": ask("rev-parse", "HEAD"), "git_dirty": None if status is None else bool(status)}
