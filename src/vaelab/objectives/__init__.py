"""From a `Draw` to a loss and its named terms."""

from vaelab.objectives.base import Objective
from vaelab.objectives.elbo import ELBO

__all__ = ["ELBO", "Objective"]
