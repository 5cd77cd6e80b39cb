"""A distribution pushed through an invertible map (Rezende & Mohamed, 2015, https://arxiv.org/abs/1505.05770)."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, constraints


class FlowDistribution(Distribution):
    """z = f(z0) with z0 ~ base: log q(z) = log base(z0) - log |det df/dz0|, known along its own samples only.

    Args:
        base: over vectors (D,).
        push: z0 -> z, log |det|.
        event_shape: of z, with D numbers.
    """

    arg_constraints = {}
    has_rsample = True
    support = constraints.real_vector

    def __init__(
        self,
        base: Distribution,
        push: Callable[[Tensor], tuple[Tensor, Tensor]],
        event_shape: Sequence[int],
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(base.batch_shape, torch.Size(event_shape), validate_args=validate_args)
        self.base, self.push = base, push

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """Samples and their log-density."""
        z0 = self.base.rsample(torch.Size(sample_shape))
        z, ladj = self.push(z0)
        return z.unflatten(-1, self.event_shape), self.base.log_prob(z0) - ladj

    def rsample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "..."]:
        return self.rsample_and_log_prob(sample_shape)[0]

    @property
    def centre(self) -> Float[Tensor, "..."]:
        """The image of the base's mean."""
        return self.push(self.base.mean)[0].unflatten(-1, self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Unknown.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "a flow posterior knows its density along its own samples only, not at any z: use posterior=gaussian, or an objective and a"
            " prior that do not ask (objective=elbo objective.kl=k1, objective=iwae)"
        )
