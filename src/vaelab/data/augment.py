"""Pictures as they could also have been taken: changed anew whenever they are trained on, never when a model is judged."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vaelab.checks import check_choice

MOST = 1 / 8  # of a side, by which a crop is moved


def flip(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Each picture mirrored, left and right, with probability 1/2."""
    return torch.where((torch.rand(len(x), device=x.device) < 0.5)[:, None, None, None], x.flip(-1), x)


def crop(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Each picture moved up or down, left or right, by up to an eighth of its sides; pixels at the border are repeated."""
    height, width = x.shape[-2:]
    most = [max(1, round(MOST * side)) for side in (height, width)]
    padded = functional.pad(x, (most[1], most[1], most[0], most[0]), mode="replicate")
    rows, columns = (
        torch.randint(0, 2 * far + 1, (len(x), 1), device=x.device) + torch.arange(side, device=x.device)
        for far, side in zip(most, (height, width), strict=True)
    )
    chosen = padded.gather(2, rows[:, None, :, None].expand(-1, x.shape[1], -1, padded.shape[3]))
    return chosen.gather(3, columns[:, None, None, :].expand(-1, x.shape[1], height, -1))


KINDS: dict[str, Callable[[Tensor], Tensor]] = {"flip": flip, "crop": crop}


def augment_of(names: str | Sequence[str] | None, is_image: bool) -> list[Callable[[Tensor], Tensor]]:
    """The changes of these names, one after the other.

    Raises:
        ValueError: if a name is unknown, or the data are no pictures.
    """
    chosen = [names] if isinstance(names, str) else list(names or [])
    for name in chosen:
        check_choice(KINDS, **{"data.augment": name})
    if chosen and not is_image:
        raise ValueError(f"data.augment={names} changes pictures of shape [channels, height, width], and these data are none")
    return [KINDS[name] for name in chosen]
