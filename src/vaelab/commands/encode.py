"""Codes of data in a file, a row for each example in its order: what `vaelab encode` does.

The file is written a batch at a time, so that memory does not grow with the data; only .npz is written at once.
"""

import csv
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor

from vaelab import rng
from vaelab.applications import codes
from vaelab.build import OpenedRun
from vaelab.checks import check_choice, check_whole, given
from vaelab.commands.common import check_counts, check_given, chosen_device, chosen_run, prepare_process, shorter
from vaelab.commands.errors import report_errors
from vaelab.commands.pictures import show_pictures
from vaelab.data.array_files import package
from vaelab.data.split import Split
from vaelab.evidence import importance_weighted
from vaelab.models import Model
from vaelab.runs.log import tell

SEPARATORS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (*SEPARATORS, ".npz", ".parquet")
ADVICE = "pip install 'vaelab[tables]', or write a csv file"
SPLITS = ("train", "val", "test")
Columns = dict[str, np.ndarray]  # of a batch: text, or numbers (B,)


@report_errors
def encode(config: DictConfig) -> None:
    """Write mean and standard deviation of q(z | x) for each example, with its name, split and label.

    Raises:
        ValueError: if the run cannot be opened, its data or the input cannot be read, or the output cannot be written.
    """
    prepare_process()
    check_given(config)
    check_counts(config, num=0, num_samples=0)
    check_choice((*SPLITS, "all"), split=config.split)
    check_whole(0, **given(y=config.y))
    target = Path(config.output)
    if target.suffix.lower() not in ENDINGS:
        raise ValueError(f"output={target} must end in {', '.join(ENDINGS)}")
    if target.suffix.lower() == ".parquet":
        package("pyarrow", target, ADVICE)
    run, device = chosen_run(config), chosen_device(config)
    run.model.to(device)
    splits = splits_of(run, config)
    size = sum(len(split) for split in splits.values())
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part{target.suffix}")
    try:
        with rng.fork(config.seed), torch.no_grad():
            batches = track(rows_of(run, splits, config), "encoding", -(-size // run.datamodule.eval_batch_size), transient=True)
            write(part, batches)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    tell(f"codes of {size} examples: {shorter(target)}")


def splits_of(run: OpenedRun, config: DictConfig) -> dict[str, Split]:
    """The examples to encode, by the name of their split, each in the order of its file, folder or dataset."""
    data = run.datamodule
    if config.input is not None:
        name = show_pictures(run, config.input)
        return {name: data.splits[name]}
    names = SPLITS if config.split == "all" else (config.split,)
    found = {}
    for name in names:
        data.setup("test" if name == "test" else "fit")
        split = data.splits[name]
        found[name] = Split(split.dataset, split.indices.sort().values, data.modality, split.transform, split.seed, data.missing)
    return found


def rows_of(run: OpenedRun, splits: dict[str, Split], config: DictConfig) -> Iterator[Columns]:
    """The columns of each batch.

    Raises:
        ValueError: if the model is conditional, and an example has no label.
    """
    for name, split in splits.items():
        for places in torch.arange(len(split)).split(run.datamodule.eval_batch_size):
            x, y = split.scaled(places, run.model.device)
            if run.model.num_classes and config.y is not None:
                y = torch.full((len(x),), config.y, device=x.device)
            if run.model.num_classes and (y.ndim > 1 or bool((y < 0).any())):
                raise ValueError("this run is conditional on y, and an example has none: give the class of all with y=<number>")
            text = {"name": [split.name(place) for place in places.tolist()], "split": [name] * len(x)}
            labels = {} if config.y is not None else labels_of(split, y.cpu())
            found = codes_of(run.model, x, y, config)
            yield {**{key: np.array(values) for key, values in text.items()}, **labels, **found}


def labels_of(split: Split, y: Tensor) -> Columns:
    """Labels by their names, "" where they are not known; or a column for each factor."""
    if y.ndim > 1:
        names = split.y_names or [f"y_{place}" for place in range(y.shape[1])]
        return {name: y[:, place].numpy() for place, name in enumerate(names)}
    if bool((y < 0).all()) and not split.y_names:
        return {}
    names = split.y_names or [str(label) for label in range(int(y.max()) + 1)]
    return {"y": np.array([names[label] if label >= 0 else "" for label in y.tolist()])}


def codes_of(model: Model, x: Tensor, y: Tensor, config: DictConfig) -> Columns:
    """A column for each dimension of each code, mean_0, mean_1, ...; and log p(x) in nats, with the effective sample size."""
    found: dict[str, Tensor] = {}
    for name, value in codes(model, x, y, config.num).items():
        flat = value.flatten(1)
        found |= {name if flat.shape[1] == 1 and value.ndim == 1 else f"{name}_{place}": flat[:, place] for place in range(flat.shape[1])}
    if config.num_samples:
        evidence = importance_weighted(model, x, y, config.num_samples)
        found |= {"log_px": evidence.log_likelihood, "effective_sample_size": evidence.effective_sample_size}
    return {name: value.float().cpu().numpy() for name, value in found.items()}


def write(path: Path, batches: Iterable[Columns]) -> None:
    """Write batches of columns in the format of the ending.

    Raises:
        ValueError: if what a parquet file needs is not installed.
    """
    if path.suffix == ".npz":
        parts = list(batches)
        np.savez(path, **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})  # type: ignore[arg-type]
    elif path.suffix == ".parquet":
        write_parquet(path, batches)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=SEPARATORS[path.suffix], lineterminator="\n")
            for number, batch in enumerate(batches):
                if not number:
                    writer.writerow(batch)
                writer.writerows(zip(*map(cells, batch.values()), strict=True))


def cells(values: np.ndarray) -> list[str]:
    """The text of values: nine digits, which tell any two numbers of 32 bits apart."""
    return [f"{value:.9g}" for value in values] if values.dtype.kind == "f" else [str(value) for value in values]


def write_parquet(path: Path, batches: Iterable[Columns]) -> None:
    """Write batches of columns as groups of rows."""
    pyarrow, parquet = package("pyarrow", path, ADVICE), package("pyarrow.parquet", path, ADVICE)
    with ExitStack() as stack:
        writer: Any = None
        for batch in batches:
            table = pyarrow.table({name: pyarrow.array(values) for name, values in batch.items()})
            writer = writer or stack.enter_context(parquet.ParquetWriter(path, table.schema))
            writer.write_table(table)
