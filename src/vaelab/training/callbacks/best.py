"""The checkpoint of the best validation."""

import shutil
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from vaelab.checks import check_choice, check_whole
from vaelab.training.checkpoints import keep


class BestCheckpoint(ModelCheckpoint):
    """Writes best.ckpt at the end of each validation that is the best so far, with the weights that were validated.

    With save_top_k > 1, best_<step>.ckpt are the best so many, and best.ckpt is the best of them.

    Args:
        dirpath: where to.
        monitor: the metric that is compared.
        mode: "max", or "min" if less of it is better.
        save_top_k: how many are kept.

    Raises:
        ValueError: if mode is neither, or save_top_k is no whole number of at least 1.
    """

    def __init__(self, dirpath: str, monitor: str = "val/bound", mode: str = "max", save_top_k: int = 1) -> None:
        check_choice(("max", "min"), mode=mode)
        check_whole(1, save_top_k=save_top_k)
        super().__init__(
            dirpath,
            filename="best" if save_top_k == 1 else "best_{step}",
            monitor=monitor,
            mode=mode,
            save_top_k=save_top_k,
            auto_insert_metric_name=False,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        before = self.best_model_score
        super().on_validation_end(trainer, pl_module)
        if self.save_top_k > 1 and self.best_model_score is not before and trainer.is_global_zero:
            best = Path(self.best_model_path)
            name = best.with_name("best.ckpt")
            keep(best, name)
            if not name.is_file() or not name.samefile(best):  # a file system without links
                shutil.copyfile(best, name)
