"""SimVQ (Zhu et al., 2024, https://arxiv.org/abs/2411.02038)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.checks import check_whole
from vaelab.conditional import NetworkFactory
from vaelab.distributions import Table
from vaelab.posteriors.quantizer import Quantizer, check_table


class SimVQ(Quantizer):
    """Codes e_k = W c_k of fixed c_k ~ N(0, I / D) and one learned matrix W, so that all codes move when one is used.

    W is trained by |sg(u) - z_q|^2, which `objective=vq` adds together with the commitment of the encoder.

    Args:
        network, in_shape, event_shape, num_classes, batch_norm: see `Quantizer`.
        num_codes: K.
        estimator: of the gradient; with "diveq" W learns from the decoder.

    Raises:
        ValueError: if there are fewer than two codes, or more than memory holds, or no such estimator.
    """

    frozen: Tensor  # c_k, (K, D)

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        num_classes: int = 0,
        num_codes: int = 512,
        estimator: str = "rotation",
        batch_norm: bool = False,
    ) -> None:
        super().__init__(network, in_shape, event_shape, num_classes, estimator, batch_norm)
        check_whole(2, num_codes=num_codes)
        dim = self.event_shape[0]
        check_table(num_codes, dim)
        self.register_buffer("frozen", torch.randn(num_codes, dim) * dim**-0.5)
        self.transform = nn.Linear(dim, dim, bias=False)
        self.needs_losses = estimator != "diveq"

    @property
    def codes(self) -> Table:
        with torch.autocast(self.frozen.device.type, enabled=False):  # half precision would make other codes than the stored ones
            return Table(self.transform(self.frozen))

    def losses(self, u: Float[Tensor, "..."], z_q: Float[Tensor, "..."]) -> dict[str, Tensor]:
        return self.distances(u, z_q) if self.needs_losses else {}
