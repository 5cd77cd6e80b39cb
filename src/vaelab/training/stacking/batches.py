"""The batches of all models of a stack."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor

from vaelab import rng
from vaelab.data import DataModule, InMemory
from vaelab.data.batches import Loader
from vaelab.data.split import Split
from vaelab.training.stacking.noise import NotStackableError


class BatchOrder:
    """The training batches of one model in the order of its epochs, as indices.

    Args:
        trainer: of the model, in a fit.

    Raises:
        NotStackableError: if its data are not those of a data module of this package, read in this process.
    """

    def __init__(self, trainer: Trainer) -> None:
        (loader,) = trainer.fit_loop._combined_loader.flattened  # type: ignore[union-attr]
        if not isinstance(loader, Loader) or not isinstance(loader.dataset, Split):
            raise NotStackableError(f"its data come from a {type(loader).__name__} of {type(loader.dataset).__name__}")
        if loader.num_workers:
            raise NotStackableError("its data are read by processes of their own: set data.num_workers=0")
        if loader.pin_memory:
            raise NotStackableError("its data are not on the GPU: set data.device_resident=true")
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(datamodule, DataModule)
        self.split, self.sampler, self.datamodule = loader.dataset, loader.sampler, datamodule
        self.batches, self.first = list[Tensor](), 0
        if self.draws and trainer.strategy.root_device.type != "cpu":
            raise NotStackableError("random numbers change its data, on a GPU")

    def begin_epoch(self, done: int) -> None:
        """Looks up the order of an epoch, of which so many batches are done."""
        self.batches, self.first = list(self.sampler), done

    def batch(self, number: int) -> Tensor:
        """The indices of a batch of the epoch."""
        return self.batches[number - self.first]

    @property
    def draws(self) -> bool:
        """True if random numbers change the examples of a batch."""
        return bool(self.datamodule.augment) or (self.datamodule.transform is not None and self.datamodule.static_seed is None)

    def source(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """x and y of the whole split, or of a dataset of which these indices are the split; None if batches are asked for one by one."""
        split = self.split
        if not isinstance(split.dataset, InMemory) or self.draws or self.datamodule.modality.scaling is not None:
            return None
        if split.transform is None:
            return split.dataset.x, split.dataset.y, split.indices
        return None


class Gathered:
    """Batches of several models at once, by one look-up where they have the same data.

    Args:
        orders: of each model.
    """

    def __init__(self, orders: Sequence[BatchOrder]) -> None:
        self.orders = orders
        sources = [order.source() for order in orders]
        self.shared = None
        if all(source is not None and same(source, sources[0]) for source in sources):
            self.shared = sources[0]

    def __call__(self, found: Sequence[Tensor], generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        """x (M, B, ...) and y (M, B, ...) of a batch of each model.

        Args:
            found: the indices of the examples of each model.
            generators: of the models, from which a transform draws.
        """
        if self.shared is not None:
            x, y, indices = self.shared
            places = torch.stack(list(found))
            rows = indices.to(places.device)[places.flatten()]
            x, y = self.orders[0].datamodule.modality.scale(x[rows]), y[rows]
            return x.unflatten(0, places.shape), y.unflatten(0, places.shape)
        xs, ys = [], []
        for order, batch, generator in zip(self.orders, found, generators, strict=True):
            if order.draws:
                rng.restore_device(generator.get_state(), generator.device)
            x, y = order.datamodule.on_after_batch_transfer(order.split[batch], 0)
            if order.draws:
                generator.set_state(rng.of_device(generator.device))
            xs.append(x)
            ys.append(y)
        return torch.stack(xs), torch.stack(ys)


def same(a: Any, b: Any) -> bool:
    """True if two sources hold the same examples."""
    return all(u is v or (u.shape == v.shape and u.dtype == v.dtype and torch.equal(u, v)) for u, v in zip(a, b, strict=True))
