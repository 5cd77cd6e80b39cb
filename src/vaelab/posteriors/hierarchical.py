"""Two maps of codes, one above the other (VQ-VAE-2; Razavi et al., 2019, https://arxiv.org/abs/1906.00446)."""

from collections.abc import Callable, Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.checks import check_whole
from vaelab.conditional import NetworkFactory
from vaelab.distributions import Quantized, TwoMaps, halved
from vaelab.posteriors.quantizer import Quantizer, sum_by_name
from vaelab.posteriors.vector_quantized import VectorQuantized


class Hierarchical(Quantizer):
    """z is a map of codes, the bottom, below one of half of its sides, the top, whose codes the bottom's are chosen in view of:

        f = network(x),  z_top = quantize(down(f)),  z_bottom = quantize(W [f, up(z_top)] + b), with W at each place.

    The first D_top of the D numbers at a place are those of the top code above it, which stands at 2 x 2 places; the others are of the
    bottom. The indices are a row, those of the top first. Losses are sums of those of both.

    >>> posterior = Hierarchical(partial(MLP, hidden=[16]), (9,), (8, 7, 7), down=partial(MLP, hidden=[]), up=partial(MLP, hidden=[]))
    >>> q = posterior(torch.rand(5, 9))
    >>> q.indices.shape, {name: grid.shape for name, grid in q.codebook.split(q.indices).items()}
    (torch.Size([5, 65]), {'top': torch.Size([5, 4, 4]), 'bottom': torch.Size([5, 7, 7])})

    Args:
        network: from x to f, which has the places of the bottom.
        in_shape, num_classes: see `Quantizer`.
        event_shape: (D, *space), with the space of the bottom; the top has half of each side, rounded up.
        down, up: factories of networks, from f to the numbers of the top, and from its codes to the shape of f.
        top, bottom: factories of quantisers.
        top_dim: D_top; None: half of D.
        channels: of f.

    Raises:
        ValueError: if z has no places, D_top is not in [1, D - 1], channels is below 1, or a factory makes no quantiser.
    """

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        num_classes: int = 0,
        *,
        down: NetworkFactory,
        up: NetworkFactory,
        top: Callable[..., Quantizer] = VectorQuantized,
        bottom: Callable[..., Quantizer] = VectorQuantized,
        top_dim: int | None = None,
        channels: int = 64,
    ) -> None:
        check_whole(1, channels=channels)
        dim, *space = event_shape
        if not space:
            raise ValueError(
                f"z_shape=[{dim}] has no places for two maps of codes: set z_shape=[D,h,w], as encoder=resnet decoder=resnet have it"
            )
        above, features = dim // 2 if top_dim is None else top_dim, (channels, *space)
        if not 0 < above < dim:
            raise ValueError(
                f"top_dim={above} of the {dim} numbers at each place of z_shape={list(event_shape)} are those of the top: set top_dim and"
                " z_shape so that both maps have at least one"
            )
        super().__init__(network, in_shape, features, num_classes)
        self.event_shape, upper = tuple(event_shape), (above, *halved(space))
        self.top = top(network=down, in_shape=features, event_shape=upper, num_classes=0)
        self.up = up(in_shape=upper, out_shape=features)
        self.bottom = bottom(network=PerPlace, in_shape=(2 * channels, *space), event_shape=(dim - above, *space), num_classes=0)
        for name, part in (("top", self.top), ("bottom", self.bottom)):
            if not isinstance(part, Quantizer):
                raise ValueError(f"{name}={type(part).__name__} chooses no codes: set posterior@posterior.{name}=vector_quantized, or fsq")
        self.needs_losses = self.top.needs_losses or self.bottom.needs_losses

    @property
    def codes(self) -> TwoMaps:
        return TwoMaps(self.top.codes, self.bottom.codes, self.event_shape[1:])

    def prepare(self, z_e: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return z_e

    def quantize(self, u: Float[Tensor, "..."]) -> Quantized:
        top = self.top(u)
        z_top = top.rsample()
        decoded = self.run(self.up, z_top.reshape(-1, *top.event_shape)).reshape(u.shape)
        bottom = self.bottom(torch.cat([u, decoded], -self.event_ndim))
        codes = self.codes
        z, z_q = codes.stacked(z_top, bottom.rsample()), codes.stacked(top.z_q, bottom.z_q)
        indices, needs_losses = codes.join(top.indices, bottom.indices), top.needs_losses or bottom.needs_losses

        def losses() -> dict[str, Tensor]:
            return sum_by_name(q.losses() for q in (top, bottom))

        return Quantized(z, codes, self.event_ndim, indices, z_q, z, losses, needs_losses, validate_args=False)


class PerPlace(nn.Module):
    """One linear layer at each place: (B, C, *space) -> (B, P, D, *space)."""

    def __init__(self, in_shape: Sequence[int], out_shape: Sequence[int]) -> None:
        super().__init__()
        self.leading = tuple(out_shape[:2])
        self.linear = nn.Linear(in_shape[0], prod(self.leading))

    def forward(self, x: Float[Tensor, "b c ..."]) -> Float[Tensor, "b p d ..."]:
        return self.linear(x.movedim(1, -1)).movedim(-1, 1).unflatten(1, self.leading)
