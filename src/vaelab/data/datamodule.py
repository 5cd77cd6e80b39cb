"""The one LightningDataModule: splits, batches, devices."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from jaxtyping import Int
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from vaelab.checks import check_choice, check_whole
from vaelab.data.augment import augment_of
from vaelab.data.batches import Batches, Loader, SameBatches
from vaelab.data.columns import Column
from vaelab.data.memory import Examples, InMemory, as_example
from vaelab.data.modality import Images, Rows, modality_of, to_float
from vaelab.data.record import SPLITS, Record, compare, digest_of_values, record_of
from vaelab.data.scaling import SCALES, Scaling, fit_scaling
from vaelab.data.split import Split, Transformation, check_finite, name_of
from vaelab.data.table import Table
from vaelab.data.transforms import Transform
from vaelab.data.views import Classes, hide_labels, only_classes

AT_ONCE = 4096  # training examples that a scaling is fitted to at a time


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
            (x, y) or x, tensors or numpy arrays. 8-bit x is divided by 255 on the device.
        shape: of one x.
        batch_size: of training, on each device.
        eval_batch_size: of validation and test, on each device.
        val_size: how many training examples to validate on, or which share of them if below 1; None if the dataset has a split of its own.
            It is not used for data that have validation data of their own, such as a folder val.
        split_seed: of the validation split, and of what a random transform does to evaluation data.
        seed: of the order of the training data.
        transform: (x, generator=None) -> x of a batch in [0, 1], or None: drawn anew for each training batch, once for evaluation.
        static_seed: makes the transform of training data a fixed one as well.
        num_workers: processes that load batches; 0 is fastest for data in memory.
        device_resident: keep data that are in memory on the accelerator.
        num_labelled: how many of the training examples keep their label, chosen by `split_seed`; y is -1 for the others. None: all.
        classes: to train and validate on: [3], or {"shape": [0]} of data with factors. The test data keep all classes, and the validation
            data are those of the usual split that are of these classes. None: all. Classes may be given by name: ["cat"].
        augment: "flip", "crop" or both, ["flip", "crop"]: how pictures are changed anew whenever they are trained on; None: not at all.
        missing: whether NaN in x is a missing value; else it is refused, as infinite values are.
        scale: "standardize", "minmax" or "log1p", fitted to the training data, or "none": what models see of x; see `fit_scaling`.
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
        augment: str | Sequence[str] | None = None,
        missing: bool = False,
        scale: str = "none",
    ) -> None:
        super().__init__()
        if isinstance(transform, Transform) and transform.once and static_seed is None:
            raise ValueError("data.transform hides values, and which ones must not change between epochs: set data.static_seed=0")
        check_whole(1, batch_size=batch_size, eval_batch_size=eval_batch_size)
        if device_resident and num_workers:
            raise ValueError(
                f"data.num_workers={num_workers} processes cannot load data that data.device_resident=true keeps on the accelerator: set"
                " data.num_workers=0"
            )
        self.dataset, self.shape, self.batch_size, self.eval_batch_size = dataset, tuple(shape), batch_size, eval_batch_size
        check_choice(SCALES, **{"data.scale": scale})
        if scale != "none" and isinstance(dataset, Table):
            raise ValueError(f"data.scale={scale} would scale the codes of categories, too: of a table, likelihood=mixed knows the scales")
        self.modality = Rows(self.shape) if isinstance(dataset, Table) else modality_of(self.shape)
        self.scale = scale
        self.val_size, self.split_seed, self.seed, self.transform = val_size, split_seed, seed, transform
        self.static_seed, self.num_workers, self.device_resident = static_seed, num_workers, device_resident
        self.num_labelled, self.classes, self.missing = num_labelled, classes, missing
        self.augment = augment_of(augment, isinstance(self.modality, Images))
        self.splits: dict[str, Split] = {}
        self.recorded: Record = {}  # of a run: `record` of the data that it was trained on
        self._records: dict[str, dict[str, Any]] = {}
        self._told = ""
        self.resumed = (0, 0)  # of a run that goes on: the epoch, and how many of its batches are done

    def setup(self, stage: str) -> None:
        """Reads the data of a stage ("fit", "validate" or "test"), once; as they were recorded, if they were.

        Raises:
            ValueError: if their shape is not `shape`, there are too few for the validation split, a value is NaN or infinite, or they are
                not those that were recorded.
        """
        if stage in ("fit", "validate") and "train" not in self.splits:
            train = self.read("train")
            contents = getattr(train, "contents", None)
            order = torch.randperm(len(train), generator=torch.Generator().manual_seed(self.split_seed))
            if self.val_size is None or getattr(train, "has_val", False) or (contents is not None and "val" in contents.files):
                val, train_indices = self.read("val"), present(train, torch.arange(len(train)))
                val_indices = present(val, torch.arange(len(val)))
            else:
                val, order = train, present(train, order)
                size = round(self.val_size * len(order)) if 0 < self.val_size < 1 else int(self.val_size)
                if not 0 < size < len(order):
                    raise ValueError(
                        f"data.val_size={self.val_size} leaves nothing to validate or to train on: there are {len(order)} training examples"
                    )
                val_indices, train_indices = order[:size], order[size:]
                known = torch.tensor((self.recorded.get("val") or {}).get("indices", []), dtype=torch.long)
                if len(known) and contents is not None and contents.absent:  # the seed alone would not find them among those that are left
                    val_indices = present(train, known)
                    train_indices = order[~torch.isin(order, known)]
            if self.classes is not None:
                train_indices, val_indices = only_classes(train, self.classes, train_indices), only_classes(val, self.classes, val_indices)
            of_values = digest_of_values(train)
            self._check_recorded("train", train, train_indices, of_values)
            self._check_recorded("val", val, val_indices, of_values if val is train else digest_of_values(val))
            if val is train:
                self._records["val"]["indices"] = val_indices.tolist()
            static = self.static_seed is not None
            if self.num_labelled is not None:
                train = hide_labels(train, self.num_labelled, train_indices, self.split_seed)
            self._keep("train", train, train_indices, self.transform if static else None, self.static_seed or 0)
            self._fit_scaling(self.splits["train"])
            self._keep("val", val, val_indices, self.transform, self._seed_of_draws(val, self.split_seed))
        if stage == "test" and "test" not in self.splits:
            if self.scale != "none" and self.modality.scaling is None:
                self.setup("fit")
            test = self.read("test")
            # in random order: a folder is sorted by class, and the first examples of a split should stand for all
            order = present(test, torch.randperm(len(test), generator=torch.Generator().manual_seed(self.split_seed)))
            self._check_recorded("test", test, order, digest_of_values(test))
            # another seed than the validation data's: example i of one is not example i of the other
            self._keep("test", test, order, self.transform, self._seed_of_draws(test, self.split_seed + 1))

    def _seed_of_draws(self, dataset: Examples, seed: int) -> int:
        """The seed of the transform of validation or test data; that of training if they are the same examples, which are drawn once."""
        return self.static_seed or 0 if getattr(dataset, "is_shared", False) else seed

    def _keep(self, name: str, dataset: Examples, indices: Int[Tensor, "n"], transform: Transformation | None, seed: int) -> None:
        self.splits[name] = Split(dataset, indices, self.modality, transform, seed, self.missing)

    def _fit_scaling(self, train: Split) -> None:
        """Fit data.scale to the training data, as they are after a transform that is drawn once, unless a checkpoint brought it."""
        if self.scale == "none" or self.modality.scaling is not None:
            return
        batches = (train[batch][0] for batch in torch.arange(len(train)).split(AT_ONCE))
        batches = (to_float(x) if x.dtype == torch.uint8 else x for x in batches)
        self.modality.scaling, note = fit_scaling(self.scale, batches, self.shape, self.modality.pooled)
        if note:
            rank_zero_only(print)(f"note: {note}")

    def read(self, split: str) -> Examples:
        """The dataset of a split: all of its examples, before any is chosen.

        Raises:
            ValueError: as `setup`.
        """
        known = self.recorded.get("files") or self.recorded.get("columns")
        takes_it = known and "recorded" in inspect.signature(self.dataset).parameters
        try:
            dataset = self.dataset(split=split, **({"recorded": known} if takes_it else {}))
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            raise ValueError(f"data.dataset: {error}") from error
        if isinstance(self.dataset, Table):
            self.modality.columns = tuple(map(Column.of_dict, self.recorded.get("columns") or ())) or self.dataset.columns
        if isinstance(dataset, TensorDataset) and len(dataset.tensors) < 3:
            dataset = InMemory(dataset.tensors[0], dataset.tensors[1] if len(dataset.tensors) > 1 else None)
        self._tell(dataset)
        there = present(dataset, torch.arange(len(dataset)))
        if not len(there):
            raise ValueError(f"there are no {split} data that can be read")
        shape = tuple(as_example(dataset[int(there[0])], getattr(dataset, "y_names", ()))[0].shape)
        if shape != self.shape:
            raise ValueError(f"data.shape says {list(self.shape)}, but the {split} data have shape {list(shape)}")
        if isinstance(dataset, InMemory):
            check_finite(dataset.x, self.missing, lambda row: f"{name_of(dataset, row)} of the {split} data", self.scale == "log1p")
        return dataset

    @rank_zero_only
    def _tell(self, dataset: Examples) -> None:
        """Say once what was found in a folder of pictures, or in a file, and whether test data are training data."""
        contents = getattr(dataset, "contents", None)
        note = getattr(dataset, "note", "") if contents is None else f"pictures: {contents.note}"
        if getattr(dataset, "is_shared", False):
            shared = f"note: every split has the same {len(dataset):,} {self.modality.plural}: numbers of test data are of training data"
            note = "\n".join(filter(None, (note, shared)))
        if note and self._told != note:
            print(note)
            self._told = note

    def _check_recorded(self, name: str, dataset: Examples, indices: Int[Tensor, "n"], of_values: bytes) -> None:
        self._records[name] = record_of(dataset, indices, of_values)
        words = compare(name, self.recorded, self._records[name], dataset)
        if words:
            rank_zero_only(print)(f"note: {words}")

    def record(self) -> dict[str, Any]:
        """The contents of all splits, as plain types: see `vaelab.data.record`.

        Test data that have not been read are in it only if they are files.
        """
        contents = next((found for split in self.splits.values() if (found := getattr(split.dataset, "contents", None))), None)
        files: dict[str, Any] = {} if contents is None else {"files": {name: dict(files) for name, files in contents.files.items()}}
        known = {**self.recorded, **self._records}
        if isinstance(self.dataset, Table):
            columns = self.modality.columns or self.dataset.columns
            files = {"columns": known.get("columns") or [column.as_dict() for column in columns]}
            files["id"] = self.recorded["id"] if "id" in self.recorded else self.dataset.named_by  # noqa: SIM401  # it is read for that
        return {"split_seed": self.split_seed, **files, **{name: known[name] for name in SPLITS if name in known}}

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
        order = Batches if training and not getattr(self.trainer, "overfit_batches", 0) else SameBatches
        size, where = self.batch_size if training else self.eval_batch_size, device if self.device_resident else "cpu"
        return Loader(
            split,
            sampler=order(len(split), size, training, self.seed, rank, world_size, where),
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
        if training and self.augment:
            x = to_float(x)
            for change in self.augment:
                x = change(x)
        if training and self.transform is not None and self.static_seed is None:
            x = self.transform(to_float(x))
        return self.modality.scale(x)

    def batches(self, split: str, device: torch.device | str = "cpu") -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over "train", "val" or "test" by this process alone; training batches come shuffled and freshly transformed.

        A trainer's limit_train_batches, limit_val_batches and limit_test_batches hold, also after training; 0 does not: it turns off the
        validation of epochs.
        """
        if split not in self.splits:
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
        digests = {name: self._records[name]["digest"] for name in ("train", "val")}
        scaling = {} if self.modality.scaling is None else {"scaling": self.modality.scaling.state_dict()}
        return {"val_indices": self.splits["val"].indices, "num_train": len(self.splits["train"]), "digests": digests, **scaling}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the scaling of a checkpoint, and compares its split with the one of the data found now.

        Raises:
            ValueError: if they differ.
        """
        if "scaling" in state_dict:
            self.modality.scaling = Scaling.of_state(state_dict["scaling"])
        if "train" not in self.splits:
            return  # the test data alone have been read
        now = self.state_dict()
        same = now["num_train"] == state_dict["num_train"] and torch.equal(now["val_indices"], state_dict["val_indices"])
        if not same or state_dict.get("digests", now["digests"]) != now["digests"]:  # older checkpoints have no digests
            raise ValueError(
                f"the checkpoint was trained on {state_dict['num_train']} examples and validated on {len(state_dict['val_indices'])},"
                f" but the data found now split into {now['num_train']}"
                f" and {len(now['val_indices'])} or into others: check paths.data_dir, data.root and data.split_seed"
            )


def present(dataset: Examples, indices: Int[Tensor, "n"]) -> Int[Tensor, "m"]:
    """Those of the examples that can be read, in their order."""
    absent = getattr(dataset, "absent", ())
    return indices[~torch.isin(indices, torch.tensor(sorted(absent)))] if absent else indices
