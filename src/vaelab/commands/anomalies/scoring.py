"""The scores of all examples, in a file that grows."""

import csv
import hashlib
import io
import json
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
from vaelab.applications.anomaly import Detector, fit_detector
from vaelab.build import Run
from vaelab.commands.anomalies.parts import Part
from vaelab.commands.common import shorter
from vaelab.data.transforms import to_float
from vaelab.metrics.data import first
from vaelab.models import Model
from vaelab.runs.files import write_json
from vaelab.training.checkpoints import find_checkpoint

BATCH = 500  # examples that are scored before they are written
DETAILS = ("data", "index", "y", "is_anomaly", "checksum")  # of an example, before its scores


def how(config: DictConfig, run: Run) -> dict[str, Any]:
    """What the scores depend on."""
    background = find_checkpoint(config.background, config.checkpoint) if config.background else None
    return {
        "checkpoint": f"{run.checkpoint.name} {fingerprint(run.checkpoint)}",
        "against": config.against,
        "background": background and f"{config.background} {fingerprint(background)}",
        **{name: config[name] for name in ("num_train", "num_samples", "seed")},
    }


def fingerprint(path: Path) -> str:
    """Which tells files apart."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def claim(folder: Path, options: Mapping[str, Any]) -> None:
    """Makes the folder one of scores with these options.

    Raises:
        ValueError: if it holds others, or cannot be read.
    """
    path = folder / "results.json"
    try:
        known = json.loads(path.read_text())["options"] if path.exists() else options
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}): remove its folder, or choose name=<another>") from error
    other = [f"{name}={value}" for name, value in known.items() if options[name] != value]
    if other:
        raise ValueError(f"{shorter(folder)} holds scores found with {', '.join(other)}: choose name=<another>, or remove that folder")
    if not path.exists():
        write_json({"options": options}, path)


def complete(path: Path, parts: Sequence[Part], run: Run, background: Model | None, config: DictConfig) -> None:
    """Adds to a csv file the scores that it does not have.

    Raises:
        ValueError: as `fit_detector`, or if there is no score named config.pictured.
    """
    missing = [(part, num) for part in parts if (num := num_known(path, part)) < len(part.split)]
    if missing:
        with rng.set_aside(config.seed):
            examples = [x for x, _ in first(run.datamodule.batches("train", run.model.device), config.num_train)]
            examples = list(torch.cat(examples).split(BATCH))
            told = track(examples, f"scoring {sum(map(len, examples))} training examples", transient=True)
            detector = fit_detector(run.model, told, background, config.num_samples)
            refuse_unknown(config.pictured, detector(examples[0][:1]))
    for part, num in missing:
        starts = range(num, len(part.split), BATCH)
        for start in track(starts, f"scoring {part}", transient=True):
            with rng.set_aside(1_000_003 * config.seed + 2 * start + part.is_anomaly):  # whatever was scored before
                append(path, part, start, detector)


def refuse_unknown(pictured: str, scores: Mapping[str, Any]) -> None:
    """
    Raises:
        ValueError: if there is no score of this name.
    """
    if pictured not in scores:
        raise ValueError(f"pictured={pictured} is none of the scores of this model: {', '.join(scores)}")


def append(path: Path, part: Part, start: int, detector: Detector) -> None:
    """Scores a batch and writes it, one line for each example; factors are apart by spaces, and numbers as exact as they are."""
    chosen = torch.arange(start, min(start + BATCH, len(part.split)))
    x, y = part.split[chosen]
    scores = detector(to_float(x.to(detector.model.device)))
    labels = (" ".join(map(str, label)) for label in y.reshape(len(y), -1).tolist())
    values = zip(*(column.tolist() for column in scores.values()), strict=True)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    if not path.exists():
        lines.writerow([*DETAILS, *scores])
    for index, label, checksum, row in zip(part.split.indices[chosen].tolist(), labels, checksums(x), values, strict=True):
        lines.writerow([part.name, index, label, int(part.is_anomaly), checksum, *row])
    with path.open("a") as file:
        file.write(text.getvalue())


def checksums(x: Shaped[Tensor, "b ..."]) -> list[int]:
    """Of each example: files of the same names may have been replaced since they were scored."""
    return [zlib.crc32(example.numpy().tobytes()) for example in x]


def num_known(path: Path, part: Part) -> int:
    """How many examples of a part have scores; half a line, which a process left that was killed, is removed.

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
            raise ValueError(f"{shorter(path)} holds scores of other examples than {part}: choose name=<another>, or remove that folder")
    return len(known)


def read_scores(path: Path, part: Part) -> dict[str, Float[Tensor, "n"]]:
    """By name, in the order of the part."""
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["is_anomaly"] == str(int(part.is_anomaly))][: len(part.split)]
    return {name: torch.tensor([float(row[name]) for row in rows], dtype=torch.float64) for name in rows[0] if name not in DETAILS}
