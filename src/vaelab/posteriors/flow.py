"""Posteriors that are normalising flows (Rezende & Mohamed, 2015, https://arxiv.org/abs/1505.05770)."""

from collections.abc import Callable, Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from vaelab.conditional import Conditional, NetworkFactory
from vaelab.distributions import FlowDistribution, soft_limit

Convolution, Transposed = nn.Conv1d | nn.Conv2d, nn.ConvTranspose1d | nn.ConvTranspose2d
FIRST_CONTEXT = 0.1  # how much smaller the weights of the context start than the network makes them


class Flow(Conditional):
    """q(z | x): z0 ~ N(mu(x), diag sigma(x)^2), z = f(z0; context(x)).

    Args:
        network, in_shape, event_shape, num_classes: see `Conditional`. The network gives mu, log sigma, see
            `vaelab.distributions.soft_limit`, and the context, whose weights in the last layer start ten times
            smaller than it makes them, so that f is nearly the identity.
        flow: flow(features=D), one of `vaelab.flows`.
    """

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        flow: Callable[..., nn.Module],
        num_classes: int = 0,
    ) -> None:
        features = prod(event_shape)
        built = flow(features=features)
        self.num_context: int = built.num_context  # type: ignore[assignment]
        self.num_params = 2 + -(-self.num_context // features)
        super().__init__(network, in_shape, event_shape, num_classes)
        self.flow = built
        outputs = [layer for layer in self.network.modules() if isinstance(layer, nn.Linear | Convolution | Transposed)]
        if outputs:
            weight = outputs[-1].weight.transpose(0, 1) if isinstance(outputs[-1], Transposed) else outputs[-1].weight
            with torch.no_grad():
                # f is nearly the identity when training starts; mu and log sigma start as in other posteriors, or z tells little of x
                # at first, and a planar flow is 3 nats behind the plain Gaussian after an epoch, and .4 after 20
                weight[2 * (len(weight) // self.num_params) :].mul_(FIRST_CONTEXT)

    def distribution(self, loc: Float[Tensor, "..."], log_scale: Float[Tensor, "..."], *context: Float[Tensor, "..."]) -> FlowDistribution:
        batch_ndim = loc.ndim - self.event_ndim
        event_shape = loc.shape[batch_ndim:]
        numbers = torch.stack(context, dim=batch_ndim).flatten(batch_ndim)[..., : self.num_context]
        base = Independent(
            Normal(loc.flatten(batch_ndim), soft_limit(log_scale).flatten(batch_ndim).exp(), validate_args=False), 1, validate_args=False
        )

        def push(z0: Tensor) -> tuple[Tensor, Tensor]:
            with torch.autocast(z0.device.type, enabled=False):  # the flow is part of a probability, which never leaves float32
                return self.flow(z0, numbers)

        return FlowDistribution(base, push, event_shape, validate_args=False)
