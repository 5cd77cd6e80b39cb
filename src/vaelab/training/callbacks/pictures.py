"""Figures while training, and the latent space in TensorBoard's projector."""

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from vaelab import rng
from vaelab.checks import check_whole
from vaelab.data import DataModule
from vaelab.distributions import centre
from vaelab.figures.scene import Scene
from vaelab.figures.scenes import OF_TABLES_WHILE_TRAINING, WHILE_TRAINING
from vaelab.training.fsdp import whole
from vaelab.training.lit import LitVAE
from vaelab.training.loggers import WITH_PICTURES, show_picture

NUM_ENCODED = 256  # examples that speak for the dimensions of z
NUM_ROWS = 2000  # of a table, whose columns are compared with those of samples

LAYOUT = {
    "bound (nats)": {
        "ELBO": ["Multiline", ["train/elbo", "val/elbo"]],
        "rate": ["Multiline", ["train/rate", "val/rate"]],
        "distortion": ["Multiline", ["train/distortion", "val/distortion"]],
    }
}


def tensorboard(trainer: Trainer) -> SummaryWriter | None:
    """The writer of the run's TensorBoard logger, if it has one."""
    return next((logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)


def data(trainer: Trainer) -> DataModule:
    """The data module of a fit."""
    return trainer.datamodule  # type: ignore[attr-defined]


class Pictures(Callback):
    """The figures that are quickly drawn, of validation data, for the loggers, and the latent space in TensorBoard's projector.

    All figures follow when training is over.

    Args:
        every_n_epochs: how often; and always after the last epoch.
        num_images: to a row.
        num_points: of the projector.

    Raises:
        ValueError: if one of them is no whole number of at least 1.
    """

    def __init__(self, every_n_epochs: int = 5, num_images: int = 8, num_points: int = 2000) -> None:
        check_whole(1, every_n_epochs=every_n_epochs, num_images=num_images, num_points=num_points)
        self.every_n_epochs, self.num_images, self.num_points = every_n_epochs, num_images, num_points

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writer = tensorboard(trainer)
        if writer is not None:
            writer.add_custom_scalars(LAYOUT)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if last or (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            with whole(trainer):
                self._draw(trainer, pl_module)

    @rank_zero_only
    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WITH_PICTURES)]
        modality = data(trainer).modality
        figures = WHILE_TRAINING if modality.is_pictured else OF_TABLES_WHILE_TRAINING if modality.columns else {}
        if not loggers or not figures:
            return
        num = NUM_ROWS if modality.columns else max(2 * self.num_images, NUM_ENCODED)
        x, y = data(trainer).examples("val", num, pl_module.device)
        assert isinstance(pl_module, LitVAE)
        scene = Scene(pl_module.model, data(trainer), x, y, "val", self.num_images)
        for name, draw in figures.items():
            with rng.fork(seed=0), torch.no_grad():
                picture = draw(scene)
            if isinstance(picture, Image.Image):
                # the step of the validation's scalars; a run that goes on from its end keeps it
                show_picture(loggers, name, picture, trainer.global_step - 1)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with whole(trainer):
            self._show_latent_space(trainer, pl_module)

    @rank_zero_only
    def _show_latent_space(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writer = tensorboard(trainer)
        if writer is None or "val" not in data(trainer).splits:
            return
        x, y = data(trainer).examples("val", self.num_points, pl_module.device)
        assert isinstance(pl_module, LitVAE)
        pl_module.eval()
        with rng.fork(seed=0), torch.no_grad():
            means = torch.cat([centre(pl_module.model.encode(a, b)) for a, b in zip(x.split(500), y.split(500), strict=True)]).flatten(1)
        if means.shape[1] < 3:  # the projector's axes are three
            means = torch.nn.functional.pad(means, (0, 3 - means.shape[1]))
        small, words = data(trainer).modality.thumbnails(x), metadata(y, data(trainer).splits["val"].y_names)
        writer.add_embedding(means, tag="latent_space", global_step="projector", label_img=small, **words)  # the name of its folder


def metadata(y: Tensor, names: tuple[str, ...]) -> dict[str, list]:
    """Class names, or a column for each factor, which the projector can colour and search by."""
    if y.ndim == 1:
        return {"metadata": [names[label] if 0 <= label < len(names) else str(label) for label in y.tolist()]}
    header = list(names) if len(names) == y.shape[1] else [f"factor {i}" for i in range(y.shape[1])]
    return {"metadata": y.tolist(), "metadata_header": header}
