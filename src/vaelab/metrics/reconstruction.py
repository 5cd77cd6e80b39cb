"""Distances between examples and their reconstructions: E[x | z] at the centre of q(z | x), beside x."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vaelab.checks import check_at_least, check_choice
from vaelab.metrics.data import Data, first, labelled
from vaelab.metrics.latent.usage import code_usage
from vaelab.metrics.sample_quality.examples import examples
from vaelab.metrics.sample_quality.features import Features, extract, feature_space, inception, learned, pixels
from vaelab.metrics.sample_quality.frechet import frechet_distance
from vaelab.metrics.target import average
from vaelab.models import Model

LEAST_SIDE = 11  # pixels of the window of SSIM
# of torchvision's networks: the file of weights, and the least side of a picture in pixels, of which the last layer sees one place
LPIPS = {"alex": ("alexnet-owt-7be5be79.pth", 31), "vgg": ("vgg16-397923af.pth", 16)}
Distance = Callable[[Tensor, Tensor], Tensor]  # of each of B pictures in [0, 1] (B, 3, H, W) to another one


@torch.no_grad()
def reconstruction(
    model: Model,
    data: Data,
    split: str = "test",
    num_examples: int = 10_000,
    lpips: str = "auto",
    features: str = "auto",
    num_train: int = 50_000,
    num_epochs: int = 5,
) -> dict[str, Any]:
    """Distances between examples and their reconstructions, in the units of the data: means over examples, with standard errors.

    - reconstruction_mse and reconstruction_l1: of each value of x; missing values are left out.
    - psnr = -10 log10 mse of each picture in dB, and ssim (Wang et al., 2004, https://doi.org/10.1109/TIP.2003.819861) with a Gaussian
      window of 11 pixels: of pictures with values in [0, 1].
    - lpips_alex or lpips_vgg (Zhang et al., 2018, https://arxiv.org/abs/1801.03924), of pictures of at least 31 or 16 pixels a side, if
      the weights are on this machine.
    - rfid, the Frechet distance between Inception's features of the examples and of their reconstructions; or, in other features,
      frechet_distance_of_reconstructions_<features>: see `vaelab.metrics.sample_quality`. Of data without missing values.
    - code_usage, the share of the codes that is chosen at least once, and code_perplexity, exp H of how often each is, of a posterior over
      codes; of two maps of codes also code_usage_top, ... Of the whole split, since fewer examples use fewer codes.

    Args:
        model: to reconstruct with.
        data: to reconstruct.
        split: "test" or "val".
        num_examples: of distances, at most.
        lpips: "alex" or "vgg", the network whose features LPIPS compares; "none"; or "auto", alex if its weights are on this machine and
            the pictures are large enough.
        features: as of `sample_quality`, or "none"; "auto": Inception's, else a classifier's if there are labels, else pixels.
        num_train, num_epochs: of the classifier, as of `sample_quality`.

    Raises:
        ValueError: if an option is out of range, or what was asked for has no weights on this machine, or cannot see x.
    """
    check_choice(("test", "val"), split=split)
    check_at_least(1, num_examples=num_examples)
    check_choice(("auto", "none", *LPIPS), lpips=lpips)
    data.setup("test" if split == "test" else "fit")
    modality = data.splits[split].modality
    network = chosen_lpips(lpips, modality)
    distances = {} if network is None else {f"lpips_{network}": lpips_distance(network, model.device)}
    found, kept = defaultdict[str, list[Tensor]](list), list[tuple[Tensor, Tensor]]()
    for x, y in first(data.batches(split, model.device), num_examples):
        ours = model.reconstruct(x, y)
        kept.append((x.cpu(), ours.cpu()))
        values = errors_of_values(modality.unscale(x), modality.unscale(ours), ~x.isnan())
        if modality.are_viewable(x):
            values |= of_pictures(x, ours.clamp(0, 1), distances)
        for name, part in values.items():
            found[name].append(part.double().cpu())
    report: dict[str, Any] = {"reconstruction_num_examples": sum(len(x) for x, _ in kept)}
    for name, parts in found.items():
        report |= average(name, torch.cat(parts))
    if features != "none" and len(kept) and not any(bool(x.isnan().any()) for x, _ in kept):
        report |= of_features(data, split, kept, features, num_train, num_epochs, model.device)
    return report | code_usage(model, data.batches(split, model.device))


def errors_of_values(
    x: Float[Tensor, "b ..."], ours: Float[Tensor, "b ..."], known: Bool[Tensor, "b ..."]
) -> dict[str, Float[Tensor, "b"]]:
    """Mean square and mean absolute error over the known values of each example."""
    error = torch.where(known, ours - x, 0.0).flatten(1).double()
    num = known.flatten(1).sum(1).clamp(min=1)
    return {"reconstruction_mse": error.square().sum(1) / num, "reconstruction_l1": error.abs().sum(1) / num}


def of_pictures(
    x: Float[Tensor, "b c h w"], ours: Float[Tensor, "b c h w"], distances: Mapping[str, Distance]
) -> dict[str, Float[Tensor, "b"]]:
    """PSNR of pictures in [0, 1], SSIM, if there is room for its window, and other distances, of pictures in colour."""
    found = {"psnr": -10 * (ours - x).double().square().flatten(1).mean(1).clamp(min=1e-12).log10()}  # at most 120 dB
    if min(x.shape[2:]) >= LEAST_SIDE:
        image = import_module("torchmetrics.functional.image")  # which takes long to import
        pair = (ours.double(), x.double())  # variances are differences of squares
        found["ssim"] = image.structural_similarity_index_measure(*pair, data_range=1.0, reduction="none").reshape(-1)
    for name, distance in distances.items():
        found[name] = distance(ours.expand(-1, 3, -1, -1), x.expand(-1, 3, -1, -1))
    return found


def chosen_lpips(network: str, modality: Any) -> str | None:
    """The network whose features LPIPS compares; None: there is none.

    Raises:
        ValueError: if one was asked for that has no weights on this machine, or cannot see x.
    """
    if network == "none":
        return None
    name = "alex" if network == "auto" else network
    path, side = weights_of_lpips(name), LPIPS[name][1]
    large = modality.is_viewable and min(modality.shape[1:]) >= side
    if network == "auto":
        return name if large and path.is_file() else None
    if not large:
        raise ValueError(f"lpips={name} needs pictures of at least {side} x {side}, but x has shape {modality.shape}: set lpips=none")
    if not path.is_file():
        raise ValueError(f"lpips={name} needs torchvision's weights as {path}: put them there, or set lpips=none")
    return name


def weights_of_lpips(network: str) -> Path:
    """The file where torchvision keeps the weights of a network."""
    return Path(torch.hub.get_dir()) / "checkpoints" / LPIPS[network][0]


def lpips_distance(network: str, device: torch.device) -> Distance:
    """LPIPS with its weights, read once.

    Raises:
        ValueError: if the file of weights cannot be read.
    """
    try:
        metric = import_module("torchmetrics.image.lpip").LearnedPerceptualImagePatchSimilarity(net_type=network).to(device)
    except Exception as error:  # of torch.load, of many kinds
        raise ValueError(
            f"{weights_of_lpips(network)} cannot be read as torchvision's weights: put the file there anew, or set lpips=none"
        ) from error
    return lambda ours, x: metric.net(ours, x, normalize=True).reshape(-1)


def of_features(
    data: Data, split: str, kept: list[tuple[Tensor, Tensor]], features: str, num_train: int, num_epochs: int, device: torch.device
) -> dict[str, float]:
    """The Frechet distance between features of scaled examples and of their reconstructions."""
    modality = data.splits[split].modality
    x, y = examples(data, "train", num_train, transformed=True)
    space = feature_space(features, x, modality.are_viewable(x))
    if space == "classifier" and features == "auto" and not bool(labelled(y).any()):
        space = "pixels"
    extractor: Features = pixels
    if space == "inception":
        extractor = inception(device)
    if space == "classifier":
        with torch.enable_grad():
            extractor = learned(x, y, num_epochs, lambda part: part.to(device)).features
    theirs, ours = (extract(extractor, (pair[place].to(device) for pair in kept)) for place in (0, 1))
    name = "rfid" if space == "inception" else f"frechet_distance_of_reconstructions_{space}"
    return {name: frechet_distance(theirs, ours)} if len(theirs) > 1 else {}
