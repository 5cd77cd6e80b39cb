"""Figures of a trained model, and samples, reconstructions and walks through its latent space in files: what `vaelab generate` does."""

from itertools import islice
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.progress import track

from vaelab import rng
from vaelab.build import OpenedRun
from vaelab.checks import check_choice, check_flag, given
from vaelab.commands.common import check_counts, check_given, chosen_device, chosen_folder, chosen_run, prepare_process, shorter
from vaelab.commands.errors import report_errors
from vaelab.commands.generated import PLANS, Plan, arrays_of, columns_of, levels_of, of_codes, pictures_of
from vaelab.commands.overrides import must_be_text
from vaelab.commands.pictures import class_of, labels_with, show_pictures
from vaelab.commands.writing import ENDINGS, check_ending, check_not_read, write_array, write_pictures, write_rows
from vaelab.data.modality import Images
from vaelab.data.split import Split
from vaelab.data.views import only_classes
from vaelab.figures.files import save
from vaelab.figures.scenes import drawn, save_all, scene_of
from vaelab.runs.log import tell

FIGURES = {  # by what is asked for
    "samples": ("samples", "marginals"),
    "reconstructions": ("reconstructions",),
    "interpolations": ("interpolations", "spherical_interpolations"),
    "traversals": ("traversals", "moving_traversals"),
}
NUM_TO_A_ROW = 8


@report_errors
def generate(config: DictConfig) -> None:
    """Draw figures of a run, or write what its model generates to a file.

    Raises:
        ValueError: as `open_run`, or if what is asked for cannot be made with this model, or written to such a file.
    """
    prepare_process()
    check_given(config)
    check_counts(config, ["num"], num=1, num_steps=2)
    check_choice(("figures", *PLANS), what=config.what)
    check_flag(**given(mean=config.mean))
    if not isinstance(config.output, str | None):
        raise ValueError(must_be_text("output", str(config.output)))
    target = Path(config.output) if config.output else None
    if config.what == "samples" and config.input is not None:
        raise ValueError(f"input={config.input} is not used by what=samples, which are drawn from the prior: leave it out")
    if config.what != "samples" and config.mean is not None:
        raise ValueError(f"mean={str(config.mean).lower()} is not used by what={config.what}, which is of E[x | z]: leave it out")
    run, device = chosen_run(config), chosen_device(config)
    if target is not None and target.is_file():
        check_not_read(target, [target], run, config.input)
    run.model.to(device).eval()
    if config.what == "figures" or target is None or target.suffix.lower() == ".png":
        draw(run, config, target)
    else:
        write(run, config, target)


def shown_split(run: OpenedRun, config: DictConfig) -> tuple[str, int | None]:
    """The split that is shown, of test data those of the class alone that was chosen; and that class, of an input."""
    split, data = show_pictures(run, config.input), run.datamodule
    label = class_of(run, config.y)
    if split != "test":
        return split, label
    if label is not None:
        data.setup("test")
        test = data.splits[split]
        name = test.y_names[label] if label < len(test.y_names) else label
        indices = only_classes(test.dataset, [name], test.indices)
        data.splits[split] = Split(test.dataset, indices, data.modality, test.transform, test.seed, test.missing)
    return split, None


def draw(run: OpenedRun, config: DictConfig, target: Path | None) -> None:
    """Draw the figures that are asked for.

    Raises:
        ValueError: if there are none of this run, or all are to be in one file.
    """
    folder = run.folder.figures / Path(config.input).stem if config.input else run.folder.figures
    if config.what == "figures":
        if target is not None and target.suffix.lower() in (*ENDINGS, ".npy", ".png"):
            raise ValueError(f"output={target}: what=figures draws several pictures: give a folder, or choose what=samples or another")
        folder = chosen_folder(config.output, folder)
    split, label = shown_split(run, config)
    scene = scene_of(run.model, run.datamodule, run.model.device, config.num or NUM_TO_A_ROW, split, label)
    labels_with(run.model, scene.y)
    pictures = drawn(scene, config.seed, FIGURES.get(config.what))
    if target is None or config.what == "figures":
        paths = save_all(pictures, folder)
    else:
        paths = []
        for _, picture in islice(pictures, 1):
            save(picture, target)
            paths.append(target)
    if not paths:
        why = "its z has no lines or axes" if scene.modality.is_pictured else f"{scene.modality.plural} are not pictured"
        raise ValueError(f"there is no figure of {config.what} of this run, because {why}: output=<file>.npz writes what can be generated")
    tell("\n".join(str(shorter(path)) for path in paths))


def write(run: OpenedRun, config: DictConfig, target: Path) -> None:
    """Write what is asked for to a file, or to a folder of pictures.

    Raises:
        ValueError: if it cannot be made, or such a file cannot hold it.
    """
    ending, data = target.suffix.lower(), run.datamodule
    if ending:
        check_ending(target, (*ENDINGS, ".npy", ".png"))
    elif not isinstance(data.modality, Images):
        raise ValueError(f"output={target}: a folder takes images, but these are {data.modality.plural}: give a file, such as {target}.csv")
    if config.mean and of_codes(run) is not None:
        raise ValueError("mean=true: categories have no mean: leave it out")
    with rng.fork(config.seed), torch.no_grad():
        split, label = ("train", class_of(run, config.y)) if config.what == "samples" else shown_split(run, config)
        plan: Plan = PLANS[config.what](run, config, split, label)
        batches = track(plan.batches, "generating", total=plan.num_batches, transient=True)
        if ending == ".npy":
            write_array(target, (arrays_of(run, batch) for batch in batches), plan.num)
        elif ending:
            write_rows(target, (columns_of(run, batch, ending) for batch in batches))
        else:
            levels = levels_of(run)
            write_pictures(target, (each for batch in batches for each in pictures_of(run, batch, levels)))
    tell(f"{plan.num} {data.modality.plural if plan.num > 1 else data.modality.noun}: {shorter(target)}")
