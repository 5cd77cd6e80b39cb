"""Networks that become distributions. No other module knows both."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn
from torch.distributions import Distribution

NetworkFactory = Callable[..., nn.Module]  # network(in_shape=..., out_shape=...)


class Conditional(nn.Module, ABC):
    """A distribution over an event, given an input: q(z | x) if it encodes, p(x | z) if it decodes.

    A family is a number, `num_params`, and one method, `distribution`, which takes so many parameters by names of its own:

        class Laplacian(Conditional):
            num_params = 2  # of the network, for each value of the event

            def distribution(self, loc: Tensor, log_scale: Tensor) -> Distribution:
                return Independent(Laplace(loc, log_scale.exp()), self.event_ndim)  # event_ndim = len(event_shape)

    The network is built here, as network(in_shape, out_shape), and maps (B, *in_shape) to (B, *out_shape), with
    out_shape = (num_params, *event_shape). With num_classes > 0 the label y enters the network one-hot, as further channels (the
    conditional VAE of Sohn et al., 2015), or as further numbers of a network that flattens its input anyway.

    Args:
        network: a factory of networks.
        in_shape: of the input, without batch dimensions.
        event_shape: of the event.
        num_classes: 0, or how many classes y may name.

    Raises:
        ValueError: if a size is below 1.
    """

    num_params: int
    autocast: torch.dtype | None = None  # the network's precision where it is not float32; probabilities never leave float32

    def __init__(self, network: NetworkFactory, in_shape: Sequence[int], event_shape: Sequence[int], num_classes: int = 0) -> None:
        super().__init__()
        if min(*in_shape, *event_shape, 1) < 1 or num_classes < 0:
            raise ValueError(f"sizes must be at least 1, but in_shape={in_shape}, event_shape={event_shape} and num_classes={num_classes}")
        # a network that flattens would see as many copies of a label as there are pixels, and drown in them
        self.flatten = num_classes > 0 and getattr(getattr(network, "func", network), "flattens", False)
        channels, *space = (prod(in_shape),) if self.flatten else in_shape
        self.network = network(in_shape=(channels + num_classes, *space), out_shape=(self.num_params, *event_shape))
        self.in_shape, self.event_ndim, self.num_classes = tuple(in_shape), len(event_shape), num_classes

    @abstractmethod
    def distribution(self, *params: Any, **none: Any) -> Distribution:
        """The distribution with these parameters, `num_params` tensors of shape (*batch, *event_shape).

        Its batch shape is (*batch), and its event shape that of the event: `Independent(..., self.event_ndim)` makes it so.
        """

    def forward(self, given: Shaped[Tensor, "..."], y: Shaped[Tensor, "..."] | None = None) -> Distribution:
        """The distribution given (*batch, *in_shape); its batch shape is *batch.

        Raises:
            ValueError: if the numbers are no floats, the shape is not the one this was built for, or y is needed and missing.
        """
        if not given.is_floating_point():
            raise ValueError(
                f"{type(self).__name__} takes numbers of type float, but got {given.dtype}: pictures are divided by 255 before"
            )
        batch = given.shape[: given.ndim - len(self.in_shape)]
        if given.shape[len(batch) :] != self.in_shape:
            raise ValueError(f"{type(self).__name__} was built for inputs of shape {self.in_shape}, but got {tuple(given.shape)}")
        if self.num_classes:
            given = self._with_label(given, y, batch)
        params = self.run(self.network, given.reshape(prod(batch), *given.shape[len(batch) :]))
        return self.distribution(*params.reshape(*batch, *params.shape[1:]).unbind(len(batch)))

    def run(self, network: nn.Module, given: Shaped[Tensor, "n ..."]) -> Shaped[Tensor, "n ..."]:
        """The output of a network, which may run in half precision, in full precision, as probabilities are."""
        if self.autocast is None:
            found = network(given)
        else:
            with torch.autocast(given.device.type, self.autocast):
                found = network(given)
        return found.float() if found.dtype in (torch.bfloat16, torch.float16) else found

    def _with_label(self, given: Tensor, y: Tensor | None, batch: torch.Size) -> Tensor:
        labels = check_labels(type(self).__name__, y, self.num_classes, batch)
        code = (labels.expand(batch)[..., None] == torch.arange(self.num_classes, device=labels.device)).to(given)
        given = given.flatten(len(batch)) if self.flatten else given
        space = given.shape[len(batch) + 1 :]
        code = code.reshape(*code.shape, *[1] * len(space)).expand(*code.shape, *space)
        return torch.cat([given, code], dim=len(batch))


def is_transformed(x: Tensor) -> bool:
    """True within `torch.func.vmap` or `torch.func.grad`, where the values of a tensor cannot be read."""
    return torch._C._functorch.is_functorch_wrapped_tensor(x)


def check_labels(name: str, y: Shaped[Tensor, "..."] | None, num_classes: int, batch: torch.Size | None = None) -> Int[Tensor, "..."]:
    """y, as whole numbers.

    Args:
        name: of who was built with num_classes.
        y: labels.
        num_classes: that y may name.
        batch: the batch shape whose last dimensions y must have; None: any.

    Raises:
        ValueError: if y is missing, has another shape, or names no class.
    """
    if y is None:
        raise ValueError(f"{name} was built with num_classes={num_classes}, so it needs y")
    fits = batch is None or y.shape == tuple(batch)[len(batch) - y.ndim :]
    # a GPU would have to wait, and what is exported or transformed has no values
    readable = y.device.type == "cpu" and not torch.compiler.is_exporting() and not is_transformed(y)
    if not fits or (readable and not bool(((y >= 0) & (y < num_classes)).all())):
        raise ValueError(
            f"{name} was built with num_classes={num_classes}, so y must hold one label in 0 ..."
            f" {num_classes - 1} for each example, but it has shape {tuple(y.shape)} and values in"
            f" [{y.min().item():g}, {y.max().item():g}]: set num_classes=0, or to the number of classes of the data"
        )
    return y.long()
