"""A pruner of Optuna's that one of the processes of a run disagrees with."""

import os

from optuna import Study
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial


class GivenUpByRank(BasePruner):
    """Gives every trial up, in one of the processes of its run alone."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        return int(os.environ.get("LOCAL_RANK", "0")) == self.rank
