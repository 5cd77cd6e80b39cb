"""Distributions over codes of a codebook (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937)."""

from collections.abc import Callable, Sequence
from math import log
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Size, Tensor
from torch.distributions import Distribution, constraints, register_kl

from vaelab.distributions.codebooks import Codebook, digits_of, number_of
from vaelab.distributions.estimators import straight_through

Shape = Size | tuple[int, ...]


class Codes(constraints.Constraint):
    """Codes of a codebook at each place of the space of z."""

    is_discrete = True

    def __init__(self, codebook: Codebook, event_ndim: int) -> None:
        self.codebook, self.event_dim = codebook, event_ndim

    def check(self, value: Float[Tensor, "..."]) -> Bool[Tensor, "..."]:
        space_ndim = self.event_dim - 1
        found = self.codebook.embed(self.codebook.indices_of(value, space_ndim), space_ndim)
        return (found == value).flatten(-self.event_dim).all(-1)

    def __repr__(self) -> str:
        return str(self.codebook)


class Quantized(Distribution):
    """q(z) = 1 where z is z_q, the codes that stand for z_e. A sample is z_q; its gradient is that of an estimator.

    Args:
        z_e: (*batch, D, *space).
        codebook: of vectors of D numbers.
        event_ndim: how many dimensions (D, *space) has.
        indices: of the codes; None: those nearest to z_e.
        z_q: None: the codes with these indices.
        stand_in: what a sample has the gradient of, in the shape of z_e; None: z_e itself (straight-through).
        losses: terms that train quantiser and encoder, computed when an objective asks for them; None: there are none.
        needs_losses: whether codes that are trained have no gradient but that of these terms.
    """

    arg_constraints: ClassVar = {"z_e": constraints.real}
    has_rsample = True

    def __init__(
        self,
        z_e: Float[Tensor, "..."],
        codebook: Codebook,
        event_ndim: int,
        indices: Int[Tensor, "..."] | None = None,
        z_q: Float[Tensor, "..."] | None = None,
        stand_in: Float[Tensor, "..."] | None = None,
        losses: Callable[[], dict[str, Tensor]] | None = None,
        needs_losses: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        self.z_e, self.codebook = z_e, codebook
        self.indices = codebook.indices_of(z_e, event_ndim - 1) if indices is None else indices
        self.z_q = codebook.embed(self.indices, event_ndim - 1) if z_q is None else z_q
        self.stand_in = straight_through(z_e, self.z_q, -event_ndim) if stand_in is None else stand_in
        self.losses, self.needs_losses = losses or dict[str, Tensor], needs_losses and codebook.like.requires_grad
        batch_ndim = z_e.ndim - event_ndim
        super().__init__(z_e.shape[:batch_ndim], z_e.shape[batch_ndim:], validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return Codes(self.codebook, len(self.event_shape))

    @property
    def mean(self) -> Float[Tensor, "..."]:
        return self.z_q

    @property
    def mode(self) -> Float[Tensor, "..."]:
        return self.z_q

    @property
    def variance(self) -> Float[Tensor, "..."]:
        return torch.zeros_like(self.z_q)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """0, and minus infinity for any z but z_q."""
        others = (value != self.z_q).flatten(-len(self.event_shape)).any(-1)
        return torch.zeros(others.shape, dtype=value.dtype, device=value.device).masked_fill(others, -torch.inf)

    def rsample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        z = self.z_q.detach() + (self.stand_in - self.stand_in.detach())  # the bracket is exactly zero, so that z is z_q to the last bit
        return z.expand(*sample_shape, *z.shape)


class UniformIndices(Distribution):
    """p(k) = prod_i K_i^-1 for grids k of indices k_i below K_i.

    Args:
        counts: pairs (n, K) for n indices below K each, in row-major order.
        like: a tensor with the dtype of probabilities, on the device of the indices.
        space: the shape of the grid.
    """

    arg_constraints: ClassVar = {}
    support = constraints.nonnegative_integer

    def __init__(
        self,
        counts: Sequence[tuple[int, int]],
        like: Tensor,
        space: Shape,
        batch_shape: Shape = (),
        validate_args: bool | None = None,
    ) -> None:
        self.counts, self.like = counts, like
        super().__init__(Size(batch_shape), Size(space), validate_args=validate_args)

    def expand(self, batch_shape: Shape, _instance: None = None) -> "UniformIndices":
        return UniformIndices(self.counts, self.like, self.event_shape, batch_shape, validate_args=False)

    def log_prob(self, value: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        shape = torch.broadcast_shapes(value.shape, self._extended_shape())
        return self.like.new_full(shape[: len(shape) - len(self.event_shape)], -sum(num * log(limit) for num, limit in self.counts))

    def sample(self, sample_shape: Shape = ()) -> Int[Tensor, "..."]:
        shape = self._extended_shape(Size(sample_shape))
        batch = shape[: len(shape) - len(self.event_shape)]
        return torch.cat([torch.randint(limit, (*batch, num), device=self.like.device) for num, limit in self.counts], -1).reshape(shape)


class Digits(Distribution):
    """p(k) = p(digits of k) for grids k of whole numbers.

    Args:
        digits: the distribution of grids of digits, with event shape (*space, D).
        radices: of the D digits, the lowest first.
    """

    arg_constraints: ClassVar = {}
    support = constraints.nonnegative_integer

    def __init__(self, digits: Distribution, radices: Sequence[int], validate_args: bool | None = None) -> None:
        self.digits, self.radices = digits, tuple(radices)
        super().__init__(digits.batch_shape, digits.event_shape[:-1], validate_args=validate_args)

    def expand(self, batch_shape: Shape, _instance: None = None) -> "Digits":
        return Digits(self.digits.expand(Size(batch_shape)), self.radices, validate_args=False)

    def log_prob(self, value: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self.digits.log_prob(digits_of(value, self.radices))

    @torch.no_grad()
    def sample(self, sample_shape: Shape = ()) -> Int[Tensor, "..."]:
        return number_of(self.digits.sample(Size(sample_shape)), self.radices)


class Embedded(Distribution):
    """p(z) = p(k) for the grid of indices k whose codes z is made of.

    Args:
        indices: the distribution over grids of indices.
        codebook: whose codes they are.
    """

    arg_constraints: ClassVar = {}

    def __init__(self, indices: Distribution, codebook: Codebook, validate_args: bool | None = None) -> None:
        self.indices, self.codebook = indices, codebook
        event = codebook.event_shape(indices.event_shape)
        self.space_ndim = len(event) - 1
        super().__init__(indices.batch_shape, Size(event), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return Codes(self.codebook, self.space_ndim + 1)

    def expand(self, batch_shape: Shape, _instance: None = None) -> "Embedded":
        return Embedded(self.indices.expand(Size(batch_shape)), self.codebook, validate_args=False)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """log p of the codes nearest to z."""
        return self.indices.log_prob(self.codebook.indices_of(value, self.space_ndim))

    @torch.no_grad()
    def sample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        return self.codebook.embed(self.indices.sample(Size(sample_shape)), self.space_ndim)


def kl_quantized_embedded(q: Quantized, p: Embedded) -> Float[Tensor, "..."]:
    """KL(q || p) = -log p(k) for the indices k of z_q."""
    return -p.indices.log_prob(q.indices)


register_kl(Quantized, Embedded)(kl_quantized_embedded)
