"""A callback that decides how a run ends, for tests of what watches over runs."""

import os
import signal
from pathlib import Path
from typing import Any

from lightning import Callback
from optuna import Study
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial


class Fate(Callback):
    """how: lives, raises, is_killed, or fills_the_disk; from the second epoch on, once its first checkpoint is there."""

    def __init__(self, how: str) -> None:
        self.how = how

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch < 1 or self.how == "lives":
            return
        if self.how == "raises":
            raise RuntimeError("this run was to fail")
        if self.how == "is_killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "fills_the_disk":
            (Path(trainer.default_root_dir) / "more").symlink_to("/dev/full")
            (Path(trainer.default_root_dir) / "more").write_text("x" * 10_000)


class GivenUpByRank(BasePruner):
    """Gives every trial up, in one of the processes of its run alone."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        return int(os.environ.get("LOCAL_RANK", "0")) == self.rank
