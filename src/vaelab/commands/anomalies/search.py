"""From a command line to scores and what they say."""

from pathlib import Path

from omegaconf import DictConfig

from vaelab.build import Run, open_run
from vaelab.commands.anomalies.outcome import finish
from vaelab.commands.anomalies.parts import find_parts
from vaelab.commands.anomalies.scoring import claim, complete, how, read_scores, refuse_unknown
from vaelab.commands.common import below, chosen_device, prepare, refuse_counts, refuse_missing, report_errors
from vaelab.models import Model
from vaelab.training.resume import claimed


@report_errors
def detect_anomalies(config: DictConfig) -> None:
    """Scores test data by how unlike the training data they are, and says how well each score tells the anomalies among them.

    Scores are written as soon as they are known, and are not computed again.

    Raises:
        ValueError: if a run cannot be opened, there are no anomalies or nothing else, or the folder holds other scores.
    """
    prepare()
    refuse_missing(config)
    refuse_counts(config, ["num_images"], num_images=2, num_train=1, num_samples=1, num_pictured=1)
    run, device = open_run(config.run, config.checkpoint, config.data_dir, config.trust), chosen_device(config)
    background = open_background(run, config)
    for model in (run.model, background):
        if model is not None:
            model.to(device)
    parts = find_parts(run, config)
    folder = below(run.folder / "anomalies", config.name or (Path(config.against).name if config.against else "other_classes"))
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder):
        claim(folder, how(config, run))
        complete(folder / "scores.csv", parts, run, background, config)
        scores = [read_scores(folder / "scores.csv", part) for part in parts]
        refuse_unknown(config.pictured, scores[0])
        finish(folder, parts, scores, run, config)


def open_background(run: Run, config: DictConfig) -> Model | None:
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
