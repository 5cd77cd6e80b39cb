"""What happens beside training."""

from vaelab.callbacks.collapse import PosteriorCollapse
from vaelab.callbacks.first_batch import FirstBatch
from vaelab.callbacks.last import LastCheckpoint
from vaelab.callbacks.pictures import Pictures, show_figures
from vaelab.callbacks.pruning import Pruned, Pruning
from vaelab.callbacks.throughput import Throughput

__all__ = ["FirstBatch", "LastCheckpoint", "Pictures", "PosteriorCollapse", "Pruned", "Pruning", "Throughput", "show_figures"]
