"""Values of several kinds, each with a family of its own, as the columns of a table (HI-VAE; Nazabal et al., 2018, 1807.03653)."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

Shape = Size | Sequence[int]
Part = tuple[Int[Tensor, "_"], Distribution]  # places of some columns among all, and p of them: batch shape (*batch, m)


class MixedSupport(constraints.Constraint):
    """Each value lies in the support of its own family.

    Args:
        p: distribution of the values.
    """

    def __init__(self, p: "Mixed") -> None:
        self.p = p
        self.supports: list[constraints.Constraint] = [part.support for _, part in p.parts]  # type: ignore[misc]
        self.is_discrete = all(support.is_discrete for support in self.supports)

    def check(self, value: Float[Tensor, "..."]) -> Bool[Tensor, "..."]:
        """True for each value that lies in the support of its family, in the shape of x."""
        return self.p.join([support.check(values) for support, values in zip(self.supports, self.p.split(value), strict=True)])

    def at(self, place: Sequence[int]) -> constraints.Constraint:
        """The support of the value at a place of x."""
        numbers = [torch.full(places.shape, number) for number, (places, _) in enumerate(self.p.parts)]
        return self.supports[int(self.p.join(numbers)[tuple(place)])]

    def __repr__(self) -> str:
        return "mixed columns"


class Mixed(Distribution):
    """p(x) = prod_j p_j(x_j): each of the D values of x by itself, with families in parts of columns.

    Its batch shape is (*batch, *shape), with an empty event, so that each value has a log-density of its own and `Independent` makes the
    product; `shape` holds the D values in row-major order.

    >>> real = torch.distributions.Normal(torch.zeros(2), 1.0)
    >>> yes_or_no = torch.distributions.Bernoulli(logits=torch.zeros(1))
    >>> p = Mixed([(torch.tensor([0, 2]), real), (torch.tensor([1]), yes_or_no)], (3,))
    >>> p.log_prob(torch.tensor([0.0, 1.0, 0.0])).exp()
    tensor([0.3989, 0.5000, 0.3989])

    Args:
        parts: places of the columns of each part, and the distribution of their values; together they have every column once.
        shape: of x.
        order: for each column, its place among those of all parts in their order; None: it is found.
    """

    arg_constraints: ClassVar = {}

    def __init__(
        self, parts: Sequence[Part], shape: Shape, order: Int[Tensor, "d"] | None = None, validate_args: bool | None = None
    ) -> None:
        self.parts, self.shape = list(parts), Size(shape)
        self.order = torch.cat([places for places, _ in parts]).argsort() if order is None else order
        super().__init__(self.parts[0][1].batch_shape[:-1] + self.shape, validate_args=validate_args)

    def split(self, value: Float[Tensor, "..."]) -> list[Float[Tensor, "..."]]:
        """The values of each part, (..., m), of x (..., *shape)."""
        flat = value.flatten(value.ndim - len(self.shape))
        return [flat.index_select(-1, places) for places, _ in self.parts]

    def join(self, values: Sequence[Tensor]) -> Tensor:
        """x (..., *shape) of the values of each part."""
        return torch.cat(list(values), -1).index_select(-1, self.order).unflatten(-1, self.shape)

    def of_parts(self, value: Callable[[Distribution], Tensor]) -> Tensor:
        """A number of each column, such as its mean."""
        return self.join([value(p) for _, p in self.parts])

    @property
    def has_rsample(self) -> bool:
        """True if the values of all columns are continuous."""
        return all(p.has_rsample for _, p in self.parts)

    @property
    def support(self) -> MixedSupport:
        return MixedSupport(self)

    @property
    def mean(self) -> Float[Tensor, "..."]:
        """E[x]; of the codes, where x are codes."""
        return self.of_parts(lambda p: p.mean)

    @property
    def mode(self) -> Float[Tensor, "..."]:
        return self.of_parts(lambda p: p.mode)

    @property
    def variance(self) -> Float[Tensor, "..."]:
        return self.of_parts(lambda p: p.variance)

    def expand(self, batch_shape: Shape, _instance: None = None) -> "Mixed":
        batch = Size(batch_shape)[: len(batch_shape) - len(self.shape)]
        parts = [(places, p.expand((*batch, p.batch_shape[-1]))) for places, p in self.parts]
        return Mixed(parts, self.shape, self.order, validate_args=False)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """log p_j(x_j) in nats, (*batch, *shape)."""
        return self.join([p.log_prob(values) for (_, p), values in zip(self.parts, self.split(value), strict=True)])

    @torch.no_grad()
    def sample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        return self.of_parts(lambda p: p.sample(Size(sample_shape)))

    def rsample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        """
        Raises:
            NotImplementedError: if a column is discrete, or 0 with a probability.
        """
        return self.of_parts(lambda p: p.rsample(Size(sample_shape)))
