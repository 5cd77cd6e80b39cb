"""The scores of all examples, in a file that grows."""

import csv
import hashlib
import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor

from vaelab import rng
from vaelab.applications.anomaly import Detector, complexity, fit_detector
from vaelab.build import OpenedRun
from vaelab.commands.anomalies.parts import Part
from vaelab.commands.common import shorter
from vaelab.metrics.data import first
from vaelab.models import Model
from vaelab.runs.files import DamagedFile
from vaelab.runs.folder import RESULTS, RunFolder, find_checkpoint

BATCH = 500  # examples that are scored before they are written
DETAILS = ("data", "index", "name", "y", "is_anomaly", "checksum")  # of an example, before its scores


def how(config: DictConfig, run: OpenedRun) -> dict[str, Any]:
    """Options on which scores depend."""
    background = find_checkpoint(config.background, config.checkpoint) if config.background else None
    return {
        "checkpoint": f"{run.checkpoint.name} {fingerprint(run.checkpoint)}",
        "against": config.against,
        "background": background and f"{config.background} {fingerprint(background)}",
        **{name: config[name] for name in ("num_train", "num_samples", "seed")},
    }


def fingerprint(path: Path) -> str:
    """Text that tells files apart."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def keep_options(folder: RunFolder, options: Mapping[str, Any]) -> None:
    """Make the folder one of scores with these options.

    Raises:
        ValueError: if it holds others, or cannot be read.
    """
    advice = "remove its folder, or choose output=<another>"
    known = folder.results(advice=advice)
    if not known:
        folder.write_results({"options": dict(options)})
    elif not isinstance(known.get("options"), dict):
        raise DamagedFile(folder.path / RESULTS, "it has no options", advice)
    other = [f"{name}={value}" for name, value in known.get("options", {}).items() if options.get(name) != value]
    if other:
        raise ValueError(
            f"{shorter(folder.path)} holds scores found with {', '.join(other)}: choose output=<another>, or remove that folder"
        )


def complete(path: Path, parts: Sequence[Part], run: OpenedRun, background: Model | None, config: DictConfig) -> None:
    """Add to a csv file the scores that it does not have.

    Raises:
        ValueError: as `fit_detector`, or if there is no score named config.pictured.
    """
    missing = [(part, num) for part in parts if (num := num_known(path, part)) < len(part.split)]
    if missing:
        with rng.fork(config.seed):
            examples = [x for x, _ in first(run.datamodule.batches("train", run.model.device), config.num_train)]
            examples = list(torch.cat(examples).split(BATCH))
            told = track(examples, f"scoring {sum(map(len, examples))} training examples", transient=True)
            compressor = complexity if all(map(run.datamodule.modality.are_viewable, examples)) else None
            detector = fit_detector(run.model, told, background, config.num_samples, compressor=compressor)
            check_pictured(config.pictured, detector(examples[0][:1]))
    for part, num in missing:
        starts = range(num, len(part.split), BATCH)
        for start in track(starts, f"scoring {part}", transient=True):
            with rng.fork(1_000_003 * config.seed + 2 * start + part.is_anomaly):  # whatever was scored before
                append(path, part, start, detector)


def check_pictured(pictured: str, scores: Mapping[str, Any]) -> None:
    """Raise if no score has the name that is to be pictured.

    Raises:
        ValueError: if there is none.
    """
    if pictured not in scores:
        raise ValueError(f"pictured={pictured} is none of the scores of this model: {', '.join(scores)}")


def append(path: Path, part: Part, start: int, detector: Detector) -> None:
    """Score a batch and write it, one line for each example; factors are apart by spaces, and numbers as exact as they are."""
    chosen = torch.arange(start, min(start + BATCH, len(part.split)))
    x, y = part.split[chosen]
    scores = detector(part.split.modality.scale(x.to(detector.model.device)))
    labels = (" ".join(map(str, label)) for label in y.reshape(len(y), -1).tolist())
    values = zip(*(column.tolist() for column in scores.values()), strict=True)
    text = io.StringIO()
    columns = path.open().readline().strip().split(",") if path.exists() else [*DETAILS, *scores]  # older files have no names
    lines = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    if not path.exists():
        lines.writeheader()
    for place, label, checksum, row in zip(chosen.tolist(), labels, checksums(x), values, strict=True):
        details = (part.name, int(part.split.indices[place]), part.split.name(place), label, int(part.is_anomaly), checksum)
        lines.writerow(dict(zip([*DETAILS, *scores], [*details, *row], strict=True)))
    with path.open("a") as file:
        file.write(text.getvalue())


def checksums(x: Shaped[Tensor, "b ..."]) -> list[int]:
    """A number for each example: files of the same names may have been replaced since they were scored."""
    return [zlib.crc32(example.numpy().tobytes()) for example in x]


def num_known(path: Path, part: Part) -> int:
    """Number of examples of a part that have scores; half a line, which a process left that was killed, is removed.

    Raises:
        ValueError: if they are the scores of other examples.
    """
    if not path.exists():
        return 0
    whole, end, rest = path.read_text().rpartition("\n")
    if rest or not whole:
        path.write_text(whole + end)
    known = [row.get("checksum") for row in csv.DictReader(whole.splitlines()) if row["is_anomaly"] == str(int(part.is_anomaly))]
    for places in torch.arange(min(len(known), len(part.split))).split(BATCH):
        if list(map(str, checksums(part.split[places][0]))) != [known[i] for i in places]:
            raise ValueError(f"{shorter(path)} holds scores of other examples than {part}: choose output=<another>, or remove that folder")
    return len(known)


def read_scores(path: Path, part: Part) -> dict[str, Float[Tensor, "n"]]:
    """Scores by name, in the order of the part."""
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["is_anomaly"] == str(int(part.is_anomaly))][: len(part.split)]
    return {name: torch.tensor([float(row[name]) for row in rows], dtype=torch.float64) for name in rows[0] if name not in DETAILS}
