"""Codes: what q(z | x) says of each x, in numbers."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vaelab.distributions import Quantized, centre, code_of
from vaelab.metrics.decoding import channels
from vaelab.models import Model


@torch.no_grad()
def codes(
    model: Model, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None, num: int = 0
) -> dict[str, Shaped[Tensor, "b ..."]]:
    """Mean and standard deviation of q(z | x), and samples of it: "mean", "scale", "sample_1", ..., each (B, *z_shape).

    Of a posterior whose mean has no closed form, a flow, "centre" is the image of its base's mean; what has no closed form is left out.
    Of codes of a codebook, "index" is the grid of their indices, of two maps of codes "index_top" and "index_bottom", and "mean" the codes
    themselves, which are certain.

    >>> found = codes(model, x, num=2)
    >>> list(found), found["mean"].shape
    (['mean', 'scale', 'sample_1', 'sample_2'], torch.Size([5, 2]))

    Args:
        model: whose posterior it is.
        x, y: examples.
        num: how many samples of each.
    """
    q = model.encode(x, y)
    samples = {f"sample_{number + 1}": code_of(q, q.sample()) for number in range(num)}
    if isinstance(q, Quantized):
        grids = {f"index_{name}" if name else "index": grid for name, grid in q.codebook.split(q.indices).items()}
        return grids | {"mean": q.mean} | samples
    mean, scale = known(lambda: q.mean), known(lambda: q.stddev)
    return ({"centre": centre(q)} if mean is None else {"mean": mean}) | ({} if scale is None else {"scale": scale}) | samples


class LatentMoments:
    """Mean and standard deviation of z ~ q(z | x) over examples, of each channel: the first dimension of z, over its others.

    Exact over the noise of q: Var z = E_x Var(z | x) + Var_x E(z | x), in double precision.
    """

    def __init__(self) -> None:
        self.sums, self.squares, self.num = torch.zeros(()), torch.zeros(()), 0

    def add(self, found: Mapping[str, Float[Tensor, "b ..."]]) -> None:
        """Take in the codes of a batch; see `codes`.

        Raises:
            ValueError: if the posterior has no mean in closed form.
        """
        if "mean" not in found:
            raise ValueError("moments of latents need a posterior with a mean in closed form, which a flow has not")
        mean = channels(found["mean"])
        variance = channels(found["scale"]).square() if "scale" in found else torch.zeros_like(mean)
        self.sums, self.squares = self.sums + mean.sum(0), self.squares + (mean.square() + variance).sum(0)
        self.num += len(mean)

    @property
    def mean(self) -> Float[Tensor, "c"]:
        """E z of each channel."""
        return self.sums / self.num

    @property
    def std(self) -> Float[Tensor, "c"]:
        """The standard deviation of each channel."""
        return (self.squares / self.num - self.mean.square()).clamp(min=0).sqrt()

    def factors(self) -> dict[str, float]:
        """The two numbers that give latents of all channels together mean 0 and standard deviation 1: (z - shift_factor) scaling_factor."""
        shift = self.mean.mean()
        std = (self.squares.mean() / self.num - shift.square()).clamp(min=0).sqrt()
        return {"scaling_factor": 1 / std.item() if std > 0 else 1.0, "shift_factor": shift.item()}


def known(moment: Callable[[], Tensor]) -> Tensor | None:
    """A moment; None, if it has no closed form."""
    try:
        return moment()
    except NotImplementedError:
        return None
