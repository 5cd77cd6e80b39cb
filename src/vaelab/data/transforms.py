"""What happens to a batch of x in [0, 1] before a model sees it."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def to_float(x: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """8-bit images become x / 255 in [0, 1]; other numbers, booleans and counts too, keep their values in torch's default precision."""
    x, is_image = x.to(torch.get_default_dtype()), x.dtype == torch.uint8
    return x / 255 if is_image else x


class Binarize:
    """x ~ Bernoulli(x), as in Salakhutdinov & Murray (2008) and Burda et al. (2016).

    `DataModule` draws anew whenever a training batch is drawn (dynamic binarisation) unless it is given a `static_seed`, and draws
    once and for all for evaluation.
    """

    def __call__(self, x: Float[Tensor, "b ..."], generator: torch.Generator | None = None) -> Float[Tensor, "b ..."]:
        return torch.bernoulli(x, generator=generator)
