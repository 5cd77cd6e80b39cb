"""The end of a run that its search has given up."""

import math
from typing import Any

from lightning import Callback, LightningModule, Trainer

from vaelab.runs.folder import RunFolder
from vaelab.sweeps.trials import storage


class Pruned(ValueError):
    """This trial is worse than others were at its age."""


class Pruning(Callback):
    """Reports a metric of every validation to a trial of Optuna, and ends the run if the trial's pruner says so.

    A search adds it to its jobs (hydra.sweeper.pruner); a value that is not finite is pruned at once. The run folder says why.

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
        if not trainer.is_global_zero:
            return
        import optuna

        study = optuna.load_study(study_name=self.study, storage=storage(self.storage), pruner=self.pruner)
        self.trial = optuna.trial.Trial(study, study.trials[self.number]._trial_id)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        value, step = trainer.callback_metrics[self.monitor].item(), trainer.global_step
        why = f"pruned at step {step} with {self.monitor}={value:.5g}"
        # other trials go on meanwhile: if each process asked, they might be told different things
        if trainer.strategy.broadcast(trainer.is_global_zero and self._is_given_up(value, step)):
            if trainer.is_global_zero:
                RunFolder(trainer.default_root_dir).end("pruned", why)
            raise Pruned(why)

    def _is_given_up(self, value: float, step: int) -> bool:
        if math.isfinite(value):
            self.trial.report(value, step)
        given_up = not math.isfinite(value) or self.trial.should_prune()
        if given_up:
            self.trial.set_user_attr("pruned", step)
        return given_up
