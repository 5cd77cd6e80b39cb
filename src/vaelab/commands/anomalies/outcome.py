"""Results of a search for anomalies: numbers, figures, and a table on the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from torch import Tensor

from vaelab import rng
from vaelab.applications.detection import detection
from vaelab.build import OpenedRun
from vaelab.commands.anomalies.parts import Part
from vaelab.commands.anomalies.scoring import how
from vaelab.commands.common import shorter
from vaelab.commands.pictures import short_name
from vaelab.figures.charts.anomaly import Strip, extremes_chart, scores_chart, with_error
from vaelab.figures.files import rendered, save, show_in_tensorboard
from vaelab.runs.folder import RESULTS, RunFolder
from vaelab.runs.provenance import stamp

COLUMNS = {"auroc": "AUROC", "average_precision": "AUPR", "fpr_at_95_tpr": "FPR at 95 % TPR"}


def write_outcome(
    folder: RunFolder, parts: Sequence[Part], scores: Sequence[Mapping[str, Float[Tensor, "_"]]], run: OpenedRun, config: DictConfig
) -> None:
    """Write results and figures, and print what was found."""
    if len(parts[1].split) == 1:
        write_single(folder, parts, scores, run, config)
        return
    known = {name: torch.cat([part[name] for part in scores]) for name in scores[0]}
    is_anomaly = torch.cat([torch.full((len(part.split),), part.is_anomaly) for part in parts])
    with rng.fork(config.seed):
        found = {name: detection_of(name, values, is_anomaly) for name, values in known.items()}
    record = {"options": how(config, run), "normal": str(parts[0]), "anomalies": str(parts[1]), "scores": found}
    folder.write_results(record | stamp(run.model.device))
    title = f"anomalies: {parts[1]}; normal: {parts[0]}"
    figures = {"scores": scores_chart(known, is_anomaly, found, title)}
    strips = [strip for part, values in zip(parts, scores, strict=True) for strip in extremes(part, values[config.pictured], run, config)]
    if run.datamodule.modality.is_pictured:
        words = f"{title}\neach example, E[x | z], and its {config.pictured}"
        figures["most_and_least_anomalous"] = extremes_chart(strips, run.datamodule.modality, words)
    paths = {f"anomalies/{folder.path.name}/{name}": folder.path / f"{name}.png" for name in figures}
    for path, figure in zip(paths.values(), figures.values(), strict=True):
        save(rendered(figure), path)
    show_in_tensorboard(paths, run.folder.tensorboard)
    print_detection(found, title, is_anomaly.double().mean().item(), [folder.path / RESULTS, folder.path / "scores.csv", *paths.values()])
    print_extremes(parts, scores, config)


def write_single(
    folder: RunFolder, parts: Sequence[Part], scores: Sequence[Mapping[str, Float[Tensor, "_"]]], run: OpenedRun, config: DictConfig
) -> None:
    """Write and print how one example stands among the normal ones: there is no curve of one."""
    normal, single = scores
    name = parts[1].split.name(0)
    found = {key: {"score": float(single[key][0]), "share_below": (normal[key] < single[key][0]).double().mean().item()} for key in normal}
    folder.write_results({"options": how(config, run), "normal": str(parts[0]), "name": name, "scores": found} | stamp(run.model.device))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"{name}: its scores, and how many of the {parts[0]} are below")
    for key, values in found.items():
        console.print(f"  {key:28} {values['score']:<12.5g} {100 * values['share_below']:.1f} %")
    console.print(f"\n{shorter(folder.path / RESULTS)}\n{shorter(folder.path / 'scores.csv')}")


def detection_of(name: str, scores: Float[Tensor, "n"], is_anomaly: Bool[Tensor, "n"]) -> dict[str, float]:
    """`detection` of a score.

    Raises:
        ValueError: as `detection`, with the name of the score.
    """
    try:
        return detection(scores, is_anomaly)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def extremes(part: Part, scores: Float[Tensor, "n"], run: OpenedRun, config: DictConfig) -> list[Strip]:
    """The examples of largest score, falling, and those of smallest, rising."""
    order = scores.argsort(descending=True)
    kind, hit, miss = ("anomalies", "found", "missed") if part.is_anomaly else ("normal", "false alarms", "as they should be")
    num = min(config.num_pictured, len(order))
    strips = []
    for title, places in ((f"{kind}, highest scores ({hit})", order[:num]), (f"{kind}, lowest scores ({miss})", order.flip(0)[:num])):
        x, _ = part.split.scaled(places, run.model.device)
        names = [short_name(part.split.name(place)) for place in places.tolist()]
        shown, reconstructed = (part.split.modality.unscale(each).cpu() for each in (x, run.model.reconstruct(x)))
        strips.append(Strip(title, shown, reconstructed, scores[places], names))
    return strips


def print_detection(found: Mapping[str, Mapping[str, float]], title: str, share: float, paths: Sequence[Path]) -> None:
    """Print a table of all scores with standard errors, and where to look."""
    table = Table(box=None, padding=(0, 1), title=title, title_justify="left", title_style="bold")
    for header in ("", *COLUMNS.values()):
        table.add_column(header, justify="right" if header else "left", no_wrap=True)
    for name, report in found.items():
        table.add_row(name, *(with_error(report, key) for key in COLUMNS))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(table)
    console.print(f"\na score that knows nothing has AUROC 0.5, AUPR {share:.3f}, FPR 0.95\n")
    for path in paths:
        console.print(str(shorter(path)))


def print_extremes(parts: Sequence[Part], scores: Sequence[Mapping[str, Float[Tensor, "_"]]], config: DictConfig) -> None:
    """Print the names of the examples with the highest scores; all are in scores.csv."""
    values = torch.cat([part[config.pictured] for part in scores])
    names = [(part, place) for part in parts for place in range(len(part.split))]
    highest = [(*names[i], float(values[i])) for i in values.argsort(descending=True)[: config.num_pictured].tolist()]
    words = [f"{part.split.name(place)} ({'anomaly' if part.is_anomaly else 'normal'}, {value:.4g})" for part, place, value in highest]
    Console(soft_wrap=True, highlight=False, markup=False).print(f"\nhighest {config.pictured}: {', '.join(words)}")
