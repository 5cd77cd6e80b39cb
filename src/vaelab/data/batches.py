"""The order in which examples are asked for, and who brings them."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, SequentialSampler


class Loader(DataLoader):
    """A DataLoader whose sampler gives whole batches; without processes of its own it asks the dataset directly, which is cheaper."""

    def __iter__(self) -> Iterator[Any]:
        if self.num_workers or self.pin_memory:
            return super().__iter__()
        return (self.dataset[batch] for batch in self.sampler)


class Batches(Sampler[Tensor]):
    """The indices of one epoch's batches on one of several processes.

    Training: a permutation that depends on (seed, epoch) alone, dealt out to the ranks so that every rank has its own disjoint
    share and all of them have equally many examples; at most world_size - 1 examples appear twice, to make it so. A last batch of one
    example is joined to the one before it: what compares the examples of a batch would have nothing to compare.
    Evaluation: every example exactly once over all ranks, in as many batches on each, so that no rank waits for another.

    The indices are on a device of choice: that of the data, where a batch is then taken out of them without a copy.
    """

    has_order_of_epoch = True  # or that of the first epoch in each

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        training: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        if num_examples < world_size:
            raise ValueError(f"{num_examples} examples cannot be shared by {world_size} processes: set trainer.devices=1")
        self.num_examples, self.batch_size, self.training = num_examples, batch_size, training
        self.seed, self.rank, self.world_size, self.device, self.epoch = seed, rank, world_size, device, 0
        self.done = (0, 0)

    def resume_at(self, epoch: int, batch: int) -> None:
        """Begin that epoch after so many batches, on which a resumed run has trained already."""
        self.epoch, self.done = epoch, (epoch, batch)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        share = -(-self.num_examples // self.world_size)
        return -(-share // self.batch_size) - self._has_remainder(share)

    def _has_remainder(self, share: int) -> bool:
        return self.training and share > self.batch_size and share % self.batch_size == 1

    def __iter__(self) -> Iterator[Tensor]:
        if not self.training:
            yield from torch.arange(self.num_examples, device=self.device).tensor_split(len(self) * self.world_size)[
                self.rank :: self.world_size
            ]
            return
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch * self.has_order_of_epoch)
        order = torch.randperm(self.num_examples, generator=generator).to(self.device)
        order = torch.cat([order, order[: -self.num_examples % self.world_size]])
        batches = list(order[self.rank :: self.world_size].split(self.batch_size))
        if len(batches) > len(self):
            batches[-2:] = [torch.cat(batches[-2:])]
        epoch, done = self.done
        yield from batches[done:] if epoch == self.epoch else batches


class SameBatches(Batches, SequentialSampler):  # type: ignore[misc]  # items are batches
    """The same batches in each epoch. For trainer.overfit_batches, Lightning replaces every sampler that is not a SequentialSampler."""

    has_order_of_epoch = False
