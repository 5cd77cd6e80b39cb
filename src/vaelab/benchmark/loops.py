"""Loops that one would write by hand, and their images per second."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import to_tensor

from vaelab.benchmark.alone import device_of, synchronize
from vaelab.build import build, build_data
from vaelab.data import InMemory
from vaelab.data.modality import Images, to_float
from vaelab.models import VAE
from vaelab.training.fastest import STANDARD
from vaelab.training.lit import LitVAE
from vaelab.training.speed import ask_cuda_cheaply, keep_freed_memory


class Items(Dataset):
    """A dataset as tutorials have it: a PIL picture for each item, made a tensor one by one."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        array = self.x[index].permute(1, 2, 0).numpy()
        return to_tensor(Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array)), 0


def by_hand(plain: dict[str, Any], per_item: bool = False, objective: bool = False, kept: bool = False) -> float:
    """Images per second of what a tutorial writes: networks, reparameterisation, the two terms, and the optimizer of the config.

    Args:
        plain: the config.
        per_item: whether a DataLoader makes each picture a tensor; else batches are taken out of one tensor.
        objective: whether the loss is that of the config's model and objective; else it is written out.
        kept: whether freed memory is kept for the next allocation, as `vaelab train` does.

    Raises:
        ValueError: if the config has a loss that is not written out here.
    """
    if kept:
        keep_freed_memory()
    ask_cuda_cheaply()  # as without Lightning
    config = OmegaConf.create({**plain, "speed": STANDARD})
    device, epochs = device_of(config), config.benchmark.epochs
    x = images(config)
    loop = tutorial_loop(x, config.data.batch_size, device) if per_item else tensor_loop(x.to(device), config.data.batch_size)
    torch.manual_seed(config.seed)
    lit = build(config).to(device)
    loss_of = partial(loss_of_objective, lit) if objective else written_out(lit.model, config)
    optimizer = instantiate(config.optimizer)(lit.model.parameters())
    start = 0.0
    for epoch in range(epochs + 1):
        if epoch == 1:  # the first is not measured
            synchronize(device)
            start = time.perf_counter()
        for batch in loop():
            loss = loss_of(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    synchronize(device)
    return epochs * len(x) / (time.perf_counter() - start)


def loss_of_objective(lit: LitVAE, batch: Tensor) -> Tensor:
    """The loss of a model by its objective."""
    return lit.objective(lit.objective.draw(lit.model, batch), 0)["loss"]


def written_out(model: nn.Module, config: DictConfig) -> Callable[[Tensor], Tensor]:
    """The loss of a VAE with a diagonal Gaussian posterior and a standard normal prior, as a tutorial writes it, by the model's networks.

    Raises:
        ValueError: if the config has a loss that is not written out here.
    """
    beta, binary = config.objective.beta, config.likelihood._target_.endswith("Bernoulli")
    if not isinstance(beta, int | float) or not (binary or isinstance(config.likelihood.sigma, int | float)):
        raise ValueError("the hand-written loop knows a constant beta, and the likelihoods Bernoulli and Gaussian with a fixed sigma")
    assert isinstance(model, VAE)
    encoder, decoder = model.posterior.network, model.likelihood.network
    assert isinstance(encoder, nn.Module)
    assert isinstance(decoder, nn.Module)

    def loss_of(batch: Tensor) -> Tensor:
        mean, log_scale = encoder(batch).unbind(1)
        z = mean + log_scale.exp() * torch.randn_like(mean)
        output = decoder(z).squeeze(1)
        if binary:
            distortion = nn.functional.binary_cross_entropy_with_logits(output, batch, reduction="sum") / len(batch)
        else:
            distortion = nn.functional.mse_loss(output, batch, reduction="sum") / (2 * config.likelihood.sigma**2 * len(batch))
        rate = 0.5 * (mean.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).sum() / len(batch)
        return distortion + beta * rate

    return loss_of


def images(config: DictConfig) -> Tensor:
    """The training images of the config, as they lie in memory."""
    datamodule = build_data(config)
    datamodule.setup("fit")
    split = datamodule.splits["train"]
    if not isinstance(split.dataset, InMemory) or split.dataset.x.dtype != torch.uint8 or not isinstance(datamodule.modality, Images):
        raise ValueError("the benchmark needs 8-bit images that are held in memory")
    return split.dataset.x[split.indices]


def tensor_loop(x: Tensor, batch_size: int) -> Callable[[], Iterator[Tensor]]:
    """Epochs over a tensor that stays where it is."""

    def epoch() -> Iterator[Tensor]:
        for indices in torch.randperm(len(x), device=x.device).split(batch_size):
            yield to_float(x[indices])

    return epoch


def tutorial_loop(x: Tensor, batch_size: int, device: torch.device) -> Callable[[], Iterator[Tensor]]:
    """Epochs over a DataLoader as tutorials set it up."""
    loader = DataLoader(Items(x), batch_size=batch_size, shuffle=True)
    return lambda: (batch.to(device) for batch, _ in loader)
