"""Figures of a trained model."""

from pathlib import Path

from omegaconf import DictConfig

from vaelab.commands.common import check_counts, check_given, chosen_device, chosen_run, prepare_process
from vaelab.commands.errors import report_errors
from vaelab.commands.pictures import show_pictures
from vaelab.figures.scenes import draw_figures


@report_errors
def generate(config: DictConfig) -> None:
    """Draw the figures of a run.

    Raises:
        ValueError: as `open_run`.
    """
    prepare_process()
    check_given(config)
    check_counts(config, num=1)
    run, device = chosen_run(config), chosen_device(config)
    folder = run.folder.figures / Path(config.input).stem if config.input else run.folder.figures
    folder, split = Path(config.output or folder), show_pictures(run, config.input)
    for path in draw_figures(run.model.to(device), run.datamodule, folder, device, config.seed, config.num, split):
        print(path)
