"""A callback that removes the run folder."""

import shutil

from lightning import Callback


class Remover(Callback):
    """Removes a folder at the end of the first epoch of training."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer, pl_module) -> None:  # type: ignore[no-untyped-def]  # Lightning's own signature
        if trainer.current_epoch == 0:
            shutil.rmtree(self.folder)
