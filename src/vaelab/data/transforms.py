"""Random changes of a batch of x in [0, 1] before a model sees it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.data.modality import NUM_LEVELS


class Transform(ABC):
    """x of a batch to x. Any function of (x, generator=None) will do in its place, if these two attributes are right for it."""

    once = False  # whether its draw belongs to the data: the same one for an example in every epoch
    num_levels: int | None = None  # that x had, if each now has an equal share of the unit interval: only then has a density bits

    @abstractmethod
    def __call__(self, x: Float[Tensor, "b ..."], generator: torch.Generator | None = None) -> Float[Tensor, "b ..."]:
        """A draw, from torch's generator or another one."""


class Binarize(Transform):
    """x ~ Bernoulli(x), as in Salakhutdinov & Murray (2008) and Burda et al. (2016).

    `DataModule` draws anew whenever a training batch is drawn (dynamic binarisation) unless it is given a `static_seed`, and draws
    once and for all for evaluation.
    """

    def __call__(self, x: Float[Tensor, "b ..."], generator: torch.Generator | None = None) -> Float[Tensor, "b ..."]:
        return torch.bernoulli(x, generator=generator)


class Dequantize(Transform):
    """x = (255 x + u) / 256 with u ~ U(0, 1): 8-bit pixels in {0, 1/255, ..., 1} become real numbers in (0, 1), all of it in use.

    The mean of log p(x) over u, less 8 log 2 nats for each pixel, is a lower bound of the log-probability of the 8-bit pixels (Uria et
    al., 2013, https://arxiv.org/abs/1306.0186; Theis et al., 2016, https://arxiv.org/abs/1511.01844).
    """

    num_levels = NUM_LEVELS

    def __call__(self, x: Float[Tensor, "b ..."], generator: torch.Generator | None = None) -> Float[Tensor, "b ..."]:
        u = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        eps = torch.finfo(x.dtype).eps
        return (((self.num_levels - 1) * x + u) / self.num_levels).clamp(eps, 1 - eps)  # u may be 0, and 255 + u may round to 256


class Missing(Transform):
    """Hides each value of x with probability `share`, completely at random: NaN stands for what is missing.

    Which values are missing belongs to the data, so it is drawn once for each example: `DataModule` asks for a `static_seed`.
    The model is told with `missing=true`.

    Raises:
        ValueError: if share does not lie in [0, 1).
    """

    once = True

    def __init__(self, share: float = 0.5) -> None:
        if not 0 <= share < 1:
            raise ValueError(f"share={share} of the values cannot be missing: it must lie in [0, 1)")
        self.share = share

    def __call__(self, x: Float[Tensor, "b ..."], generator: torch.Generator | None = None) -> Float[Tensor, "b ..."]:
        return x.masked_fill(torch.rand(x.shape, generator=generator, device=x.device) < self.share, torch.nan)


class HideLarge(Transform):
    """Hides values above a limit in the first columns of x: those that are missing are missing because of what they are.

    The mask of the experiments of not-MIWAE (Ipsen et al., 2021, https://arxiv.org/abs/2006.12871): the limit is the mean, 0 of
    standardised data, in the first half of the columns.

    Args:
        limit: in the units of x.
        num: how many columns, the last dimension of x, large values are hidden in.
    """

    once = True

    def __init__(self, num: int, limit: float = 0.0) -> None:
        self.num, self.limit = num, limit

    def __call__(self, x: Float[Tensor, "b ..."], generator: torch.Generator | None = None) -> Float[Tensor, "b ..."]:
        return x.masked_fill((torch.arange(x.shape[-1], device=x.device) < self.num) & (x > self.limit), torch.nan)


class Chain(Transform):
    """One transform after another."""

    def __init__(self, transforms: Sequence[Callable[..., Tensor]]) -> None:
        self.transforms = tuple(transforms)
        self.once = any(isinstance(transform, Transform) and transform.once for transform in transforms)

    def __call__(self, x: Float[Tensor, "b ..."], generator: torch.Generator | None = None) -> Float[Tensor, "b ..."]:
        for transform in self.transforms:
            x = transform(x, generator=generator)
        return x
