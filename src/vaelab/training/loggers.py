"""The parts of a run, besides metrics, that its loggers hold: the config, pictures and files of pictures."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from vaelab.figures.files import show_in_tensorboard


class MLflow(MLFlowLogger):
    """Lightning's logger for MLflow. Without MLFLOW_TRACKING_URI it writes a database, which MLflow wants instead of a folder by now.

    Args:
        experiment_name: of MLflow's experiment, which holds the run.
        save_dir: folder of mlflow.db and of the artifacts.
        tags: of the run.
    """

    def __init__(self, experiment_name: str, save_dir: str, tags: Mapping[str, str] | None = None) -> None:
        server = os.environ.get("MLFLOW_TRACKING_URI")
        super().__init__(
            experiment_name,
            tracking_uri=server or f"sqlite:///{save_dir}/mlflow.db",
            artifact_location=None if server else f"file:{save_dir}/mlartifacts",
            tags=dict(tags or {}),
        )


WITH_PICTURES = (TensorBoardLogger, WandbLogger, MLFlowLogger)


def log_config(loggers: Iterable[Logger], columns: Mapping[str, Any]) -> None:
    """Log the hyper-parameters; TensorBoard has them on a page of its own, with the final metrics, and metrics.csv has none."""
    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(columns))


def show_picture(loggers: Iterable[Logger], name: str, picture: Image.Image, step: int) -> None:
    """Log a picture to every logger that holds some."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, np.asarray(picture), step, dataformats="HW" if picture.mode == "L" else "HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [picture], step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(logger.run_id, picture, artifact_file=f"pictures/{name}_step_{step}.png")


def show_files(loggers: Iterable[Logger], paths: Mapping[str, Path], step: int) -> None:
    """Log files of pictures, as they are, to every logger that holds some; an animation is one in each.

    Args:
        loggers: of a run.
        paths: of the files, by the names of the pictures.
        step: of the pictures.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            show_in_tensorboard(paths, Path(logger.log_dir), step)
        for name, path in paths.items():
            if isinstance(logger, WandbLogger):
                show = logger.log_video if path.suffix == ".gif" else logger.log_image
                show(name, [str(path)], step)
            elif isinstance(logger, MLFlowLogger):
                logger.experiment.log_artifact(logger.run_id, str(path), str(Path(name).parent))


def close(loggers: Iterable[Logger]) -> None:
    """Write what loggers keep in memory, and end their sessions, so that a further run in this process begins one of its own."""
    for logger in loggers:
        logger.save()
        logger.finalize("success")
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()
