"""What happens beside training."""

from vaelab.callbacks.collapse import PosteriorCollapse
from vaelab.callbacks.first_batch import FirstBatch
from vaelab.callbacks.pictures import Pictures, show_figures
from vaelab.callbacks.throughput import Throughput

__all__ = ["FirstBatch", "Pictures", "PosteriorCollapse", "Throughput", "show_figures"]
