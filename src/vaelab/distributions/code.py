"""Codes of a codebook (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937).

A codebook holds K vectors e_k of D numbers, as (K, D, 1, ..., 1): it has as many dimensions after the first as the event z, which is of
shape (D, *space) and has one code at each place of its space. Which codes they are is a grid of indices, (*space).
"""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

Shape = Size | tuple[int, ...]


@torch.no_grad()
def nearest_codes(vectors: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"], max_numbers: int = 2**24) -> Int[Tensor, "n"]:
    """argmin_k |v - e_k|^2 = argmin_k (|e_k|^2 / 2 - v e_k), for max_numbers of the n k products at a time."""
    with torch.autocast(vectors.device.type, enabled=False):  # half precision would choose another code
        half_norms = codebook.square().sum(-1) / 2
        chunks = vectors.split(max(max_numbers // len(codebook), 1))
        return torch.cat([torch.addmm(half_norms, chunk, codebook.T, alpha=-1).argmin(-1) for chunk in chunks])


def indices_of(z: Float[Tensor, "..."], codebook: Float[Tensor, "k d ..."]) -> Int[Tensor, "..."]:
    """(*batch, D, *space) -> (*batch, *space): which code is nearest at each place."""
    vectors = z.movedim(1 - codebook.ndim, -1)
    return nearest_codes(vectors.reshape(-1, codebook.shape[1]), codebook.flatten(1)).reshape(vectors.shape[:-1])


def embed(indices: Int[Tensor, "..."], codebook: Float[Tensor, "k d ..."]) -> Float[Tensor, "..."]:
    """(*batch, *space) -> (*batch, D, *space): the codes with these indices."""
    return torch.nn.functional.embedding(indices, codebook.flatten(1)).movedim(-1, 1 - codebook.ndim)


class Codes(constraints.Constraint):
    """{e_1, ..., e_K} at each place of the space of z."""

    is_discrete = True

    def __init__(self, codebook: Float[Tensor, "k d ..."]) -> None:
        self.codebook, self.event_dim = codebook, codebook.ndim - 1

    def check(self, value: Float[Tensor, "..."]) -> Bool[Tensor, "..."]:
        return (embed(indices_of(value, self.codebook), self.codebook) == value).flatten(-self.event_dim).all(-1)

    def __repr__(self) -> str:
        return f"the {len(self.codebook)} codes of a codebook"


class NearestCode(Distribution):
    """q(z) = 1 where z is z_q, at each place the code nearest to z_e. Backwards, a sample is z_e: d z / d z_e = I (straight-through).

    Args:
        z_e: (*batch, D, *space).
        codebook: (K, D, 1, ..., 1), with as many dimensions as one event and the first. `z_q` has a gradient for it, samples do not.
    """

    arg_constraints: ClassVar = {"z_e": constraints.real, "codebook": constraints.real}
    has_rsample = True

    def __init__(self, z_e: Float[Tensor, "..."], codebook: Float[Tensor, "k d ..."], validate_args: bool | None = None) -> None:
        self.z_e, self.codebook, self.num_codes = z_e, codebook, len(codebook)
        self.indices = indices_of(z_e, codebook)
        self.z_q = embed(self.indices, codebook)
        batch_ndim = z_e.ndim - (codebook.ndim - 1)
        super().__init__(z_e.shape[:batch_ndim], z_e.shape[batch_ndim:], validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return Codes(self.codebook)

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
        z = self.z_q.detach() + (self.z_e - self.z_e.detach())  # the bracket is exactly zero, so that z is z_q to the last bit
        return z.expand(*sample_shape, *z.shape)


class Embedded(Distribution):
    """p(z) = p(k) for the grid of indices k whose codes z is made of.

    Args:
        indices: the distribution over grids of indices, with event shape (*space).
        codebook: (K, D, 1, ..., 1), with as many dimensions as one z and the first.
    """

    arg_constraints: ClassVar = {}

    def __init__(self, indices: Distribution, codebook: Float[Tensor, "k d ..."], validate_args: bool | None = None) -> None:
        assert len(indices.event_shape) == codebook.ndim - 2
        self.indices, self.codebook = indices, codebook.detach()
        super().__init__(indices.batch_shape, codebook.shape[1:2] + indices.event_shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return Codes(self.codebook)

    def expand(self, batch_shape: Shape, _instance: None = None) -> "Embedded":
        return Embedded(self.indices.expand(Size(batch_shape)), self.codebook, validate_args=False)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """log p of the codes nearest to z."""
        return self.indices.log_prob(indices_of(value, self.codebook))

    @torch.no_grad()
    def sample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        return embed(self.indices.sample(Size(sample_shape)), self.codebook)
