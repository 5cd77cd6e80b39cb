"""A classifier that tells two samples apart (Lopez-Paz & Oquab, 2017, https://arxiv.org/abs/1610.06545)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from sklearn.ensemble import HistGradientBoostingClassifier

from vaelab.metrics.progress import progress
from vaelab.metrics.two_sample.auc import Area, area_under_curve

MOST_CATEGORIES = 255  # that the trees take for such; codes of more are numbers to them


def cross_fitted_auc(
    a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "n d"], sizes: Sequence[int] = (), num_folds: int = 5, what: str = "folds"
) -> Area:
    """The area under the curve of gradient-boosted trees that tell rows of b from rows of a: 1/2 if both are of one law.

    Rows are divided into K folds; the trees that score a fold have learned from the other K - 1, and the area is the mean over the folds.
    Row i of a and row i of b are in the same fold, so that they may share a mask of missing values.

    The variance is twice the mean of DeLong's of the folds, divided by K. Of equal laws, trees and fold agree by chance in what sets a and
    b apart; as each pair of folds meets twice, once either way around, this chance is not averaged over K folds but over half as many. Of
    laws that are far apart, the variance is less than that, and the interval is wide.

    Args:
        a, b: as many rows of each; NaN is a missing value.
        sizes: the number of categories of each column whose values are codes without an order, else 0; none: there are none.
        num_folds: K.
        what: is shown as being under way.

    Raises:
        ValueError: if there are not as many of each, or fewer than 2 to a fold.
    """
    if len(a) != len(b) or len(a) < 2 * num_folds:
        raise ValueError(f"{len(a)} and {len(b)} rows cannot be divided into {num_folds} folds with as many of each and at least 2")
    fold = np.random.default_rng(0).permutation(len(a)) % num_folds
    categorical = [place for place, size in enumerate(sizes) if 0 < size <= MOST_CATEGORIES]
    areas = []
    for k in progress(what, range(num_folds)):
        learned, scored = fold != k, fold == k
        trees = HistGradientBoostingClassifier(categorical_features=categorical or None, early_stopping=False, random_state=0)
        trees.fit(np.concatenate([a[learned], b[learned]]), np.repeat([0, 1], learned.sum()))
        areas.append(area_under_curve(trees.decision_function(b[scored]), trees.decision_function(a[scored])))
    values, variances = zip(*areas, strict=True)
    return Area(float(np.mean(values)), 2 * float(np.mean(variances)) / num_folds)
