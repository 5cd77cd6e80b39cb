"""The Beta distribution on the open interval: at 0 and 1 its density is 0 or infinite."""

import torch
from jaxtyping import Float
from torch import Size, Tensor, distributions

from vaelab.distributions.supports import open_unit_interval


class Beta(distributions.Beta):
    """p(x) = x^(a-1) (1-x)^(b-1) / B(a, b) for x in (0, 1). Samples that rounding puts on an end are moved to the next number inside."""

    support = open_unit_interval  # type: ignore[assignment]

    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        limits = torch.finfo(self.concentration1.dtype)
        return super().rsample(torch.Size(sample_shape)).clamp(limits.tiny, 1 - limits.eps / 2)
