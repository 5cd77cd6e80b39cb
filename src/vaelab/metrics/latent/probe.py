"""Probes: classifiers that read labels and factors off the codes."""

from math import sqrt
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from vaelab.metrics.progress import progress

CLASSIFIERS = ("linear_probe", "knn", "majority")


def probe(
    train_z: Float[Tensor, "n ..."],
    train_y: Shaped[Tensor, "n ..."],
    test_z: Float[Tensor, "m ..."],
    test_y: Shaped[Tensor, "m ..."],
    num_neighbours: int = 5,
) -> dict[str, Any]:
    """The accuracy of y read off z: by multinomial logistic regression, by nearest neighbours, and by the most frequent value.

    linear_probe_accuracy, knn_accuracy, majority_accuracy, with standard errors over the test examples. Of factors (M, F) of whole numbers,
    that of each factor (*_per_factor), and their mean, as Locatello et al. (2019, https://arxiv.org/abs/1811.12359) do: a factor's number
    need not be in an order (a shape) and may go round (an orientation), so that a regression on it would mean nothing. Of real numbers it
    does: then linear_probe_r2, the R^2 of linear regression on the test examples, stands in place of accuracies.

    Dimensions are standardised for the classifier that is linear, because its penalty (scikit-learn's, C = 1) would depend on their scale;
    neighbours are near in z as it is, as in Davidson et al. (2018, https://arxiv.org/abs/1804.00891).

    Args:
        train_z, train_y: to learn from.
        test_z, test_y: to be tested on.
        num_neighbours: who vote.

    Returns:
        All of these, None for what does not apply: all of them, if there is no example or y is always the same.

    Raises:
        ValueError: if there are fewer training examples than neighbours.
    """
    report: dict[str, Any] = {f"{name}_accuracy{of}": None for name in CLASSIFIERS for of in ("", "_std_error", "_per_factor")}
    report |= {"linear_probe_r2": None, "linear_probe_r2_per_factor": None}
    report |= {"probe_train_num_examples": len(train_y), "probe_test_num_examples": len(test_y)}
    if not len(test_y) or len(train_y.unique(dim=0)) < 2:
        return report
    if not 1 <= num_neighbours <= len(train_y):
        raise ValueError(f"num_neighbours={num_neighbours} must be from 1 to the number of training examples with a label, {len(train_y)}")
    z, test = (points.flatten(1).cpu().double().numpy() for points in (train_z, test_z))
    y, truth = (values.reshape(len(values), -1).cpu().numpy() for values in (train_y, test_y))
    factors = train_y.ndim > 1
    if train_y.is_floating_point():
        scores = r_squared(z, y, test, truth)
        return report | {"linear_probe_r2": float(scores.mean()), "linear_probe_r2_per_factor": scores.tolist() if factors else None}
    for name, right in rightly_read(z, y, test, truth, num_neighbours).items():
        report[f"{name}_accuracy"] = float(right.mean())
        report[f"{name}_accuracy_std_error"] = float(right.mean(1).std(ddof=1)) / sqrt(len(right)) if len(right) > 1 else None
        report[f"{name}_accuracy_per_factor"] = right.mean(0).tolist() if factors else None
    return report


def rightly_read(
    z: Float[np.ndarray, "n d"],
    y: Shaped[np.ndarray, "n f"],
    test: Float[np.ndarray, "m d"],
    truth: Shaped[np.ndarray, "m f"],
    num_neighbours: int,
) -> dict[str, Bool[np.ndarray, "m f"]]:
    """True for each factor of each test example that a classifier gets right."""
    # not at the top: training imports this room, and need not wait for it
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    right: dict[str, list[np.ndarray]] = {name: [] for name in CLASSIFIERS}
    for known, wanted in progress("probes of y", zip(y.T, truth.T, strict=True), y.shape[1]):
        varies = len(np.unique(known)) > 1  # if not, no classifier can say but the one value
        makers = {
            "linear_probe": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)) if varies else DummyClassifier(),
            "knn": KNeighborsClassifier(num_neighbours),
            "majority": DummyClassifier(),
        }
        for name, classifier in makers.items():
            right[name].append(classifier.fit(z, known).predict(test) == wanted)
    return {name: np.stack(columns, axis=1) for name, columns in right.items()}


def r_squared(
    z: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n f"], test: Float[np.ndarray, "m d"], truth: Float[np.ndarray, "m f"]
) -> Float[np.ndarray, "f"]:
    """1 - sum (y - y^)^2 / sum (y - mean y)^2 of each factor, on the test examples."""
    from sklearn.linear_model import LinearRegression
    from sklearn.metrics import r2_score

    return r2_score(truth, LinearRegression().fit(z, y).predict(test), multioutput="raw_values")
