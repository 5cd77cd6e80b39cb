"""Finite scalar quantisation (Mentzer et al., 2024, https://arxiv.org/abs/2309.15505)."""

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.checks import check_whole, listed
from vaelab.conditional import NetworkFactory
from vaelab.distributions import Lattice
from vaelab.posteriors.quantizer import Quantizer

# appendix A.4.1: levels for about as many codes as a codebook of this size has
LEVELS = {
    2**4: (5, 3),
    2**6: (8, 8),
    2**8: (8, 6, 5),
    2**9: (8, 8, 8),
    2**10: (8, 5, 5, 5),
    2**11: (8, 8, 6, 5),
    2**12: (7, 5, 5, 5, 5),
    2**14: (8, 8, 8, 6, 5),
    2**16: (8, 8, 8, 5, 5, 5),
}
MARGIN = 1e-3  # by which the outermost levels can be reached


class FSQ(Quantizer):
    """Each of the D numbers of a vector is bounded and rounded to one of L_d levels: K = prod_d L_d codes, and no loss of their own.

        u_d = (tanh(z_d + s_d) (L_d - 1) (1 + 0.001) / 2 - o_d) / h_d,  h_d = floor(L_d / 2),  o_d = 1/2 if L_d is even, else 0,

    where the shift s_d makes u_d = 0 at z_d = 0; the codes have the numbers -1, ..., at steps of 1 / h_d.

    Args:
        network, in_shape, event_shape, num_classes, estimator, batch_norm: see `Quantizer`.
        levels: L_d, or 2^b as a name for the levels of the paper, which have about so many codes (256: [8, 6, 5], which are 240).

    Raises:
        ValueError: if there is no such size, a level is below 2, there are 2^62 codes or more, or D is another number.
    """

    centre: Tensor
    step: Tensor
    sizes: Tensor  # L_d as floats

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        num_classes: int = 0,
        levels: int | Sequence[int] = 256,
        estimator: str = "straight_through",
        batch_norm: bool = False,
    ) -> None:
        super().__init__(network, in_shape, event_shape, num_classes, estimator, batch_norm)
        if isinstance(levels, int) and levels not in LEVELS:
            raise ValueError(f"levels={levels} is no size of the paper: choose {listed(LEVELS)}, or a list as [8, 6, 5]")
        self.levels = LEVELS[levels] if isinstance(levels, int) else tuple(levels)
        check_whole(2, levels=self.levels)
        if len(self.levels) != self.event_shape[0]:
            raise ValueError(
                f"levels={list(self.levels)} are of {len(self.levels)} numbers, but z_shape={list(self.event_shape)} has"
                f" {self.event_shape[0]} at each place: set z_shape={[len(self.levels), *self.event_shape[1:]]}, or a level for each number"
            )
        if prod(self.levels) >= 2**62:
            raise ValueError(f"levels={list(self.levels)} make {prod(self.levels):.3g} codes, and indices end at 2^62: set fewer levels")
        sizes = torch.tensor(self.levels, dtype=torch.get_default_dtype())
        self.register_buffer("sizes", sizes, persistent=False)
        self.register_buffer("centre", torch.floor(sizes / 2), persistent=False)
        self.register_buffer("step", 1 / torch.floor(sizes / 2), persistent=False)

    @property
    def codes(self) -> Lattice:
        return Lattice(self.levels, self.centre, self.step)

    @property
    def residual_scale(self) -> Tensor:
        return 1 / self.sizes

    def encode_residuals(self) -> None:
        self.centre = (self.sizes - 1) / 2

    def prepare(self, z_e: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        reach, offset = (self.sizes - 1) * (1 + MARGIN) / 2, (self.sizes % 2 == 0) / 2
        z = super().prepare(z_e).movedim(-self.event_ndim, -1)
        u = (torch.tanh(z + torch.atanh(offset / reach)) * reach - offset) * self.step
        return u.movedim(-1, -self.event_ndim)
