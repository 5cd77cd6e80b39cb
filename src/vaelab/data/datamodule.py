"""The one LightningDataModule: splits, batches, devices."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from jaxtyping import Int
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vaelab.checks import check_whole
from vaelab.data.memory import Examples, InMemory
from vaelab.data.modality import Modality, modality_of
from vaelab.data.transforms import Transform
from vaelab.data.views import Classes, hide_labels, only_classes

Transformation = Transform | Callable[..., Tensor]  # of (x, generator=None)


class Batches(Sampler[Tensor]):
    """The indices of one epoch's batches on one of several processes.

    Training: a permutation that depends on (seed, epoch) alone, dealt out to the ranks so that every rank has its own disjoint
    share and all of them have equally many examples; at most world_size - 1 examples appear twice, to make it so. A last batch of one
    example is joined to the one before it: what compares the examples of a batch would have nothing to compare.
    Evaluation: every example exactly once over all ranks, in as many batches on each, so that no rank waits for another.
    """

    def __init__(self, num_examples: int, batch_size: int, training: bool, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        if num_examples < world_size:
            raise ValueError(f"{num_examples} examples cannot be shared by {world_size} processes: set trainer.devices=1")
        self.num_examples, self.batch_size, self.training = num_examples, batch_size, training
        self.seed, self.rank, self.world_size, self.epoch = seed, rank, world_size, 0
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
            yield from torch.arange(self.num_examples).tensor_split(len(self) * self.world_size)[self.rank :: self.world_size]
            return
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        order = torch.randperm(self.num_examples, generator=generator)
        order = torch.cat([order, order[: -self.num_examples % self.world_size]])
        batches = list(order[self.rank :: self.world_size].split(self.batch_size))
        if len(batches) > len(self):
            batches[-2:] = [torch.cat(batches[-2:])]
        epoch, done = self.done
        yield from batches[done:] if epoch == self.epoch else batches


class Split(Dataset):
    """Some examples of a dataset, asked for a batch at a time.

    With a transform and a seed, each example carries the same random draw whenever and wherever it is asked for: the draw depends
    on its index alone, not on batch size, process or epoch.
    """

    def __init__(
        self, dataset: Examples, indices: Int[Tensor, "n"], modality: Modality, transform: Transformation | None = None, seed: int = 0
    ) -> None:
        self.dataset, self.indices, self.modality, self.transform, self.seed = dataset, indices, modality, transform, seed

    @property
    def y_names(self) -> tuple[str, ...]:
        """Names of the classes, or of the factors; none if the dataset has none."""
        return tuple(getattr(self.dataset, "y_names", ()))

    @property
    def y_values(self) -> dict[str, Sequence[str]]:
        """Names of the values of some factors."""
        return dict(getattr(self.dataset, "y_values", {}))

    @property
    def y_cyclic(self) -> tuple[str, ...]:
        """Names of the factors whose last value is next to the first."""
        return tuple(getattr(self.dataset, "y_cyclic", ()))

    @property
    def num_levels(self) -> int | None:
        """The levels that x have been dequantised of; None if they have not been."""
        return self.transform.num_levels if isinstance(self.transform, Transform) else None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, batch: Int[Tensor, "b"]) -> tuple[Tensor, Tensor]:
        indices = self.indices[batch]
        if isinstance(self.dataset, InMemory):
            x, y = self.dataset[indices]
        else:
            xs, ys = zip(*(self.dataset[i] for i in indices.tolist() or [0]), strict=True)  # [0]: an empty batch has a shape too
            x, y = torch.stack(xs)[: len(indices)], torch.stack([torch.as_tensor(y) for y in ys])[: len(indices)]
        if self.transform is None:
            return x, y
        drawn, generator = self.modality.scale(x).cpu(), torch.Generator()
        for row, i in enumerate(indices.tolist()):
            drawn[row] = self.transform(drawn[row], generator=generator.manual_seed(1_000_003 * self.seed + i))
        return drawn.to(x.device), y

    def scaled(self, batch: Int[Tensor, "b"], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """A batch as models see it."""
        x, y = self[batch]
        return self.modality.scale(x.to(device)), y.to(device)

    def untransformed(self) -> "Split":
        """The same examples as they are before a transform."""
        return Split(self.dataset, self.indices, self.modality)


class DataModule(LightningDataModule):
    """Train, validation and test batches (x, y) of one dataset.

    >>> data = DataModule(lambda split: InMemory(torch.rand(100, 9)), shape=[9], batch_size=20, val_size=20)
    >>> data.setup("fit")
    >>> [x.shape for x, y in data.batches("val")]
    [torch.Size([20, 9])]

    The test data are not read before evaluation asks for them. Validation data are taken out of the training data at random, by
    `split_seed` and not by the seed of training, so that runs with different seeds share them; a checkpoint remembers them.

    Args:
        dataset: dataset(split=...) for "train" and "test" (and "val" if val_size is None): an `InMemory`, or any dataset whose [i] is
            (x, y). 8-bit x is divided by 255 on the device.
        shape: of one x.
        batch_size: of training, on each device.
        eval_batch_size: of validation and test, on each device.
        val_size: how many training examples to validate on, or which share of them if below 1; None if the dataset has a split of its own.
        split_seed: of the validation split, and of what a random transform does to evaluation data.
        seed: of the order of the training data.
        transform: (x, generator=None) -> x of a batch in [0, 1], or None: drawn anew for each training batch, once for evaluation.
        static_seed: makes the transform of training data a fixed one as well.
        num_workers: processes that load batches; 0 is fastest for data in memory.
        device_resident: keep data that are in memory on the accelerator.
        num_labelled: how many of the training examples keep their label, chosen by `split_seed`; y is -1 for the others. None: all.
        classes: to train and validate on: [3], or {"shape": [0]} of data with factors. The test data keep all classes, and the validation
            data are those of the usual split that are of these classes. None: all.
    """

    def __init__(
        self,
        dataset: Callable[..., Examples],
        shape: Sequence[int],
        batch_size: int = 128,
        eval_batch_size: int = 500,
        val_size: int | float | None = None,
        split_seed: int = 0,
        seed: int = 0,
        transform: Transformation | None = None,
        static_seed: int | None = None,
        num_workers: int = 0,
        device_resident: bool = False,
        num_labelled: int | None = None,
        classes: Classes | None = None,
    ) -> None:
        super().__init__()
        if isinstance(transform, Transform) and transform.once and static_seed is None:
            raise ValueError("data.transform hides values, and which ones must not change between epochs: set data.static_seed=0")
        check_whole(1, batch_size=batch_size, eval_batch_size=eval_batch_size)
        self.dataset, self.shape, self.batch_size, self.eval_batch_size = dataset, tuple(shape), batch_size, eval_batch_size
        self.modality = modality_of(self.shape)
        self.val_size, self.split_seed, self.seed, self.transform = val_size, split_seed, seed, transform
        self.static_seed, self.num_workers, self.device_resident = static_seed, num_workers, device_resident
        self.num_labelled, self.classes = num_labelled, classes
        self.splits: dict[str, Split] = {}
        self.resumed = (0, 0)  # of a run that goes on: the epoch, and how many of its batches are done

    def setup(self, stage: str) -> None:
        """Reads the data of a stage ("fit", "validate" or "test"), once.

        Raises:
            ValueError: if their shape is not `shape`, or there are too few for the validation split.
        """
        if stage in ("fit", "validate") and "train" not in self.splits:
            train = self._read("train")
            if self.val_size is None:
                val, train_indices = self._read("val"), torch.arange(len(train))
                val_indices = torch.arange(len(val))
            else:
                size = round(self.val_size * len(train)) if 0 < self.val_size < 1 else int(self.val_size)
                if not 0 < size < len(train):
                    raise ValueError(
                        f"data.val_size={self.val_size} leaves nothing to validate or to train on: there are {len(train)} training examples"
                    )
                val, order = train, torch.randperm(len(train), generator=torch.Generator().manual_seed(self.split_seed))
                val_indices, train_indices = order[:size], order[size:]
            if self.classes is not None:
                train_indices, val_indices = only_classes(train, self.classes, train_indices), only_classes(val, self.classes, val_indices)
            static = self.static_seed is not None
            if self.num_labelled is not None:
                train = hide_labels(train, self.num_labelled, train_indices, self.split_seed)
            self.splits["train"] = Split(train, train_indices, self.modality, self.transform if static else None, self.static_seed or 0)
            self.splits["val"] = Split(val, val_indices, self.modality, self.transform, self.split_seed)
        if stage == "test" and "test" not in self.splits:
            test = self._read("test")
            # another seed than the validation data's: example i of one is not example i of the other
            # in random order: a folder is sorted by class, and the first examples of a split should stand for all
            order = torch.randperm(len(test), generator=torch.Generator().manual_seed(self.split_seed))
            self.splits["test"] = Split(test, order, self.modality, self.transform, self.split_seed + 1)

    def _read(self, split: str) -> Examples:
        try:
            dataset = self.dataset(split=split)
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            raise ValueError(f"data.dataset: {error}") from error
        shape = tuple(dataset[0][0].shape)
        if shape != self.shape:
            raise ValueError(f"data.shape says {list(self.shape)}, but the {split} data have shape {list(shape)}")
        return dataset

    def train_dataloader(self) -> DataLoader:
        loader = self._loader("train", training=True)
        loader.sampler.resume_at(*self.resumed)  # type: ignore[attr-defined]  # now: worker processes ask for batches before set_epoch is called
        return loader

    def val_dataloader(self) -> DataLoader:
        return self._loader("val", training=False)

    def test_dataloader(self) -> DataLoader:
        return self._loader("test", training=False)

    def _loader(self, name: str, training: bool, shared: bool = True) -> DataLoader:
        split = self.splits[name]
        rank, world_size, device = 0, 1, torch.device("cpu")
        if self.trainer is not None:
            device = self.trainer.strategy.root_device
            rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if shared else (rank, world_size)
        if self.device_resident:
            if not isinstance(split.dataset, InMemory):
                raise ValueError("data.device_resident=true needs data that are in memory; these are read file by file: set it to false")
            if split.dataset.x.device != device:
                original, moved = split.dataset, split.dataset.to(device)
                for other in self.splits.values():
                    if other.dataset is original:  # training and validation data are usually parts of one tensor
                        other.dataset = moved
        return DataLoader(
            split,
            sampler=Batches(len(split), self.batch_size if training else self.eval_batch_size, training, self.seed, rank, world_size),
            batch_size=None,  # the sampler's items are whole batches already
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=device.type == "cuda" and not self.device_resident,
            generator=torch.Generator().manual_seed(self.seed),  # else every iterator would draw from the generator that trains
        )

    def on_after_batch_transfer(self, batch: Sequence[Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Scales x on the device, and draws a dynamic transform of a training batch."""
        x, y = batch
        return self._shown(x, self.trainer is not None and self.trainer.training), y

    def _shown(self, x: Tensor, training: bool) -> Tensor:
        """x of a batch as the model is shown them."""
        x = self.modality.scale(x)
        return self.transform(x) if training and self.transform is not None and self.static_seed is None else x

    def batches(self, split: str, device: torch.device | str = "cpu") -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over "train", "val" or "test" by this process alone; training batches come shuffled and freshly transformed.

        A trainer's limit_train_batches, limit_val_batches and limit_test_batches hold, also after training; 0 does not: it turns off the
        validation of epochs.
        """
        self.setup("test" if split == "test" else "fit")
        loader = self._loader(split, training=split == "train", shared=False)
        limit = getattr(self.trainer, f"limit_{split}_batches", 1.0) or 1.0
        for x, y in islice(loader, limit if isinstance(limit, int) else max(1, int(limit * len(loader)))):
            yield self._shown(x.to(device), split == "train"), y.to(device)

    def examples(self, split: str, num: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """The first `num` examples of `batches`, or all if there are fewer."""
        xs, ys = list[Tensor](), list[Tensor]()
        for x, y in self.batches(split, device):
            xs.append(x)
            ys.append(y)
            if sum(map(len, xs)) >= num:
                break
        return torch.cat(xs)[:num], torch.cat(ys)[:num]

    def state_dict(self) -> dict[str, Any]:
        """The validation split goes into the checkpoint, so that a resumed run cannot train on what it validated on."""
        return {"val_indices": self.splits["val"].indices, "num_train": len(self.splits["train"])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compares the split of a checkpoint with the one of the data found now.

        Raises:
            ValueError: if they differ.
        """
        if "train" not in self.splits:
            return  # the test data alone have been read
        now = self.state_dict()
        if now["num_train"] != state_dict["num_train"] or not torch.equal(now["val_indices"], state_dict["val_indices"]):
            raise ValueError(
                f"the checkpoint was trained on {state_dict['num_train']} examples and validated on {len(state_dict['val_indices'])},"
                f" but the data found now split into {now['num_train']}"
                f" and {len(now['val_indices'])} or into others: check paths.data_dir and data.split_seed"
            )
