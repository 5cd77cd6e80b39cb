"""Completions of test data of which a part is hidden: what `vaelab inpaint` does, and leaves in inpainting/ of a run folder.

completions.png shows some of them, completions.npz has all, its results say how good they are.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor

from vaelab import rng
from vaelab.applications import Completion, assess, errors, hidden, inpaint, summarized
from vaelab.build import OpenedRun
from vaelab.commands.common import check_counts, check_given, chosen_device, chosen_folder, chosen_run, prepare_process, shorter
from vaelab.commands.errors import report_errors
from vaelab.commands.judging import print_numbers
from vaelab.commands.pictures import NEW, class_of, labels_with, short_name, show_pictures
from vaelab.data.modality import Modality
from vaelab.figures.completions import completions
from vaelab.figures.files import save, show_in_tensorboard
from vaelab.figures.scene import Scene
from vaelab.runs.folder import RESULTS, RunFolder
from vaelab.runs.log import tell
from vaelab.runs.provenance import stamp

BATCH = 50  # examples that are completed at a time
OPTIONS = ("input", "y", "mask", "missing_share", "method", "num_completions", "num_steps", "num_pseudo_gibbs", "num_samples", "seed")
Found = tuple[Completion, dict[str, Tensor]]  # of some examples, and how good it is


@report_errors
def inpaint_run(config: DictConfig) -> None:
    """Hide a part of each of some test examples, complete them, and say how near the completions are to what was hidden.

    Raises:
        ValueError: if a run cannot be opened, the mask does not fit, or the method cannot be used for this model.
    """
    prepare_process()
    check_given(config)
    check_counts(config, num=1, num_pictured=1, num_completions=1, num_steps=1, num_samples=1, num_pseudo_gibbs=0)
    run, device = chosen_run(config), chosen_device(config)
    folder = chosen_folder(config.output, run.folder.path / "inpainting" / default_name(config))
    run.model.to(device)
    split = show_pictures(run, config.input)
    x, y = run.datamodule.examples(split, config.num, device)
    y = labels_with(run.model, y, class_of(run, config.y))
    names = [run.datamodule.splits[split].name(place) for place in range(len(x))]
    started = time.monotonic()
    with rng.fork(config.seed):
        observed = ~hidden(config.mask, x.shape[1:], len(x), config.missing_share).to(device) & ~x.isnan()
        found = list(completed(run, x, y, observed, config))
    write_completions(folder, run, x, y, names, observed, found, time.monotonic() - started, config)


def default_name(config: DictConfig) -> str:
    """Name of the folder of completions."""
    return "_".join([*([Path(config.input).stem] if config.input else []), Path(config.mask).stem, config.method])


def completed(
    run: OpenedRun, x: Float[Tensor, "n ..."], y: Shaped[Tensor, "n ..."], observed: Bool[Tensor, "n ..."], config: DictConfig
) -> Iterator[Found]:
    """Completions in the units of the data and how good they are, a batch at a time.

    Of scaled data, errors are in the units of the data too, and scaled_mse is of what the model sees, where all values count alike.
    """
    modality = run.datamodule.modality
    parts = list(zip(x.split(BATCH), observed.split(BATCH), y.split(BATCH), strict=True))
    for part in track(parts, f"completing {len(x)} examples", transient=True):
        completion = inpaint(
            run.model, *part, config.method, config.num_completions, config.num_steps, config.num_pseudo_gibbs, config.num_samples
        )
        scores = assess(run.model, *part, completion, config.num_pseudo_gibbs, config.num_samples)
        if modality.scaling is not None:
            completion = in_units(completion, modality)
            scores = {"scaled_mse": scores["mse"], **scores, **errors(modality.unscale(part[0]), part[1], completion)}
        yield completion, scores


def write_completions(
    folder: Path,
    run: OpenedRun,
    x: Float[Tensor, "n ..."],
    y: Shaped[Tensor, "n ..."],
    names: Sequence[str],
    observed: Bool[Tensor, "n ..."],
    found: list[Found],
    seconds: float,
    config: DictConfig,
) -> None:
    """Write all files, and print a table."""
    completion = all_completions([part for part, _ in found])
    report: dict[str, Any] = {"num_examples": len(x), "hidden_share": (~observed).double().mean().item()}
    report |= summarized({name: torch.cat([scores[name] for _, scores in found]) for name in found[0][1]})
    if completion.acceptance_rate is not None:
        report["acceptance_rate"] = completion.acceptance_rate.mean().item()
    record = {"checkpoint": run.checkpoint.name, "options": {name: config[name] for name in OPTIONS}, "found": report}
    RunFolder(folder).write_results(record | stamp(x.device))
    shown = run.datamodule.modality.unscale(x)
    np.savez_compressed(
        folder / "completions.npz",
        x=shown.cpu().numpy(),
        y=y.cpu().numpy(),
        names=np.array(names),
        hidden=~observed.cpu().numpy(),
        completions=completion.x.cpu().numpy(),
        mean=completion.mean.cpu().numpy(),
        std=completion.std.cpu().numpy(),
    )
    paths = [folder / RESULTS, folder / "completions.npz"]
    if run.datamodule.modality.is_pictured:
        scene = Scene(run.model, run.datamodule, x, y, NEW if config.input else "test", config.num_pictured)
        errors = f"rmse {report['rmse']:.3g} of the mean, {report['rmse_of_completions']:.3g} of completions"
        title = f"mask={config.mask}, {config.method}: {errors}"
        paths.append(folder / "completions.png")
        save(completions(scene, observed, completion, title, [short_name(name) for name in names[: config.num_pictured]]), paths[-1])
        show_in_tensorboard({f"inpainting/{folder.name}": paths[-1]}, run.folder.tensorboard)
    print_numbers(f"{config.method}, mask={config.mask}   ({seconds:.1f} s)", report)
    tell("\n" + "\n".join(str(shorter(path)) for path in paths))


def in_units(completion: Completion, modality: Modality) -> Completion:
    """A completion in the units of the data; of a logarithm, the standard deviation is that above the mean."""
    x, expected, mean, above = map(modality.unscale, (completion.x, completion.expected, completion.mean, completion.mean + completion.std))
    return replace(completion, x=x, expected=expected, mean=mean, std=above - mean)


def all_completions(parts: list[Completion]) -> Completion:
    """The completions of all examples, from those of its parts."""
    rates = [part.acceptance_rate for part in parts if part.acceptance_rate is not None]
    return Completion(
        x=torch.cat([part.x for part in parts], dim=1),
        expected=torch.cat([part.expected for part in parts], dim=1),
        mean=torch.cat([part.mean for part in parts]),
        std=torch.cat([part.std for part in parts]),
        acceptance_rate=torch.cat(rates) if rates else None,
    )
