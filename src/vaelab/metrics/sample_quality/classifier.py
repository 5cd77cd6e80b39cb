"""A small classifier of the data at hand, for its features."""

from collections.abc import Callable, Sequence
from math import prod

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from vaelab.checks import check_at_least
from vaelab.metrics.progress import progress

Scale = Callable[[Tensor], Tensor]  # stored x -> x as models see them, on their device
NUM_FEATURES, WIDTH, BATCH_SIZE = 64, 128, 128


class Classifier(nn.Module):
    """p(y_f | x) of each factor f of variation, or of one label, from features that all heads share.

    Images are halved by convolutions to 8 x 8 or less, other x are taken as vectors. The features are standardised over the training data,
    so that distances between them have no scale of their own.

    Args:
        in_shape: of x.
        num_classes: of each factor.
    """

    def __init__(self, in_shape: Sequence[int], num_classes: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        shape = tuple(in_shape)
        while len(shape) == 3 and max(shape[1:]) > 8:
            channels = min(16 if not layers else 2 * shape[0], 64)
            layers += [nn.Conv2d(shape[0], channels, 3, stride=2, padding=1), nn.ReLU()]
            shape = (channels, *(-(-side // 2) for side in shape[1:]))
        layers += [nn.Flatten(), nn.Linear(prod(shape), WIDTH), nn.ReLU(), nn.Linear(WIDTH, NUM_FEATURES)]
        self.features = nn.Sequential(*layers, nn.BatchNorm1d(NUM_FEATURES, affine=False))
        self.heads = nn.ModuleList(nn.Linear(NUM_FEATURES, count) for count in num_classes)

    def forward(self, x: Float[Tensor, "b ..."]) -> list[Tensor]:
        """The logits of each factor."""
        features = self.features(x)
        return [head(features) for head in self.heads]


def train_classifier(x: Shaped[Tensor, "n ..."], y: Int[Tensor, "n f"], num_epochs: int, scale: Scale) -> Classifier:
    """A classifier, trained with Adam on the sum of the cross-entropies of all factors.

    The weights depend on the examples alone: initialisation and order have a seed of their own, and torch's generator is left as it was.

    Args:
        x, y: the examples; x may be stored, which keeps 8-bit images small.
        num_epochs: how often it sees them.
        scale: makes stored x numbers, on the device to train on.

    Raises:
        ValueError: if num_epochs is below 1, there are fewer than 2 examples, or all of them are of one class.
    """
    check_at_least(1, num_epochs=num_epochs)
    if len(y) < 2 or bool((y == y[0]).all()):
        raise ValueError(f"a classifier needs examples of two classes or more, but there are {len(y)}, all alike: set features=pixels")
    with torch.random.fork_rng(), torch.backends.cudnn.flags(deterministic=True, benchmark=False), torch.enable_grad():
        torch.manual_seed(0)
        classifier = Classifier(x.shape[1:], (y.amax(0) + 1).tolist()).to(scale(x[:1]).device)
        num_steps = num_epochs * max(1, len(x) // BATCH_SIZE)
        optimizer = torch.optim.Adam(classifier.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=num_steps + 1)
        for _ in progress("epochs of the classifier", range(num_epochs)):
            # in equal parts: a last one of one example would have no variance to standardise with
            for batch in torch.randperm(len(x)).tensor_split(num_steps // num_epochs):
                optimizer.zero_grad()
                logits = classifier(scale(x[batch]))
                loss(logits, y[batch].to(logits[0].device)).backward()
                optimizer.step()
                schedule.step()
        standardise(classifier, x, scale)
    return classifier.eval()


@torch.no_grad()
def standardise(classifier: Classifier, x: Shaped[Tensor, "n ..."], scale: Scale) -> None:
    """Replaces the running averages, which remember weights of the past, by those of one pass over the training data."""
    norm = classifier.features[-1]
    assert isinstance(norm, nn.BatchNorm1d)
    norm.reset_running_stats()
    norm.momentum = None  # all batches count alike
    for part in x.tensor_split(max(1, len(x) // 500)):
        classifier.features(scale(part))


def loss(logits: Sequence[Tensor], y: Int[Tensor, "b f"]) -> Float[Tensor, ""]:
    """-log p(y | x): the sum over factors, the mean over examples."""
    return torch.stack([functional.cross_entropy(factor, labels) for factor, labels in zip(logits, y.T, strict=True)]).sum()


@torch.no_grad()
def correct(classifier: Classifier, x: Shaped[Tensor, "n ..."], y: Int[Tensor, "n f"], scale: Scale) -> Bool[Tensor, "n f"]:
    """True for the factors of the examples whose most probable class is right."""
    guesses = [torch.stack([factor.argmax(1) for factor in classifier(scale(part))], dim=1) for part in x.split(500)]
    return torch.cat(guesses).cpu() == y.cpu()
