"""Seconds of the processor until a run has trained, beside those of importing Lightning."""

import resource
import statistics
import subprocess
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vaelab.runs.provenance import processor

IMPORT = ("-c", "import lightning.pytorch")
TRAIN = ("-m", "vaelab", "train", "trainer=debug", *(f"evaluation.{part}=false" for part in ("enabled", "figures", "report")))


def start(config: DictConfig) -> None:
    """Prints both, and their difference: what this project costs before and after two batches of each split."""
    folder, rounds = Path(HydraConfig.get().runtime.output_dir), range(config.benchmark.rounds)
    seconds = [(cpu_seconds(*IMPORT), cpu_seconds(*TRAIN, f"hydra.run.dir={folder / f'start_{i}'}")) for i in rounds]
    imports, trains = (statistics.median(found) for found in zip(*seconds, strict=True))
    print(f"start: {imports:.2f} s of the processor import lightning.pytorch, {trains:.2f} s train with trainer=debug", end="")
    print(f" ({trains - imports:.2f} s more); medians of {len(seconds)} rounds; {processor()}")


def cpu_seconds(*words: str) -> float:
    """Seconds that the processor spends on Python with these words.

    Raises:
        RuntimeError: if it fails, with the end of what it printed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed: {(done.stdout + done.stderr)[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
