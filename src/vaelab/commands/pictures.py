"""Data of one's own, which a run is shown in place of its test data, and the labels of examples."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelab.build import OpenedRun
from vaelab.data import DataModule, Table
from vaelab.data.array_files import ENDINGS
from vaelab.data.arrays import all_of
from vaelab.data.columns import Column
from vaelab.data.images import ImageFiles, check_readable, pictures_of
from vaelab.data.memory import Examples, InMemory
from vaelab.data.modality import Images
from vaelab.data.pictures import Reader
from vaelab.data.split import Split, check_finite
from vaelab.data.table import noted
from vaelab.data.table_files import ENDINGS as TABLES
from vaelab.models import Model
from vaelab.runs.log import tell

NEW = "new"  # the split of pictures that a command was given


def reader_of(run: OpenedRun) -> Reader:
    """The reader of pictures as those of the run were read."""
    options = {name: run.config.data[name] for name in ("crop", "background", "white") if name in run.config.data}
    return Reader(run.datamodule.shape, **options)


def show_pictures(run: OpenedRun, file: str | None) -> str:
    """Name of the split that a command is about: "test", or "new" of pictures, an array or a table, which the data module has then.

    Args:
        run: that is shown them.
        file: path of them; None: the test data.

    Raises:
        ValueError: if there is no such file, or it cannot be read as examples of the shape of the run's data.
    """
    if file is None:
        return "test"
    if not Path(file).exists():
        raise ValueError(
            f"input={file} is not there: give a picture, a folder of pictures, an array, or a table, as the run was trained on"
        )
    data, found = run.datamodule, examples_of(Path(file), run)
    data.splits[NEW] = Split(found, torch.arange(len(found)), data.modality, data.transform, data.split_seed + 1, data.missing)
    return NEW


def examples_of(file: Path, run: OpenedRun) -> Examples:
    """Pictures of a file or folder; or the rows of an array, with the axes that the run's data have; or those of a table.

    Raises:
        ValueError: if they cannot be read, are of another shape, or have values that are no numbers.
    """
    trained = run.datamodule.dataset
    if isinstance(trained, Table):
        return rows_of_table(file, trained, run.datamodule)
    if file.suffix.lower() not in ENDINGS:
        if not isinstance(run.datamodule.modality, Images):
            raise ValueError(f"input={file} is no array, as the run was trained on: give a file that ends in {', '.join(ENDINGS)}")
        pictures = pictures_of(file, reader_of(run))
        check_readable(pictures.broken())
        return pictures
    found, shape = all_of(file, run.config.data.get("key"), run.config.data.get("axes")), run.datamodule.shape
    if tuple(found.x.shape[1:]) != shape:
        raise ValueError(f"{file} has x of shape {tuple(found.x.shape[1:])}, but the data of the run have shape {shape}")
    check_finite(found.x, run.datamodule.missing, lambda row: f"row {row} of {file}", run.datamodule.scale == "log1p")
    return found


def rows_of_table(file: Path, trained: Table, data: DataModule) -> InMemory:
    """The rows of a table, named by the column that named those of the run.

    Raises:
        ValueError: if it cannot be read, lacks a column of the run, or has a cell that a column cannot have.
    """
    if file.suffix.lower() not in TABLES:
        raise ValueError(f"input={file} is no table, as the run was trained on: give a file that ends in {', '.join(TABLES)}")
    table = Table(str(file), id=data.recorded.get("id", trained.id), na=trained.na, header=trained.header)
    x, unseen = table.read(table_columns(data), data.missing)
    tell(noted(unseen)) if unseen else None
    found = InMemory(torch.from_numpy(x), names=table.all_names(len(x)))
    check_finite(found.x, data.missing, lambda row: f"{found.names[row]} of {file}")
    return found


def table_columns(data: DataModule) -> list[Column]:
    """The columns of the table that a run was trained on, those of its file if it has no record of them; none of other data."""
    if not isinstance(data.dataset, Table):
        return []
    return [Column.of_dict(each) for each in data.recorded.get("columns", [])] or list(data.dataset.columns)


def short_name(name: str, most: int = 20) -> str:
    """The name of a file with its class, or "row 17"; of a long one, the end."""
    return "/".join(name.split("/")[-2:])[-most:]


def in_order(split: Split, num: int | None = None) -> Split:
    """The first so many examples of a split, or all, in the order of its file, folder or dataset."""
    return Split(split.dataset, split.indices[:num].sort().values, split.modality, split.transform, split.seed, split.missing)


def class_of(run: OpenedRun, y: Any) -> int | None:
    """The number of the class that a command was given, by its name or else by its number; None if it was given none.

    Raises:
        ValueError: if the model does not look at y, or there is no such class.
    """
    if y is None:
        return None
    classes = run.model.num_classes
    if not classes:
        raise ValueError(f"y={y}: this run is not conditional on y (num_classes=0), and knows no classes")
    run.datamodule.setup("fit")
    names = run.datamodule.splits["train"].y_names
    if str(y) in names:
        return names.index(str(y))
    if isinstance(y, bool) or not isinstance(y, int) or not 0 <= y < classes:
        raise ValueError(f"y={y} is no class: there are {', '.join(names) if names else f'0 to {classes - 1}'}")
    return y


def labels_with(model: Model, y: Tensor, chosen: int | None = None) -> Tensor:
    """The labels of examples, or the class that was chosen for all of them.

    Raises:
        ValueError: if the model is conditional, and an example has no label.
    """
    if not model.num_classes:
        return y
    if chosen is not None:
        return torch.full((len(y),), chosen, device=y.device)
    if y.ndim > 1 or (bool((y < 0).any()) and not model.recognises):
        raise ValueError("this run is conditional on y, and an example has none: give the class of all with y=<class>")
    return y


def known_labels(dataset: Examples) -> Tensor | None:
    """Labels of all examples of a dataset; None if they are not known without reading every example."""
    return dataset.y if isinstance(dataset, InMemory) else torch.tensor(dataset.labels) if isinstance(dataset, ImageFiles) else None


def labels_of(split: Split, y: Tensor) -> dict[str, np.ndarray]:
    """Labels of examples by their names, "" where they are not known; or a column for each factor; {} of data without labels."""
    if y.ndim > 1:
        names = split.y_names or [f"y_{place}" for place in range(y.shape[1])]
        return {name: y[:, place].numpy() for place, name in enumerate(names)}
    known = known_labels(split.dataset)
    if known is not None and not bool((known >= 0).any()):
        return {}
    names = split.y_names
    return {"y": np.array(["" if label < 0 else names[label] if label < len(names) else str(label) for label in y.tolist()])}
