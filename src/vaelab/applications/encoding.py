"""Codes: what q(z | x) says of each x, in numbers."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vaelab.distributions import centre, code_of
from vaelab.models import Model


@torch.no_grad()
def codes(
    model: Model, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None, num: int = 0
) -> dict[str, Float[Tensor, "b ..."]]:
    """Mean and standard deviation of q(z | x), and samples of it: "mean", "scale", "sample_1", ..., each (B, *z_shape).

    Of a posterior whose mean has no closed form, a flow, "centre" is the image of its base's mean; what has no closed form is left out.

    >>> found = codes(model, x, num=2)
    >>> list(found), found["mean"].shape
    (['mean', 'scale', 'sample_1', 'sample_2'], torch.Size([5, 2]))

    Args:
        model: whose posterior it is.
        x, y: examples.
        num: how many samples of each.
    """
    q = model.encode(x, y)
    mean, scale = known(lambda: q.mean), known(lambda: q.stddev)
    found = {"centre": centre(q)} if mean is None else {"mean": mean}
    return found | ({} if scale is None else {"scale": scale}) | {f"sample_{number + 1}": code_of(q, q.sample()) for number in range(num)}


def known(moment: Callable[[], Tensor]) -> Tensor | None:
    """A moment; None, if it has no closed form."""
    try:
        return moment()
    except NotImplementedError:
        return None
