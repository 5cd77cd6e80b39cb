"""Pictures of one's own, which a run is shown in place of its test data."""

from pathlib import Path

import torch

from vaelab.build import OpenedRun
from vaelab.data.images import check_readable, pictures_of
from vaelab.data.pictures import Reader
from vaelab.data.split import Split

NEW = "new"  # the split of pictures that a command was given


def reader_of(run: OpenedRun) -> Reader:
    """The reader of pictures as those of the run were read."""
    options = {name: run.config.data[name] for name in ("crop", "background", "white") if name in run.config.data}
    return Reader(run.datamodule.shape, **options)


def show_pictures(run: OpenedRun, file: str | None) -> str:
    """Name of the split that a command is about: "test", or "new" of a picture or folder of pictures, which the data module has then.

    Raises:
        ValueError: if there is no such file, or it cannot be read as pictures of the shape of the run's data.
    """
    if file is None:
        return "test"
    if not Path(file).exists():
        raise ValueError(f"file={file} is not there: give a picture, or a folder of pictures")
    data, pictures = run.datamodule, pictures_of(Path(file), reader_of(run))
    check_readable(pictures.broken())
    data.splits[NEW] = Split(pictures, torch.arange(len(pictures)), data.modality, data.transform, data.split_seed + 1)
    return NEW


def short_name(name: str, most: int = 20) -> str:
    """The name of a file with its class, or "row 17"; of a long one, the end."""
    return "/".join(name.split("/")[-2:])[-most:]
