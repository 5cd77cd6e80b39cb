"""Ends what a search has given up."""

import math
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Pruned(ValueError):
    """This trial is worse than others were at its age."""


class Pruning(Callback):
    """Reports a metric of every validation to a trial of Optuna, and ends the run if the trial's pruner says so.

    A search adds it to its jobs (hydra.sweeper.pruner); a value that is not finite is pruned at once.

    Args:
        monitor: the metric that is logged.
        storage: the URL or the journal file of the study.
        study: its name.
        number: of the trial.
        pruner: of Optuna's, which compares with the other trials.

    Raises:
        Pruned: if the trial is given up.
    """

    def __init__(self, monitor: str, storage: str, study: str, number: int, pruner: Any) -> None:
        self.monitor, self.storage, self.study, self.number, self.pruner = monitor, storage, study, number, pruner

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        import optuna

        from hydra_plugins.vaelab_sweeps.search import storage

        study = optuna.load_study(study_name=self.study, storage=storage(self.storage), pruner=self.pruner)
        self.trial = optuna.trial.Trial(study, study.trials[self.number]._trial_id)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        value = trainer.callback_metrics[self.monitor].item()
        if math.isfinite(value):
            self.trial.report(value, trainer.global_step)
        if not math.isfinite(value) or self.trial.should_prune():
            self.trial.set_user_attr("pruned", trainer.global_step)
            raise Pruned(f"pruned at step {trainer.global_step} with {self.monitor}={value:.5g}")
