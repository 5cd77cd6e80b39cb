"""The record of a split: what each part of the data consists of, so that another time the same examples are taken, or it is said.

A record is of plain types, for a file:

    {"split_seed": 0,
     "files": {"train": {name: bytes, ...}, "test": {...}},
     "columns": [{"name": "age", "kind": "count", "values": [], "comma": false}, ...], "id": "patient",
     "train": {"num": 900, "digest": ...}, "val": {"num": 100, "digest": ..., "indices": [...]}, "test": {...}}

`files` are those of a folder of pictures, `columns` those of a table, `id` the column that names its rows, and `indices` those of the
training data that are validated on, where it has no files of its own.
The digest of pictures is of the names and sizes of their files, so that 100,000 of them need not be read; that of data in memory is of all
their values. Another dataset has a number of examples alone, unless it has names.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from vaelab.data.memory import Examples, InMemory

Record = Mapping[str, Any]
SPLITS = ("train", "val", "test")
COLUMN = {"name", "kind", "values", "comma"}  # keys of a column of a table
MOST_NAMED = 3  # files in a message


def digest_of_values(dataset: Examples) -> bytes:
    """Digest of all x and y of data in memory; nothing of other data."""
    found = hashlib.blake2b(getattr(dataset, "digest", b""), digest_size=16)  # of a mapped array, that of some of its rows
    if isinstance(dataset, InMemory) and dataset.contents is None:
        for part in (dataset.x, dataset.y):
            found.update(f"{part.dtype} {tuple(part.shape)}".encode())
            found.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.digest()


def record_of(dataset: Examples, indices: Int[Tensor, "n"], of_values: bytes) -> dict[str, Any]:
    """The number of some examples of a dataset, and their digest: None if nothing is known of them without reading each.

    Args:
        dataset: of the examples.
        indices: of the examples.
        of_values: digest of all values of the dataset.
    """
    contents, names = getattr(dataset, "contents", None), getattr(dataset, "names", ())
    found = hashlib.blake2b(of_values, digest_size=16)
    if contents is not None:
        sizes = {name: size for files in contents.files.values() for name, size in files.items()}
        found.update("\n".join(f"{names[i]} {sizes[names[i]]}" for i in indices.tolist()).encode())
    elif isinstance(dataset, InMemory):
        found.update(indices.numpy().tobytes())
    elif len(names):
        found.update("\n".join(str(names[i]) for i in indices.tolist()).encode())
    else:
        return {"num": len(indices), "digest": None}
    return {"num": len(indices), "digest": found.hexdigest()}


def check_record(record: Any) -> Record:
    """The record, if it is one; {} if it is that of an older version, which tells less.

    Raises:
        ValueError: if it is of another shape.
    """

    def is_files(files: Any) -> bool:
        return isinstance(files, dict) and all(isinstance(size, int) for size in files.values())

    if isinstance(record, dict) and "val_indices" in record:
        return {}
    parts = [record.get(split) or {} for split in SPLITS] if isinstance(record, dict) else [None]
    right = all(isinstance(part, dict) and all(isinstance(i, int) for i in part.get("indices", [])) for part in parts)
    files = record.get("files") or {} if isinstance(record, dict) else None
    columns = record.get("columns", []) if isinstance(record, dict) else None
    right = right and isinstance(record.get("id", ""), str | None)
    right = right and isinstance(columns, list) and all(isinstance(each, dict) and each.keys() == COLUMN for each in columns)
    if not right or not isinstance(files, dict) or not all(map(is_files, files.values())) or not files.keys() <= set(SPLITS):
        raise ValueError("the record of the split, split.json, is of another shape than this version writes: remove it to split anew")
    return record


def compare(split: str, recorded: Record, found: Record, dataset: Examples) -> str:
    """Text that says which pictures of a split are not there any more; "" if all are.

    Args:
        split: its name.
        recorded: the record of the run, or {}.
        found: of this split, now.
        dataset: of this split, now.

    Raises:
        ValueError: if the examples are others, and it is not only that files are gone.
    """
    contents, before = getattr(dataset, "contents", None), recorded.get(split)
    gone = sorted(contents.absent & contents.files.get(split, contents.files["train"]).keys()) if contents is not None else []
    if before and not gone and (before["num"] != found["num"] or before.get("digest") not in (None, found["digest"])):
        was, now = (f"{part['num']} examples with the digest {str(part.get('digest'))[:8]}" for part in (before, found))
        raise ValueError(
            f"the {split} data are not those of this run: it had {was}, found are {now}. Say where its data are with data_dir= or"
            " data.root=; to use these, remove split.json from the run folder"
        )
    num = before["num"] if before else found["num"] + len(gone)
    if not gone or num == found["num"]:
        return ""
    if not found["num"]:
        raise ValueError(f"none of the {num} {split} pictures of this run is there: say where they are with data.root=<folder>")
    named = ", ".join(gone[:MOST_NAMED]) + ", ..." * (len(gone) > MOST_NAMED)
    return f"{num - found['num']} of the {num} {split} pictures of this run are gone or changed, and left out ({named})"
