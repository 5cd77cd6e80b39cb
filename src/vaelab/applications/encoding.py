"""Codes: what q(z | x) says of each x, in numbers."""

from collections.abc import Callable, Iterable

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


@torch.no_grad()
def latent_moments(
    model: Model, batches: Iterable[tuple[Float[Tensor, "b ..."], Shaped[Tensor, "b ..."]]]
) -> tuple[Float[Tensor, "c"], Float[Tensor, "c"]]:
    """Mean and standard deviation of z ~ q(z | x) over examples, of each channel: the first dimension of z, over its others.

    Exact over the noise of q: Var z = E_x Var(z | x) + Var_x E(z | x), in double precision.

    Args:
        model: whose posterior has a mean and a standard deviation.
        batches: of (x, y).

    Raises:
        ValueError: if there is no example, or the posterior has no such moments.
    """
    sums, squares, num = torch.zeros(()), torch.zeros(()), 0
    for x, y in batches:
        found = codes(model, x, y)
        if not {"mean", "scale"} <= found.keys():
            raise ValueError(f"the posterior {type(model.encode(x, y)).__name__} has no mean and standard deviation in closed form")
        mean, scale = (found[name].double().movedim(1, -1).flatten(0, -2) for name in ("mean", "scale"))
        sums, squares, num = sums + mean.sum(0).cpu(), squares + (mean.square() + scale.square()).sum(0).cpu(), num + len(mean)
    if not num:
        raise ValueError("there is no example whose latents could be measured")
    return sums / num, (squares / num - (sums / num).square()).clamp(min=0).sqrt()


def known(moment: Callable[[], Tensor]) -> Tensor | None:
    """A moment; None, if it has no closed form."""
    try:
        return moment()
    except NotImplementedError:
        return None
