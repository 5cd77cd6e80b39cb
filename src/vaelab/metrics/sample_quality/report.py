"""Everything that is reported of the samples of a model."""

import warnings
from math import sqrt
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor

from vaelab.metrics.data import Data, labelled
from vaelab.metrics.sample_quality.classifier import Classifier, Scale, correct
from vaelab.metrics.sample_quality.examples import AT_ONCE, examples, generated
from vaelab.metrics.sample_quality.features import Features, classes, extract, feature_space, inception, learned, pixels
from vaelab.metrics.sample_quality.frechet import frechet_distance
from vaelab.metrics.sample_quality.kernel import kernel_distance
from vaelab.metrics.sample_quality.manifold import density_coverage, precision_recall
from vaelab.models import Model


def sample_quality(
    model: Model,
    data: Data,
    features: str = "auto",
    split: str = "test",
    num_samples: int = 10_000,
    mean: bool = True,
    num_train: int = 50_000,
    num_epochs: int = 5,
) -> dict[str, Any]:
    """Distances between N samples of a model and N examples of a split, in a space of features that the names of the numbers end with.

    - fid and kid, if the features are Inception's; else frechet_distance_<features> and kernel_distance_<features>: see
      `frechet_distance` and `kernel_distance`. Those in features of a classifier have no unit and can be compared only between models of
      the same data, evaluated with the same options.
    - fid_of_train or frechet_distance_<features>_of_train: that of N training examples, than which less cannot be hoped for; None if there
      are not so many, since distances of unequally many cannot be compared.
    - precision_<features> and recall_<features>, with k = 3; density_<features> and coverage_<features>, with k = 5: see
      `precision_recall` and `density_coverage`.
    - sample_quality_num_examples: N; sample_quality_num_features.
    - feature_classifier_accuracy on the N examples, the mean over factors if y are such, and feature_classifier_accuracy_per_factor; and
      feature_classifier_num_examples, how many it learned from.

    A conditional model is given labels that are drawn from those of the N examples.

    Args:
        model: to sample from.
        data: to compare with.
        features: "inception", the network of torch-fidelity, of images with 1 or 3 channels in [0, 1]; "classifier", a small one of y that
            is trained on the training data, with the same weights whatever model is evaluated; "pixels", x itself; "auto", Inception's if
            torch-fidelity and its weights are on this machine, else a classifier's.
        split: "test" or "val".
        num_samples: N at most.
        mean: compare E[x | z], which papers show, with the data before any transform such as binarisation, of which they are the mean;
            false: compare x ~ p(x | z) with the data as models are shown them.
        num_train: how many training examples the classifier learns from, at most.
        num_epochs: how often it sees them.

    Raises:
        ValueError: if an option is out of range, there are fewer than 20 examples, there are no labels for a classifier or for a
            conditional model, Inception is asked for and missing, values of x are missing, or samples are not finite.

    Warns:
        if N is not above the number of features: their covariance is singular, and the Frechet distance says little.
    """
    if split not in ("test", "val") or num_samples < 20 or num_train < 1:
        raise ValueError(
            f"split={split} must be test or val, num_samples={num_samples} at least 20, since the kernel distance compares 10 subsets"
            f" of 2 or more, and num_train={num_train} at least 1"
        )
    device = model.device
    x, y = examples(data, split, num_samples, transformed=not mean)
    modality = data.splits[split].modality
    space = feature_space(features, x, modality.are_viewable(x))
    train_x, train_y = examples(data, "train", num_train if space == "classifier" else len(x), transformed=not mean)

    def scale(x: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        return modality.scale(x.to(device))

    extractor: Features = pixels
    about: dict[str, Any] = {}
    if space == "classifier":
        classifier = learned(train_x, train_y, num_epochs, scale)
        extractor, about = classifier.features, of_classifier(classifier, x, y, scale)
        about["feature_classifier_num_examples"] = int(labelled(train_y).sum())
    elif space == "inception":
        extractor = inception(device)
    real = extract(extractor, map(scale, x.split(AT_ONCE)))
    train = extract(extractor, map(scale, train_x[: len(x)].split(AT_ONCE)))
    ours = extract(extractor, generated(model, len(x), y, mean))
    return distances(space, real, ours, train) | about


def distances(
    space: str, real: Float[Tensor, "n d"], generated: Float[Tensor, "n d"], train: Float[Tensor, "m d"]
) -> dict[str, float | int | None]:
    """All distances between features, by their names in this space."""
    num, num_features = real.shape
    if num <= num_features:
        warnings.warn(
            f"the covariance of {num_features} features of {num} examples is singular, and the Frechet distance says little: raise"
            " num_samples, or take features=classifier, which has fewer",
            stacklevel=3,
        )
    frechet, kernel = ("fid", "kid") if space == "inception" else (f"frechet_distance_{space}", f"kernel_distance_{space}")
    kernel_mean, kernel_error = kernel_distance(real, generated)
    precision, recall = precision_recall(real, generated)
    density, coverage = density_coverage(real, generated)
    return {
        frechet: frechet_distance(real, generated),
        f"{frechet}_of_train": frechet_distance(real, train) if len(train) == num else None,
        kernel: kernel_mean,
        f"{kernel}_std_error": kernel_error,
        f"precision_{space}": precision,
        f"recall_{space}": recall,
        f"density_{space}": density,
        f"coverage_{space}": coverage,
        "sample_quality_num_examples": num,
        "sample_quality_num_features": num_features,
    }


def of_classifier(classifier: Classifier, x: Shaped[Tensor, "n ..."], y: Shaped[Tensor, "n ..."], scale: Scale) -> dict[str, Any]:
    """The share of the examples with a known y that the classifier gets right; None if there are none."""
    known = labelled(y)
    names = ("feature_classifier_accuracy", "feature_classifier_accuracy_std_error", "feature_classifier_accuracy_per_factor")
    if known.sum() < 2:
        return dict.fromkeys(names)
    right = correct(classifier, x[known], classes(y[known]), scale).double()
    error = right.mean(1).std().item() / sqrt(len(right))
    return dict(zip(names, (right.mean().item(), error, right.mean(0).tolist() if y.ndim > 1 else None), strict=True))
