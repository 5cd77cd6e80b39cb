"""What happens beside training."""

from vaelab.callbacks.first_batch import FirstBatch
from vaelab.callbacks.pictures import Pictures
from vaelab.callbacks.throughput import Throughput

__all__ = ["FirstBatch", "Pictures", "Throughput"]
