"""A prior that is a normalising flow (Chen et al., 2017, https://arxiv.org/abs/1611.02731)."""

from collections.abc import Callable, Sequence
from math import prod

from jaxtyping import Shaped
from torch import Size, Tensor, get_default_dtype, nn
from torch.distributions import Distribution, TransformedDistribution
from torch.distributions.transforms import ReshapeTransform

from vaelab.conditional import check_labels


class Flow(nn.Module):
    """p(z) = N(f^-1(z); 0, I) |det df^-1/dz|; with num_classes, p(z | y), whose label enters every layer one-hot.

    Args:
        z_shape: of the latent variable.
        flow: flow(features=D, context=num_classes) -> module (context) -> Distribution; see `vaelab.flows`.
        num_classes: 0, or how many classes y may name.

    Raises:
        ValueError: if y is needed and missing, or names no class.
    """

    def __init__(self, z_shape: Sequence[int], flow: Callable[..., nn.Module], num_classes: int = 0) -> None:
        super().__init__()
        self.z_shape, self.num_classes = tuple(z_shape), num_classes
        self.flow = flow(features=prod(z_shape), context=num_classes)

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> Distribution:
        context = None
        if self.num_classes:
            label = check_labels(type(self).__name__, y, self.num_classes)
            context = nn.functional.one_hot(label, self.num_classes).to(get_default_dtype())
        p = self.flow(context)
        if len(self.z_shape) == 1:
            return p
        return TransformedDistribution(p, ReshapeTransform(Size([prod(self.z_shape)]), Size(self.z_shape)), validate_args=False)
