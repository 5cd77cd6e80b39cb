"""The command: from a config to scores and what they say."""

import os
from pathlib import Path

from omegaconf import DictConfig

from vaelab.build import OpenedRun, open_run
from vaelab.commands.anomalies.outcome import write_outcome
from vaelab.commands.anomalies.parts import find_parts
from vaelab.commands.anomalies.scoring import check_pictured, complete, how, keep_options, read_scores
from vaelab.commands.common import check_counts, check_given, chosen_device, chosen_folder, chosen_run, prepare_process
from vaelab.commands.errors import report_errors
from vaelab.models import Model
from vaelab.runs.folder import RunFolder


@report_errors
def detect_anomalies(config: DictConfig) -> None:
    """Score test data by how unlike the training data they are, and say how well each score tells the anomalies among them.

    Scores are written as soon as they are known, and are not computed again.

    Raises:
        ValueError: if a run cannot be opened, there are no anomalies or nothing else, or the folder holds other scores.
    """
    prepare_process()
    check_given(config)
    check_counts(config, ["num"], num=2, num_train=1, num_samples=1, num_pictured=1)
    run, device = chosen_run(config), chosen_device(config)
    background = open_background(run, config)
    for model in (run.model, background):
        if model is not None:
            model.to(device)
    parts = find_parts(run, config)
    name = Path(os.path.abspath(config.against)).name if config.against else "other_classes"
    folder = RunFolder(chosen_folder(config.output, run.folder.path / "anomalies" / name))
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.claim():
        keep_options(folder, how(config, run))
        complete(folder.path / "scores.csv", parts, run, background, config)
        scores = [read_scores(folder.path / "scores.csv", part) for part in parts]
        check_pictured(config.pictured, scores[0])
        write_outcome(folder, parts, scores, run, config)


def open_background(run: OpenedRun, config: DictConfig) -> Model | None:
    """The background model of the likelihood ratio, if there is to be one.

    Raises:
        ValueError: as `open_run`, or if it is of data of another shape.
    """
    if not config.background:
        return None
    other = open_run(config.background, config.checkpoint, trust=config.trust)
    ours, theirs = list(run.datamodule.shape), list(other.datamodule.shape)
    if ours != theirs:
        raise ValueError(f"the run is of data of shape {ours}, but background={config.background} of {theirs}")
    return other.model
