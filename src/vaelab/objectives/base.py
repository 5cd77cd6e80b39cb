"""What an objective is."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from vaelab.draw import Draw


class Objective(nn.Module, ABC):
    """A function of a `Draw` that training minimises. Parameters that it owns are trained along."""

    num_samples: int = 1  # how many samples of z the draw must have

    @abstractmethod
    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        """The loss under "loss", and terms worth logging: scalars, in nats per example."""
