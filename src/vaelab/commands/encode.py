"""Codes of data, in the order of the data: what `vaelab encode` does. A file has a row for each example, a folder has shards of tensors.

They are written a batch at a time, so that memory does not grow with the data; only .npz is written at once.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor

from vaelab import rng
from vaelab.applications import codes
from vaelab.build import OpenedRun
from vaelab.checks import check_choice
from vaelab.commands.common import check_counts, check_given, chosen_device, chosen_run, prepare_process, shorter
from vaelab.commands.errors import report_errors
from vaelab.commands.latents import write_latents
from vaelab.commands.pictures import class_of, in_order, labels_of, labels_with, show_pictures
from vaelab.commands.writing import check_ending, check_not_read, write_rows
from vaelab.data.split import Split
from vaelab.evidence import importance_weighted
from vaelab.models import Model
from vaelab.runs.log import tell

SPLITS = ("train", "val", "test")


@report_errors
def encode(config: DictConfig) -> None:
    """Write mean and standard deviation of q(z | x) for each example, with its name, split and label.

    Raises:
        ValueError: if the run cannot be opened, its data or the input cannot be read, or the output cannot be written.
    """
    prepare_process()
    check_given(config)
    check_counts(config, num=0, num_samples=0, shard=1)
    check_choice((*SPLITS, "all"), split=config.split)
    target = Path(config.output)
    is_folder = not target.suffix
    if not is_folder:
        check_ending(target)
    run, device = chosen_run(config), chosen_device(config)
    check_not_read(target, [target], run, config.input)
    run.model.to(device)
    splits = splits_of(run, config)
    size = sum(len(split) for split in splits.values())
    with rng.fork(config.seed), torch.no_grad():
        batches = track(batches_of(run, splits, config), "encoding", -(-size // run.datamodule.eval_batch_size), transient=True)
        if is_folder:
            write_latents(target, batches, config.shard, {"run": str(run.folder), "checkpoint": run.checkpoint.name})
        else:
            write_rows(target, (columns | flattened(tensors) for columns, tensors in batches))
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
        found[name] = in_order(data.splits[name])
    return found


def batches_of(run: OpenedRun, splits: dict[str, Split], config: DictConfig) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Tensor]]]:
    """Names, splits and labels of each batch, and its codes.

    Raises:
        ValueError: as `labels_with`.
    """
    chosen = class_of(run, config.y)
    for name, split in splits.items():
        for places in torch.arange(len(split)).split(run.datamodule.eval_batch_size):
            x, y = split.scaled(places, run.model.device)
            y = labels_with(run.model, y, chosen)
            text = {"name": [split.name(place) for place in places.tolist()], "split": [name] * len(x)}
            labels = {} if chosen is not None else labels_of(split, y.cpu())
            yield {**{key: np.array(values) for key, values in text.items()}, **labels}, codes_of(run.model, x, y, config)


def codes_of(model: Model, x: Tensor, y: Tensor, config: DictConfig) -> dict[str, Tensor]:
    """The codes in 32 bits, indices in 64; and, on demand, log p(x) in nats, with the effective sample size."""
    found = codes(model, x, y, config.num)
    if config.num_samples:
        evidence = importance_weighted(model, x, y, config.num_samples)
        found |= {"log_px": evidence.log_likelihood, "effective_sample_size": evidence.effective_sample_size}
    return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}


def flattened(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """A column for each dimension of each code: mean_0, mean_1, ..."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        flat = value.flatten(1) if value.ndim > 1 else value[:, None]
        found |= {name if value.ndim == 1 else f"{name}_{place}": flat[:, place] for place in range(flat.shape[1])}
    return {name: value.cpu().numpy() for name, value in found.items()}
