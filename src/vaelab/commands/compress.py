"""Lossless compression with a trained model: what `vaelab compress` and `vaelab decompress` do."""

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from rich.progress import track

from vaelab import rng
from vaelab.applications.compression import Codec, Coded, levels_of, minus_elbo, values_of
from vaelab.build import OpenedRun
from vaelab.checks import check_choice, check_flag
from vaelab.commands.common import check_counts, check_given, chosen_run, is_watched, prepare_process, shorter
from vaelab.commands.encode import SPLITS, splits_of
from vaelab.commands.errors import report_errors
from vaelab.commands.pictures import in_order
from vaelab.commands.writing import check_new_folder, check_not_read, write_array, write_pictures
from vaelab.data.arrays import as_read
from vaelab.data.modality import Images
from vaelab.data.split import Split
from vaelab.metrics.progress import progress
from vaelab.runs.compressed import ENDING, read_compressed, write_compressed
from vaelab.runs.log import tell

AT_ONCE = 1000  # examples that are read, or scored, at a time


@report_errors
def compress(config: DictConfig) -> None:
    """Write examples to a file of about -ELBO bits, from which `decompress` reads them bit for bit.

    Raises:
        ValueError: if the run cannot be opened, there is no code for its model, or its data or the input cannot be coded.
    """
    prepare_process()
    check_given(config)
    check_flag(verify=config.verify)
    check_counts(config, ["num"], num=1, batch=1)
    check_choice(SPLITS, split=config.split)
    target = Path(config.output)
    if target.suffix != ENDING:
        raise ValueError(f"output={target} must end in {ENDING}")
    run = chosen_run(config)
    check_not_read(target, [target], run, config.input)
    codec = codec_of(run, config.batch)
    (split,) = splits_of(run, config).values()
    levels, dtype = read_levels(codec, in_order(split, config.num))
    started = time.monotonic()
    coded = codec.encode(levels, watch=watched("compressing"))
    seconds = time.monotonic() - started
    head = {
        **{name: value for name, value in vars(coded).items() if name != "words"},
        "dtype": dtype,
        "crc": crc(values_of(levels, codec.alphabet, dtype)),
        "model": digest(run),
        "made_by": made_by(),
    }
    size = write_compressed(target, head, coded.words.astype("<u4").tobytes())
    if config.verify:
        try:
            restore(codec, target, digest(run))
        except ValueError as error:
            target.unlink()
            raise ValueError(f"{error}; {target} has been removed") from error
    tell(summary(run, codec, levels, coded, size, config.seed))
    tell(f"{shorter(target)}   {len(levels) / seconds:,.0f} examples a second" + ", decoded and compared" * config.verify)


@report_errors
def decompress(config: DictConfig) -> None:
    """Write the examples of a file of `compress`, bit for bit as they were.

    Raises:
        ValueError: if the run or the file cannot be opened, or the file is of another model, or was written where numbers are computed
            otherwise.
    """
    prepare_process()
    check_given(config)
    target, source = Path(config.output), Path(config.input)
    run = chosen_run(config)
    modality = run.datamodule.modality
    if target.suffix and target.suffix != ".npy":
        raise ValueError(f"output={target} must end in .npy, or be the name of a folder for pictures")
    if not target.suffix and not (isinstance(modality, Images) and modality.is_viewable):
        raise ValueError(
            f"output={target} is a folder of pictures, but x of shape {modality.shape} are none: give a file that ends in .npy"
        )
    check_not_read(target, [target], run, source)
    if not target.suffix:
        check_new_folder(target)
    head, _ = read_compressed(source)
    x = restore(codec_of(run, head["batch"]), source, digest(run))
    if target.suffix:
        write_array(target, [as_read(x, modality, run.config.data.get("axes"))], len(x))
    else:
        write_pictures(target, (("", picture(each)) for each in x))
    tell(f"{len(x)} examples, as they were: {shorter(target)}")


def codec_of(run: OpenedRun, batch: int) -> Codec:
    """The codec of a run.

    Raises:
        ValueError: if there is none.
    """
    if run.datamodule.modality.scaling is not None:
        raise ValueError("the data of this run are scaled, so that their values have no probabilities: train with data.scale=null")
    return Codec(run.model, batch)


def read_levels(codec: Codec, split: Split) -> tuple[np.ndarray, str]:
    """The levels of all examples, and the type of their numbers.

    Raises:
        ValueError: if a value is none of the likelihood's, or is not one to the last bit.
    """
    found, dtype = [], ""
    for places in torch.arange(len(split)).split(AT_ONCE):
        raw, _ = split[places]
        levels = levels_of(split.modality.scale(raw), codec.alphabet, int(places[0]) if len(places) else 0)
        dtype = str(raw.numpy().dtype)
        if not np.array_equal(values_of(levels, codec.alphabet, dtype), raw.numpy()):
            raise ValueError(
                f"values of x are k / {codec.alphabet.unit} only up to rounding, and would not come back as they are: give 8 bits"
            )
        found.append(levels.astype(np.int32))
    return np.concatenate(found), dtype


def restore(codec: Codec, path: Path, model: str) -> np.ndarray:
    """The examples of a file.

    Raises:
        ValueError: if they cannot be decoded to what they were.
    """
    head, bits = read_compressed(path)
    if head["model"] != model:
        raise ValueError(f"{path} was written with other weights, or another config, than those of this run: give the run that wrote it")
    fields: dict[str, Any] = {name: head[name] for name in head if name in Coded.__dataclass_fields__}
    fields |= {"shape": tuple(head["shape"]), "widths": tuple(head["widths"])}
    try:
        levels = codec.decode(Coded(**fields, words=np.frombuffer(bits, "<u4").astype(np.uint32)), watch=watched("decompressing"))
        x = values_of(levels, codec.alphabet, head["dtype"])
        is_same = crc(x) == head["crc"]
    except ValueError:
        is_same = False
    if not is_same:
        raise ValueError(
            f"{path} cannot be decoded here: {made_by()} computes other numbers than {head['made_by']}, which wrote it; decode it there, or"
            " with the same versions on such a processor"
        )
    return x


def digest(run: OpenedRun) -> str:
    """A digest of the weights of a run, and of the config of its model."""
    config = OmegaConf.to_container(OmegaConf.create({"model": run.config.model}, parent=run.config), resolve=True)
    found = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, value in sorted(run.model.state_dict().items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:32]


def crc(x: np.ndarray) -> int:
    """CRC-32 of examples in row-major order, little-endian."""
    return zlib.crc32(x.astype(x.dtype.newbyteorder("<")).tobytes())


def made_by() -> str:
    """The versions and the processor, on which the numbers of a network depend."""
    return f"torch {torch.__version__} with {torch.backends.cpu.get_cpu_capability()}, constriction {version('constriction')}"


def picture(x: np.ndarray) -> Image.Image:
    """A picture (c, h, w), of 8 bits or of values from 0 to 1."""
    pixels = x if x.dtype == np.uint8 else np.rint(x * 255).astype(np.uint8)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def summary(run: OpenedRun, codec: Codec, levels: np.ndarray, coded: Coded, size: int, seed: int) -> str:
    """A line about the size of a file."""
    x = (
        torch.from_numpy(part).to(torch.get_default_dtype()) / codec.alphabet.unit
        for part in np.array_split(levels, -(-len(levels) // 100))
    )
    with rng.fork(seed):
        paper = minus_elbo(run.model, x)
    dims = levels.size
    return (
        f"{len(levels)} examples: {size:,} bytes, {8 * size / dims:.4f} bits a dimension; {coded.net_bits / dims:.4f} without the"
        f" {8 * size - 32 * len(coded.words):,} bits of the head and the {coded.initial_bits:,} random ones; -ELBO {paper / dims:.4f}"
    )


def watched(what: str) -> Callable[[Sequence[slice]], Iterable[slice]]:
    """A function that shows how far a pass over batches is."""
    return lambda parts: track(parts, what, transient=True) if is_watched() else progress(what, parts)
