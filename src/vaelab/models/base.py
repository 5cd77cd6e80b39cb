"""The abstract base of all models."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelab.draw import Draw, Units
from vaelab.evidence import importance_weighted

Labels = Shaped[Tensor, "b ..."] | int | None  # one label for each sample, or one for all
Choose = Callable[[Distribution, Distribution | None], Tensor]  # z of p(z) and q(z | x)


class Model(nn.Module, ABC):
    """p(x, z) and q(z | x): data x, and latent variables z of one layer or several.

    >>> model.encode(x).mean.shape, model.decode(torch.zeros(3, 2)).mean.shape
    (torch.Size([5, 2]), torch.Size([3, 9]))

    Objectives, metrics and applications ask nothing else of a model. Of several latent variables, the z of `encode`, `decode` and `p_z`
    is the topmost. A label y is looked at only by a model with num_classes > 0.
    """

    prior: nn.Module  # (y) -> p(z)
    num_classes: int = 0  # how many classes y may name; 0: the model does not look at y
    recognises: bool = False  # whether a label of -1 stands for the class that the model takes x for
    missing: bool = False  # whether NaN in x is a missing value, which is not scored
    units: Units | None = None  # of the data, if x are scaled before they are shown to the model: densities are in these units

    @abstractmethod
    def forward(self, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None, num_samples: int = 1) -> Draw:
        """K = num_samples samples of all latent variables for each of B examples, and everything they are scored with."""

    @abstractmethod
    def encode(self, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None) -> Distribution:
        """q(z | x), batch shape (B,)."""

    @abstractmethod
    def decode(self, z: Float[Tensor, "..."], y: Shaped[Tensor, "b ..."] | None = None) -> Distribution:
        """p(x | z), batch shape the leading dimensions of z."""

    @abstractmethod
    def sample(self, num_samples: int, y: Labels = None, mean: bool = False) -> Float[Tensor, "b ..."]:
        """x ~ p(x | z) with z ~ p(z), (num_samples, *x_shape); with `mean`, E[x | z] instead, which is what papers show.

        `model.sample(8, 1)` draws eight of class 1.
        """

    @abstractmethod
    def reconstruct(self, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None) -> Float[Tensor, "b ..."]:
        """E[x | z] at the centre of q(z | x), (B, *x_shape)."""

    def p_z(self, y: Shaped[Tensor, "b ..."] | None = None) -> Distribution:
        """p(z), or p(z | y), batch shape (B,), if the prior depends on y."""
        return self.prior(y if self.num_classes else None)

    def log_likelihood(
        self, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None, num_samples: int = 1000, chunk_size: int | None = None
    ) -> Float[Tensor, "b"]:
        """The importance-weighted estimate of log p(x) in nats, (B,); see `vaelab.evidence.importance_weighted`."""
        return importance_weighted(self, x, y, num_samples, chunk_size).log_likelihood

    def labels(self, num_samples: int, y: Labels) -> Tensor | None:
        """The labels of so many samples, from one for all of them or one for each."""
        return torch.full((num_samples,), y, device=self.device) if isinstance(y, int) else y

    @property
    def device(self) -> torch.device:
        """The device of the parameters; the CPU if there are none."""
        return next(self.parameters(), torch.empty(0)).device
