"""All that is reported of samples against data that are no pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.checks import WITH_CATEGORIES, check_at_least, check_choice
from vaelab.metrics.data import Data, first_as_one
from vaelab.metrics.sample_quality.examples import generated
from vaelab.metrics.two_sample.classifier import cross_fitted_auc
from vaelab.metrics.two_sample.marginals import total_variation, wasserstein
from vaelab.models import Model

CODED = (*WITH_CATEGORIES, "binary")
MOST_NAMED = 3  # columns that are fitted worst
MOST_LISTED = 1000  # values of x with a distance each


def two_sample(model: Model, data: Data, split: str = "test", num_samples: int = 10_000, num_folds: int = 5) -> dict[str, Any]:
    """Two-sample tests of N samples x ~ p(x | z), z ~ p(z), and N examples of a split: of tables, vectors and series.

    - two_sample_auc, with its 95 % interval: of a classifier that tells samples from examples, on rows that it has not learned from; see
      `cross_fitted_auc`. 0.5: it cannot. 1: it always can.
    - wasserstein: the mean over the columns of numbers of the Wasserstein-1 distance, in standard deviations of the column.
    - total_variation: the mean over the columns of codes (categorical, ordinal, binary) of the distance of their shares.
    - marginal_distances: by column, one or the other; worst_columns: the largest of them.
    - each with _of_train: that of training examples in place of samples, as many of them if there are, than which less cannot be hoped for.
    - two_sample_num_examples: N.

    Where values of an example are missing, those of one sample are hidden. This is right where it does not depend on the values
    themselves whether they are missing; where it does, the classifier can also tell by that. A conditional model is given labels that are
    drawn from those of the examples.

    Args:
        model: to sample from.
        data: to compare with, as models are shown them; distances are in the units of the data.
        split: "test" or "val".
        num_samples: N at most.
        num_folds: of `cross_fitted_auc`.

    Raises:
        ValueError: if the data are pictures, an option is out of range, there are too few examples, or samples are not finite.
    """
    check_choice(("test", "val"), split=split)
    check_at_least(2, num_folds=num_folds)
    check_at_least(2 * num_folds, num_samples=num_samples)
    data.setup("test" if split == "test" else "fit")
    modality = data.splits[split].modality
    if modality.is_pictured and not modality.has_curves:
        raise ValueError("two_sample compares tables, vectors and series, value by value: of pictures, choose metrics=[sample_quality]")
    x, y = first_as_one(data.batches(split), num_samples)
    samples = torch.cat([part.cpu() for part in generated(model, len(x), y, mean=False)]).masked_fill(x.isnan(), torch.nan)
    train, _ = first_as_one(data.batches("train"), len(x))
    rows, ours, others = (flat(modality.unscale(part)) for part in (x, samples, train))
    kinds = [column.for_model for column in modality.columns] or ["real"] * rows.shape[1]
    sizes = [kind[1] if not isinstance(kind, str) and kind[0] == "categorical" else 0 for kind in kinds]
    names = [column.name for column in modality.columns] or modality.value_names
    coded = [(kind if isinstance(kind, str) else kind[0]) in CODED for kind in kinds]
    auc = cross_fitted_auc(rows, ours, sizes, num_folds, "folds of samples")
    found: dict[str, Any] = {"two_sample_auc": auc.value, "two_sample_auc_ci": auc.interval()}
    if len(others) == len(rows):
        floor = cross_fitted_auc(rows, others, sizes, num_folds, "folds of training data")
        found |= {"two_sample_auc_of_train": floor.value, "two_sample_auc_of_train_ci": floor.interval()}
    return (
        found
        | distances(rows, ours, names, coded)
        | distances(rows, others, names, coded, "_of_train")
        | {"two_sample_num_examples": len(x)}
    )


def distances(
    rows: Float[np.ndarray, "n d"], others: Float[np.ndarray, "m d"], names: Sequence[str], coded: Sequence[bool], ending: str = ""
) -> dict[str, Any]:
    """The distances of all columns, and their means; names of numbers get the ending."""
    each = {
        name: (total_variation if is_coded else wasserstein)(rows[:, j], others[:, j])
        for j, (name, is_coded) in enumerate(zip(names, coded, strict=True))
    }
    found: dict[str, Any] = {}
    for name, kind in (("wasserstein", False), ("total_variation", True)):
        known = [value for value, is_coded in zip(each.values(), coded, strict=True) if is_coded == kind and not np.isnan(value)]
        if known:
            found[name + ending] = float(np.mean(known))
    known_each = {name: value for name, value in each.items() if not np.isnan(value)}
    worst = sorted(known_each, key=lambda name: -known_each[name])[:MOST_NAMED]
    if not ending:
        found["worst_columns"] = ", ".join(f"{name} {known_each[name]:.2g}" for name in worst)
    return found | ({f"marginal_distances{ending}": known_each} if len(each) <= MOST_LISTED else {})


def flat(x: Float[Tensor, "n ..."]) -> Float[np.ndarray, "n d"]:
    """The values of each x in a row."""
    return x.flatten(1).double().cpu().numpy()
