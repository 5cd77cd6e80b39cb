"""A line for each epoch."""

import time

from lightning import Callback, LightningModule, Trainer

from vaelab.metrics.progress import duration
from vaelab.runs.log import record, tell


class EpochLines(Callback):
    """Says after each epoch how far training is: epoch, steps, images or rows per second, learning rate, val/elbo and the time left.

    The line is in train.log, and on the screen if there is no progress bar.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started, self.done = time.monotonic(), share_done(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics  # of all processes, so that each has to ask
        if not trainer.is_global_zero:
            return
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs or -1
        words = [f"epoch {epoch:{len(str(max(last, 1)))}}{f'/{last}' if last > 0 else ''}", f"step {trainer.global_step}"]
        if "train/images_per_second" in metrics:
            noun = trainer.datamodule.modality.plural  # type: ignore[attr-defined]
            words.append(f"{float(metrics['train/images_per_second']):.0f} {noun}/s")
        words.append(f"lr {trainer.optimizers[0].param_groups[0]['lr']:.3g}")
        if "val/elbo" in metrics:
            words.append(f"val/elbo {float(metrics['val/elbo']):.2f}")
        done = share_done(trainer, epoch)
        if self.done < done < 1:
            words.append(f"{duration((time.monotonic() - self.started) * (1 - done) / (done - self.done))} left")
        (tell if trainer.progress_bar_callback is None else record)("  ".join(words))


def share_done(trainer: Trainer, epoch: int = 0) -> float:
    """Share of training that is done, by epochs or steps, whichever end it first; 0 if neither is limited.

    Args:
        trainer: that trains.
        epoch: how many epochs are done, if more than the trainer has counted.
    """
    shares = [0.0]
    if trainer.max_epochs and trainer.max_epochs > 0:
        shares.append(max(epoch, trainer.current_epoch) / trainer.max_epochs)
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    return max(shares)
