"""Supports that torch.distributions lacks."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions.constraints import Constraint


class Grid(Constraint):
    """{0, 1/(n-1), ..., 1}: the n = num_bins grey levels of a picture. 8-bit pixels divided by 255 have 256.

    Raises:
        ValueError: if there are fewer than two levels.
    """

    is_discrete = True

    def __init__(self, num_bins: int = 256) -> None:
        if num_bins < 2:
            raise ValueError(f"num_bins={num_bins} must be at least 2: it is the number of values that a pixel can have")
        self.num_bins = num_bins

    def check(self, value: Float[Tensor, "..."]) -> Bool[Tensor, "..."]:
        """True for values within a hundredth of a level, because k / 255 is rounded."""
        level = value * (self.num_bins - 1)
        return (value >= 0) & (value <= 1) & ((level - level.round()).abs() < 0.01)

    def level(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The index of a value among the levels 0, 1, ..., n - 1."""
        return (value * (self.num_bins - 1)).round()

    def value(self, level: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The value of level 0, 1, ..., n - 1."""
        return level / (self.num_bins - 1)

    def values(self, like: Tensor) -> Float[Tensor, "n"]:
        """All of them, in the precision and on the device of `like`."""
        return self.value(torch.arange(self.num_bins, dtype=like.dtype, device=like.device))

    def __repr__(self) -> str:
        return f"{{0, 1/{self.num_bins - 1}, ..., 1}}"


class _OpenUnitInterval(Constraint):
    """(0, 1), without its ends."""

    def check(self, value: Float[Tensor, "..."]) -> Bool[Tensor, "..."]:
        return (value > 0) & (value < 1)

    def __repr__(self) -> str:
        return "(0, 1)"


open_unit_interval = _OpenUnitInterval()
