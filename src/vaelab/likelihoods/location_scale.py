"""Families with a location and a scale, with three answers to the question what the scale is."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from vaelab.checks import check_positive
from vaelab.conditional import Conditional, NetworkFactory
from vaelab.distributions import constant, soft_limit


class LocationScale(Conditional):
    """p(x | z) = prod_i p(x_i; mu_i(z), s), where a family says what p is.

    Args:
        network, in_shape, event_shape, num_classes: see `Conditional`.
        scale: a number; "learned", one parameter shared by all of x; or "per_pixel", an output of the network for each of its values.
        min_scale: a floor for a scale that is not fixed: a value that never changes would otherwise drive a density to infinity.

    Raises:
        ValueError: if the scale is neither positive nor one of the two words, or its floor is not positive.
    """

    log_scale: Tensor

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        num_classes: int = 0,
        scale: float | str = "per_pixel",
        min_scale: float = 1e-3,
    ) -> None:
        if scale not in ("learned", "per_pixel") and not (isinstance(scale, float | int) and 0 < scale < float("inf")):
            raise ValueError(f"scale={scale} must be a positive number, learned or per_pixel")
        check_positive(min_scale=min_scale)
        self.num_params = 2 if scale == "per_pixel" else 1
        super().__init__(network, in_shape, event_shape, num_classes)
        self.scale, self.min_scale = scale, min_scale
        if scale == "learned":
            self.log_scale = nn.Parameter(torch.zeros(()))

    @abstractmethod
    def family(self, loc: Float[Tensor, "..."], scale: Float[Tensor, "..."]) -> Distribution:
        """The distribution of each value of x by itself."""

    def distribution(self, loc: Float[Tensor, "..."], log_scale: Float[Tensor, "..."] | None = None) -> Independent:
        if self.scale == "learned":
            log_scale = self.log_scale
        # a sum, not a clamp: the gradient survives at the floor
        scale = constant(self.scale, loc) if log_scale is None else soft_limit(log_scale).exp() + self.min_scale
        return Independent(self.family(loc, scale), self.event_ndim, validate_args=False)
