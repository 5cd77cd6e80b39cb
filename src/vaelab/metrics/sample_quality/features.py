"""The spaces in which samples and data are compared."""

import importlib
import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from vaelab.checks import check_choice
from vaelab.metrics.data import labelled
from vaelab.metrics.sample_quality.classifier import Classifier, Scale, train_classifier

INCEPTION_WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
Features = Callable[[Tensor], Tensor]  # x (B, *x_shape) -> (B, D)


@torch.no_grad()
def extract(features: Features, batches: Iterable[Float[Tensor, "_ ..."]]) -> Float[Tensor, "n d"]:
    """The features of scaled x in batches, in float64."""
    return torch.cat([features(x).double() for x in batches])


def pixels(x: Float[Tensor, "b ..."]) -> Float[Tensor, "b d"]:
    """x itself, as a vector."""
    return x.flatten(1)


def classes(y: Shaped[Tensor, "n ..."]) -> Int[Tensor, "n f"]:
    """Labels, or factors, as columns of whole numbers.

    Raises:
        ValueError: if they are real numbers.
    """
    if y.is_floating_point():
        raise ValueError("a classifier needs y of whole numbers, but those of the data are real: set features=pixels")
    return y.reshape(len(y), -1).long()


def learned(x: Shaped[Tensor, "n ..."], y: Shaped[Tensor, "n ..."], num_epochs: int, scale: Scale) -> Classifier:
    """A classifier of the examples whose y is known; see `train_classifier`.

    Raises:
        ValueError: if none is, y are real numbers, all are of one class, or num_epochs is below 1.
    """
    known = labelled(y)
    if not bool(known.any()):
        raise ValueError("a classifier needs labels, but the training data have none: set features=pixels")
    return train_classifier(x[known], classes(y[known]), num_epochs, scale)


def inception(device: torch.device) -> Features:
    """The 2048 features of the Inception network of the Frechet Inception distance, of images with 1 or 3 channels and values in [0, 1].

    Network and weights are those of torch-fidelity (https://github.com/toshas/torch-fidelity), which are never downloaded here.

    Raises:
        ValueError: if torch-fidelity or the weights are missing, or cannot be read.
    """
    if not (has_torch_fidelity() and inception_weights().is_file()):
        raise ValueError(
            "features=inception needs the package torch-fidelity (pip install torch-fidelity) and the weights of its Inception network, as"
            f" {inception_weights()}: install both, or set features=classifier"
        )
    module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    try:
        network = module.FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(inception_weights()))
    except Exception as error:  # of torch.load, of many kinds
        raise ValueError(
            f"{inception_weights()} cannot be read as torch-fidelity's weights: put the file there anew, or set features=classifier"
        ) from error
    network.to(device)

    def features(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        images = (255 * x.clamp(0, 1)).round().to(torch.uint8).expand(-1, 3, -1, -1)
        return torch.cat([network(part)[0] for part in images.split(50)])

    return features


def has_torch_fidelity() -> bool:
    return importlib.util.find_spec("torch_fidelity") is not None


def inception_weights() -> Path:
    """The file where torch-fidelity keeps its weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_WEIGHTS


def feature_space(features: str, x: Shaped[Tensor, "n ..."], are_viewable: bool) -> str:
    """The name of a space of features for data x; "auto" is Inception's if it can see x and is on this machine, else a classifier's.

    Raises:
        ValueError: if the name is unknown, or Inception is asked for and x are not viewable.
    """
    check_choice(("auto", "inception", "classifier", "pixels"), features=features)
    if features == "auto":
        return "inception" if are_viewable and has_torch_fidelity() and inception_weights().is_file() else "classifier"
    if features == "inception" and not are_viewable:
        raise ValueError(
            f"features=inception needs images with 1 or 3 channels and values in [0, 1], but the data have shape {tuple(x.shape[1:])} and"
            f" values in [{x.min().item():g}, {x.max().item():g}]: set features=classifier or features=pixels"
        )
    return features
