"""Lookup-free quantisation (Yu et al., 2024, https://arxiv.org/abs/2310.05737)."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from vaelab.conditional import NetworkFactory
from vaelab.posteriors.bits import BitQuantizer


class LookupFree(BitQuantizer):
    """Codes are the signs of the D numbers of a vector, each 1 or -1; the loss has a commitment and the entropies of `BitQuantizer`.

    Args:
        network, in_shape, event_shape, num_classes, estimator, batch_norm: see `Quantizer`. D bits make 2^D codes.
        entropy: "exact", over all codes, or "factorised".
        diversity: gamma, of the entropy of all choices together.
        temperature: tau, the authors' 0.01.

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
        entropy: str = "exact",
        diversity: float = 1.0,
        temperature: float = 0.01,
    ) -> None:
        super().__init__(network, in_shape, event_shape, num_classes, estimator, batch_norm, entropy, diversity, temperature, radius=1.0)

    def losses(self, u: Float[Tensor, "..."], z_q: Float[Tensor, "..."]) -> dict[str, Tensor]:
        return self.distances(u, z_q) | super().losses(u, z_q)
