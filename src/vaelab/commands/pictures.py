"""Pictures of one's own, which a run is shown in place of its test data."""

from pathlib import Path

import torch

from vaelab.build import OpenedRun
from vaelab.data import Table
from vaelab.data.array_files import ENDINGS
from vaelab.data.arrays import all_of
from vaelab.data.columns import Column
from vaelab.data.images import check_readable, pictures_of
from vaelab.data.memory import Examples, InMemory
from vaelab.data.pictures import Reader
from vaelab.data.split import Split, check_finite

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
        table = Table(str(file), na=trained.na, header=trained.header)
        x = table.values([Column.of_dict(each) for each in run.datamodule.recorded["columns"]])
        return InMemory(torch.from_numpy(x).float(), names=table.names)
    if file.suffix.lower() not in ENDINGS:
        pictures = pictures_of(file, reader_of(run))
        check_readable(pictures.broken())
        return pictures
    found, shape = all_of(file, axes=run.config.data.get("axes")), run.datamodule.shape
    if tuple(found.x.shape[1:]) != shape:
        raise ValueError(f"{file} has x of shape {tuple(found.x.shape[1:])}, but the data of the run have shape {shape}")
    check_finite(found.x, run.datamodule.missing, lambda row: f"row {row} of {file}", run.datamodule.scale == "log1p")
    return found


def short_name(name: str, most: int = 20) -> str:
    """The name of a file with its class, or "row 17"; of a long one, the end."""
    return "/".join(name.split("/")[-2:])[-most:]
