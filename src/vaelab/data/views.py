"""Datasets seen differently."""

import torch
from jaxtyping import Int
from torch import Tensor

from vaelab.data.memory import Examples, InMemory


def hide_labels(dataset: Examples, num_labelled: int, among: Int[Tensor, "m"], seed: int = 0) -> InMemory:
    """The dataset with y for `num_labelled` of the examples `among`, equally many of each class, and -1 for all others.

    The protocol of semi-supervised learning (Kingma et al., 2014, https://arxiv.org/abs/1406.5298).

    Raises:
        ValueError: if the data are not in memory, have no labels, or have fewer of a class than are asked for.
    """
    if not isinstance(dataset, InMemory) or dataset.y.ndim != 1 or bool((dataset.y < 0).all()):
        raise ValueError("labels can be hidden of data that are in memory and have one label for each example: use data=mnist")
    among = among[dataset.y[among] >= 0]
    classes, counts = dataset.y[among].unique(return_counts=True)
    share = -(-num_labelled // len(classes))
    if num_labelled < 1 or share > int(counts.min()):
        raise ValueError(
            f"num_labelled={num_labelled} must be at least 1, and the rarest of the {len(classes)} classes has {int(counts.min())} examples"
        )
    order = among[torch.randperm(len(among), generator=torch.Generator().manual_seed(seed))]
    # the first of each class in a random order, then the second of each, ...: the first num_labelled of these are balanced
    ranked = torch.stack([order[dataset.y[order] == label][:share] for label in classes], dim=1).flatten()[:num_labelled]
    y = torch.full_like(dataset.y, -1)
    y[ranked] = dataset.y[ranked]
    return InMemory(dataset.x, y, dataset.y_names)
