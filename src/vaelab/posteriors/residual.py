"""Residual quantisation (Zeghidour et al., 2021, https://arxiv.org/abs/2107.03312; Lee et al., 2022, https://arxiv.org/abs/2203.01941)."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.checks import check_all, check_whole
from vaelab.conditional import NetworkFactory
from vaelab.distributions import Quantized, Sums, VectorCodebook
from vaelab.posteriors.quantizer import Quantizer, sum_by_name
from vaelab.posteriors.vector_quantized import VectorQuantized


class Residual(Quantizer):
    """z_q = s_1 e_(k_1) + ... + s_T e_(k_T), where each of T quantisers encodes what those before it left over of z_e.

        r_0 = prepare(z_e),  s_t e_(k_t) = s_t quantize(r_(t-1) / s_t),  r_t = r_(t-1) - s_t e_(k_t).

    A place has T indices, coarse to fine: the grid of indices is (*space, T). s_t = s^(t-1), where s is 1 for codes that learn where to
    lie, 1/2 for bits, and 1 / L_d for L_d levels. The gradient is that of the composition; straight through, it is the identity. Losses are
    sums of those of all quantisers: the commitment is sum_t |z - sg(s_1 e_(k_1) + ... + s_t e_(k_t))|^2 (Lee et al.).

    Args:
        network, in_shape, event_shape, num_classes: see `Quantizer`.
        quantizer: a factory of quantisers; each has its own estimator.
        depth: T.
        dropout: the share of the training examples for which z is the sum of the first codes only, 1 to T of them with equal probability
            (Kumar et al., 2023, https://arxiv.org/abs/2306.06546). Rate and losses remain those of all codes.

    Raises:
        ValueError: if depth is below 1, the share not in [0, 1], or the factory makes none that chooses one code.
    """

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        num_classes: int = 0,
        quantizer: Callable[..., Quantizer] = VectorQuantized,
        depth: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(network, in_shape, event_shape, num_classes)
        check_whole(1, depth=depth)
        check_all(lambda share: 0 <= share <= 1, "in [0, 1]", {"dropout": dropout})
        shape = self.event_shape
        made = [quantizer(network=as_given, in_shape=shape, event_shape=shape, num_classes=0) for _ in range(depth)]
        if not (isinstance(made[0], Quantizer) and isinstance(made[0].codes, VectorCodebook) and made[0].codes.depth is None):
            raise ValueError(
                f"quantizer={type(made[0]).__name__} does not choose one code: set posterior@posterior.quantizer=vector_quantized, fsq,"
                " lookup_free, binary_spherical or simvq"
            )
        for part in made[1:]:
            part.encode_residuals()
        self.quantizers: Sequence[Quantizer] = nn.ModuleList(made)  # type: ignore[assignment]  # it is a sequence of what it was given
        self.dropout = dropout
        self.needs_losses = made[0].needs_losses

    def parts(self) -> list[tuple[Quantizer, Tensor | float]]:
        """The quantisers with their scales s_t."""
        return [(part, part.residual_scale**t) for t, part in enumerate(self.quantizers)]

    @property
    def codes(self) -> Sums:
        return Sums([part.codes for part, _ in self.parts()], [scale for _, scale in self.parts()])

    def prepare(self, z_e: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self.quantizers[0].prepare(z_e)

    def quantize(self, u: Float[Tensor, "..."]) -> Quantized:
        rest, terms, found, given = u, list[Tensor](), list[Quantized](), list[Tensor]()
        for part, size in self.parts():
            scale = size.to(u).reshape(-1, *[1] * (self.event_ndim - 1)) if isinstance(size, Tensor) else size
            found.append(part.quantize(rest / scale))
            # straight through, `rest` has no gradient: that of the codes before cancels that of u
            given.append((rest.detach() + (u - u.detach())) / scale)
            terms.append(found[-1].rsample() * scale)
            rest = rest - terms[-1]
        shortened = self.dropout > 0 and self.training
        terms = self.first_of(terms, u) if shortened else terms
        total, indices = sum(terms[1:], terms[0]), torch.stack([q.indices for q in found], -1)

        def losses() -> dict[str, Tensor]:
            parts = zip(self.parts(), given, found, strict=True)
            return sum_by_name(in_units_of_z(part.losses(each, q.z_q), size) for (part, size), each, q in parts)

        z_q = total.detach() if shortened else None
        return Quantized(u, self.codes, self.event_ndim, indices, z_q, total, losses, self.needs_losses, validate_args=False)

    def first_of(self, terms: list[Tensor], u: Float[Tensor, "..."]) -> list[Tensor]:
        """The terms, of which zeros take the place of the last for some of the examples."""
        batch = u.shape[: u.ndim - self.event_ndim]
        num = torch.randint(1, len(terms) + 1, batch, device=u.device)
        num = torch.where(torch.rand(batch, device=u.device) < self.dropout, num, len(terms))
        return [term * (i < num).reshape(*batch, *[1] * self.event_ndim) for i, term in enumerate(terms)]


def in_units_of_z(losses: dict[str, Tensor], scale: Tensor | float) -> dict[str, Tensor]:
    """Terms of codes of another scale, of which squared distances are in the units of z."""
    return {name: value * scale**2 if name in ("codebook", "commitment") else value for name, value in losses.items()}


def as_given(in_shape: Sequence[int], out_shape: Sequence[int]) -> nn.Module:
    """No network: its input is what is quantised."""
    return nn.Unflatten(0, (-1, 1))
