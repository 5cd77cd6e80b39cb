"""What scores say: results.json, figures, and a table on the terminal."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from vaelab import rng
from vaelab.applications.detection import detection
from vaelab.build import Run
from vaelab.commands.anomalies.parts import Part
from vaelab.commands.anomalies.scoring import how
from vaelab.commands.common import shorter
from vaelab.data.transforms import to_float
from vaelab.figures.charts.anomaly import Strip, extremes_chart, scores_chart, with_error
from vaelab.figures.tiles import black_and_white, rendered
from vaelab.runs.files import write_json
from vaelab.runs.provenance import git, provenance

COLUMNS = {"auroc": "AUROC", "average_precision": "AUPR", "fpr_at_95_tpr": "FPR at 95 % TPR"}


def finish(folder: Path, parts: Sequence[Part], scores: Sequence[Mapping[str, Float[Tensor, "_"]]], run: Run, config: DictConfig) -> None:
    """Writes results.json and the figures, and prints what was found."""
    known = {name: torch.cat([part[name] for part in scores]) for name in scores[0]}
    is_anomaly = torch.cat([torch.full((len(part.split),), part.is_anomaly) for part in parts])
    with rng.set_aside(config.seed):
        found = {name: named(name, values, is_anomaly) for name, values in known.items()}
    record = {"options": how(config, run), "normal": str(parts[0]), "anomalies": str(parts[1]), "scores": found}
    record |= {"finished": datetime.now().astimezone().isoformat(timespec="seconds"), **git(), **provenance(run.model.device)}
    write_json(record, folder / "results.json")
    title = f"anomalies: {parts[1]}; normal: {parts[0]}"
    figures = {"scores": scores_chart(known, is_anomaly, found, title)}
    strips = [strip for part, values in zip(parts, scores, strict=True) for strip in extremes(part, values[config.pictured], run, config)]
    if strips[0].x.ndim in (2, 4):  # vectors or images: others cannot be pictured
        levels = black_and_white(torch.cat([strip.x for strip in strips]))
        figures["most_and_least_anomalous"] = extremes_chart(strips, levels, f"{title}\neach example, E[x | z], and its {config.pictured}")
    paths = save(figures, folder, run)
    show(found, title, is_anomaly.double().mean().item(), [folder / "results.json", folder / "scores.csv", *paths])


def named(name: str, scores: Float[Tensor, "n"], is_anomaly: Bool[Tensor, "n"]) -> dict[str, float]:
    """
    Raises:
        ValueError: as `detection`, with the name of the score.
    """
    try:
        return detection(scores, is_anomaly)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def extremes(part: Part, scores: Float[Tensor, "n"], run: Run, config: DictConfig) -> list[Strip]:
    """The examples of largest score, falling, and those of smallest, rising."""
    order = scores.argsort(descending=True)
    kind, hit, miss = ("anomalies", "found", "missed") if part.is_anomaly else ("normal", "false alarms", "as they should be")
    num = min(config.num_pictured, len(order))
    strips = []
    for title, places in ((f"{kind}, highest scores ({hit})", order[:num]), (f"{kind}, lowest scores ({miss})", order.flip(0)[:num])):
        x = to_float(part.split[places][0].to(run.model.device))
        strips.append(Strip(title, x.cpu(), run.model.reconstruct(x).cpu(), scores[places]))
    return strips


def save(figures: Mapping[str, Figure], folder: Path, run: Run) -> list[Path]:
    """As files, and in the run's TensorBoard."""
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        picture = rendered(figure)
        picture.save(paths[-1])
        if (run.folder / "tensorboard").is_dir():
            with SummaryWriter(str(run.folder / "tensorboard")) as writer:
                writer.add_image(f"anomalies/{folder.name}/{name}", np.asarray(picture), dataformats="HWC")
    return paths


def show(found: Mapping[str, Mapping[str, float]], title: str, share: float, paths: Sequence[Path]) -> None:
    """A table of all scores with standard errors, and where to look."""
    table = Table(box=None, padding=(0, 1), title=title, title_justify="left", title_style="bold")
    for header in ("", *COLUMNS.values()):
        table.add_column(header, justify="right" if header else "left", no_wrap=True)
    for name, report in found.items():
        table.add_row(name, *(with_error(report, key) for key in COLUMNS))
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    console.print(f"\na score that knows nothing has AUROC 0.5, AUPR {share:.3f}, FPR 0.95\n")
    for path in paths:
        console.print(str(shorter(path)))
