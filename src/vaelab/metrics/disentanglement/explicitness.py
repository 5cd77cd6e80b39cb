"""Explicitness (Ridgeway & Mozer, 2018, https://arxiv.org/abs/1802.05312), as Locatello et al. (2019) compute it."""

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from vaelab.metrics.disentanglement.samples import Codes, Factors, paired_codes, split_labels


def explicitness(codes: Codes, factors: Factors, test_codes: Codes, test_factors: Factors) -> float:
    """The area under the ROC curve of a linear classifier of each factor from all codes: 0.5 by chance, 1 if exact.

    The curve is that of test examples of one value of a factor against the others; the mean is over the values of a factor, then over
    the factors. Codes are standardised by the mean and deviation of the training examples. The classifier is scikit-learn's
    LogisticRegression by default: multinomial since its version 0.22, one value against the others in that of the study.

    Raises:
        ValueError: see `vaelab.metrics.disentanglement.samples.paired`.
    """
    return float(explicitness_of(*class_scores(codes, factors, test_codes, test_factors))[0])


def class_scores(
    codes: Codes, factors: Factors, test_codes: Codes, test_factors: Factors
) -> tuple[list[Float[np.ndarray, "m _"]], Int[np.ndarray, "m f"]]:
    """The probability that each test example has each value of each factor; and the values that the examples have."""
    from sklearn.linear_model import LogisticRegression  # not at the top: training imports this room, and need not wait for it

    (z, v), (test_z, test_v) = paired_codes(codes, factors), paired_codes(test_codes, test_factors)
    y, test_y = split_labels(v, test_v)
    mean, scale = z.mean(0), z.std(0)
    scale = np.where(scale > 0, scale, 1)  # a code that never changes has no deviation to be divided by
    z, test_z = (z - mean) / scale, (test_z - mean) / scale
    scores = []
    for labels, number in zip(y.T, np.maximum(y.max(0), test_y.max(0)) + 1, strict=True):
        regression = LogisticRegression().fit(z, labels)
        probabilities = np.zeros((len(test_z), number))
        probabilities[:, regression.classes_] = regression.predict_proba(test_z)
        scores.append(probabilities)
    return scores, test_y


def explicitness_of(
    scores: list[Float[np.ndarray, "m _"]], labels: Int[np.ndarray, "m f"], weights: Num[np.ndarray, "b m"] | None = None
) -> Float[np.ndarray, "b"]:
    """The score for each row of weights of the examples (None: one row of ones); values that no example has, or all have, do not count."""
    weights = np.ones((1, len(labels))) if weights is None else weights
    factors = []
    for columns, values in zip(scores, labels.T, strict=True):
        areas = [roc_auc(column, values == value, weights) for value, column in enumerate(columns.T)]
        factors.append(np.nanmean(areas, axis=0))
    return np.mean(factors, axis=0)


def roc_auc(scores: Float[np.ndarray, "m"], positive: Bool[np.ndarray, "m"], weights: Num[np.ndarray, "b m"]) -> Float[np.ndarray, "b"]:
    """P(score of a positive > score of a negative) + P(they are equal) / 2, for each row of weights; NaN if it has only one kind."""
    order = np.argsort(scores)
    scores, positives, negatives = scores[order], (weights * positive)[:, order], (weights * ~positive)[:, order]
    below = np.concatenate([np.zeros((len(weights), 1)), negatives.cumsum(1)], axis=1)
    ties = below[:, np.searchsorted(scores, scores, "left")] + below[:, np.searchsorted(scores, scores, "right")]
    pairs = positives.sum(1) * negatives.sum(1)
    return np.where(pairs > 0, (positives * ties).sum(1) / 2, np.nan) / np.where(pairs > 0, pairs, 1)
