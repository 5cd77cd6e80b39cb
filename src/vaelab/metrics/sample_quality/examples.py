"""Data and samples that can be compared with each other."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vaelab.metrics.data import Data, first, labelled
from vaelab.models import Model

AT_ONCE = 500


def examples(data: Data, split: str, num: int, transformed: bool) -> tuple[Shaped[Tensor, "n ..."], Shaped[Tensor, "n ..."]]:
    """Up to `num` examples (x, y), either as models are shown them or as they are before any transform, which keeps 8-bit images small.

    Those without a transform are chosen at random, always the same.

    Raises:
        ValueError: if there is none, or values of x are missing.
    """
    data.setup("test" if split == "test" else "fit")
    if transformed:
        xs, ys = zip(*first(data.batches(split), num), strict=True)
        x, y = torch.cat(xs), torch.cat(ys)
    else:
        plain = data.splits[split].untransformed()
        chosen = torch.randperm(len(plain), generator=torch.Generator().manual_seed(0))[:num]
        parts = [plain[part] for part in chosen.split(AT_ONCE)]
        x, y = (torch.cat(columns).cpu() for columns in zip(*parts, strict=True))
    if x.is_floating_point() and bool(x.isnan().any()):
        raise ValueError(
            f"values of the {split} data are missing, and samples have them all, so that they cannot be compared: set mean=true, which"
            " takes the data from before they were hidden, if there are such"
        )
    return x, y


@torch.no_grad()
def generated(model: Model, num: int, y: Shaped[Tensor, "n ..."], mean: bool) -> Iterator[Float[Tensor, "_ ..."]]:
    """`num` samples of a model in batches; a conditional one is given labels that are drawn from y.

    Raises:
        ValueError: if it is conditional and no y is known, or a sample is not finite.
    """
    conditional = model.num_classes > 0
    known = y[labelled(y)] if conditional else y
    if conditional and not len(known):
        raise ValueError("the model needs labels to draw samples, but the data have none")
    labels = known[torch.randint(len(known), (num,))].to(model.device) if conditional else None
    for start in range(0, num, AT_ONCE):
        size = min(AT_ONCE, num - start)
        x = model.sample(size, None if labels is None else labels[start : start + size], mean=mean)
        if not bool(x.isfinite().all()):
            raise ValueError("samples of the model are not finite: it has diverged")
        yield x
