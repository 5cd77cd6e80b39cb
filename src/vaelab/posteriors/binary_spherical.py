"""Binary spherical quantisation (Zhao et al., 2024, https://arxiv.org/abs/2406.07548)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.conditional import NetworkFactory
from vaelab.posteriors.bits import BitQuantizer


class BinarySpherical(BitQuantizer):
    """u = z_e / |z_e| is a point of the unit sphere, and codes are its 2^D corners with the numbers 1 / sqrt(D) and -1 / sqrt(D).

    The loss has tau times the entropy of `BitQuantizer`, as in the code of the authors, who call 1 / tau the inverse temperature: it is in
    the unit of the squared distances that p divides by tau, and its steepest slope is the same for all tau.

    Args:
        network, in_shape, event_shape, num_classes, estimator, batch_norm: see `Quantizer`. D bits make 2^D codes.
        entropy: "factorised", as in the paper, or "exact", over all codes.
        diversity: gamma, of the entropy of all choices together.
        temperature: tau, the authors' 1.

    Raises:
        ValueError: as `BitQuantizer`.
    """

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        num_classes: int = 0,
        estimator: str = "straight_through",
        batch_norm: bool = False,
        entropy: str = "factorised",
        diversity: float = 1.0,
        temperature: float = 1.0,
    ) -> None:
        radius = event_shape[0] ** -0.5
        super().__init__(network, in_shape, event_shape, num_classes, estimator, batch_norm, entropy, diversity, temperature, radius)

    def prepare(self, z_e: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return torch.nn.functional.normalize(super().prepare(z_e), dim=-self.event_ndim)

    def losses(self, u: Float[Tensor, "..."], z_q: Float[Tensor, "..."]) -> dict[str, Tensor]:
        return {name: self.temperature * value for name, value in super().losses(u, z_q).items()}
