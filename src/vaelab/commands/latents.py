"""Latents of a dataset as a folder of tensors: shards of safetensors in the order of the data, and a manifest of what is in them."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelab.applications import LatentMoments
from vaelab.commands.pretrained import ADVICE
from vaelab.commands.writing import cells, check_new_folder
from vaelab.data.array_files import package
from vaelab.runs.files import write_bytes, write_json

MANIFEST = "manifest.json"
ROWS = "rows.csv"  # names, splits and labels of the examples
Batch = tuple[Mapping[str, np.ndarray], Mapping[str, Tensor]]  # columns of the examples, and their tensors (B, ...)


def write_latents(folder: Path, batches: Iterable[Batch], per_shard: int, about: Mapping[str, Any]) -> None:
    """Write shards of so many examples, the rows beside them, and at last the manifest, without which the folder is not whole.

    The manifest holds mean and standard deviation of each channel of z, and the two factors that diffusion models are given.

    Args:
        folder: a new one.
        batches: in the order in which they are written.
        per_shard: examples of a shard.
        about: further entries of the manifest.

    Raises:
        ValueError: if the folder holds files already, or safetensors is not installed.
    """
    check_new_folder(folder)
    files = package("safetensors.torch", folder, ADVICE)
    folder.mkdir(parents=True, exist_ok=True)
    moments, shards, shapes = LatentMoments(), list[dict[str, Any]](), dict[str, Any]()
    with (folder / ROWS).open("w", encoding="utf-8", newline="") as file:
        for tensors in in_shards(with_rows(batches, file, moments), per_shard):
            num = len(next(iter(tensors.values())))
            shards.append({"file": f"{len(shards):05}.safetensors", "num": num})
            write_bytes(files.save(tensors, {"format": "pt"}), folder / shards[-1]["file"])
            shapes = {name: {"shape": list(value.shape[1:]), "dtype": str(value.dtype)[6:]} for name, value in tensors.items()}
    statistics = {"mean": moments.mean.tolist(), "std": moments.std.tolist(), **moments.factors()} if moments.num else None
    num = sum(shard["num"] for shard in shards)
    write_json({**about, "num": num, "tensors": shapes, "latents": statistics, "rows": ROWS, "shards": shards}, folder / MANIFEST)


def with_rows(batches: Iterable[Batch], file: Any, moments: LatentMoments) -> Iterator[dict[str, Tensor]]:
    """The tensors of each batch, whose columns are written and whose moments are taken in by the way."""
    writer = csv.writer(file, lineterminator="\n")
    for number, (columns, tensors) in enumerate(batches):
        if not number:
            writer.writerow(columns)
        writer.writerows(zip(*map(cells, columns.values()), strict=True))
        if "mean" in tensors:
            moments.add(tensors)
        yield {name: value.cpu() for name, value in tensors.items()}


def in_shards(batches: Iterable[dict[str, Tensor]], per_shard: int) -> Iterator[dict[str, Tensor]]:
    """Batches of so many examples each; the last may have fewer."""
    waiting, num = list[dict[str, Tensor]](), 0
    for batch in batches:
        waiting.append(batch)
        num += len(next(iter(batch.values())))
        while num >= per_shard:
            whole = as_one(waiting)
            yield {name: value[:per_shard].contiguous() for name, value in whole.items()}
            waiting, num = [{name: value[per_shard:] for name, value in whole.items()}], num - per_shard
    if num:
        yield as_one(waiting)


def as_one(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """One batch of several."""
    return {name: torch.cat([each[name] for each in batches]) for name in batches[0]}
