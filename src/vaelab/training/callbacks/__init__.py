"""Callbacks: things that happen beside training."""

from vaelab.training.callbacks.best import BestCheckpoint
from vaelab.training.callbacks.code_usage import CodeUsage
from vaelab.training.callbacks.collapse import PosteriorCollapse
from vaelab.training.callbacks.ema import EMA
from vaelab.training.callbacks.epochs import EpochLines
from vaelab.training.callbacks.first_batch import FirstBatch
from vaelab.training.callbacks.last import LastCheckpoint
from vaelab.training.callbacks.mean_output import MeanOutput
from vaelab.training.callbacks.pictures import Pictures
from vaelab.training.callbacks.progress import ProgressBar
from vaelab.training.callbacks.skip_updates import SkipUpdates
from vaelab.training.callbacks.throughput import Throughput

__all__ = [
    "EMA",
    "BestCheckpoint",
    "CodeUsage",
    "EpochLines",
    "FirstBatch",
    "LastCheckpoint",
    "MeanOutput",
    "Pictures",
    "PosteriorCollapse",
    "ProgressBar",
    "SkipUpdates",
    "Throughput",
]
