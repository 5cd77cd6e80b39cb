"""The trials of a study of Optuna's, which searches of several processes and machines share."""

import itertools
import logging
import os
import socket
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hydra.errors import CompactHydraException

log = logging.getLogger(__name__)
COUNTED = ("COMPLETE", "PRUNED", "RUNNING")
NAMELESS = timedelta(minutes=1)  # after which a trial without an owner was left by a search that was killed while it asked


class Trials:
    """The trials of a study, of which a total is to be complete or pruned, whatever happens to the searches that work on it.

    Args:
        study: of Optuna's.
        total: how many trials are wanted.
        queued: whether all points are queued at the start, as those of a grid, or the study proposes them.
    """

    def __init__(self, study: Any, total: int, queued: bool) -> None:
        self.study, self.total, self.queued = study, total, queued
        self.asked = set[int]()

    def in_state(self, *states: str) -> list[Any]:
        """The trials of all searches that are in one of some states."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.name in states]

    def left(self) -> int:
        """Number of trials that are to be started; of a grid, at most one for each point that waits."""
        left = self.total - len(self.in_state(*COUNTED))
        return min(left, len(self.in_state("WAITING"))) if self.queued else left

    def queue_grid(self, values: Mapping[str, Sequence[Any]]) -> None:
        """Queues every combination that has not been tried, or has failed, in its order; the first `total` of them."""
        points = [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
        known = [trial.system_attrs.get("fixed_params", trial.params) for trial in self.in_state(*COUNTED, "WAITING")]
        for point in points[: self.total]:
            if point not in known:
                self.study.enqueue_trial(point)
        self.total = min(self.total, len(points))

    def requeue(self) -> None:
        """Queues again the trials whose search is no more: its process is gone from this machine, or it no longer tells the database."""
        import optuna
        from optuna.trial import TrialState

        optuna.storages.fail_stale_trials(self.study)
        for trial in self.in_state("RUNNING"):
            host, _, process = trial.user_attrs.get("owner", "").partition(":")
            gone = not Path("/proc", process).exists() or (process == str(os.getpid()) and trial.number not in self.asked)
            if (host == socket.gethostname() and gone) or (not host and datetime.now() - trial.datetime_start > NAMELESS):
                try:
                    self.study.tell(trial.number, state=TrialState.FAIL)
                except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
                    continue  # another search was first
                again(self.study, trial)

    def ask(self, space: Mapping[str, Any], sampler: Callable[[int], Any], most: int, folder: Callable[[Any], Path]) -> list[Any]:
        """Trials for this search to launch, which has them as its own.

        Args:
            space: what is searched.
            sampler: makes the sampler of a trial, from how many were known before it: what is proposed depends on no session.
            most: how many trials at most.
            folder: the run folder of a trial.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        self.requeue()
        trials: list[Any] = []
        for _ in range(2 * most):  # no more often: of a few values, all may be running
            if len(trials) == most or self.left() <= 0:
                break
            known = len(self.study.get_trials(deepcopy=False))
            self.study.sampler = sampler(known)
            trial = self.study.ask(space)
            self.asked.add(trial.number)
            try:
                trial.set_user_attr("folder", f"{socket.gethostname()}:{folder(trial)}")
                trial.set_user_attr("owner", f"{socket.gethostname()}:{os.getpid()}")
                if self._keeps(trial, known):
                    trials.append(trial)
            except UpdateFinishedTrialError:
                continue  # SQLite can give a trial that was queued to two searches
        if not trials:
            time.sleep(1)
        return trials

    def _keeps(self, trial: Any, known: int) -> bool:
        """True if a trial is to be launched that was proposed when so many others were known.

        Searches that ask at the same moment may be given the same point, or one more than the total: the later trial is withdrawn. A point
        that is proposed again, of a few values, is told what it gave.
        """
        from optuna.trial import TrialState

        earlier = self._earlier(trial)
        twin = next((other for other in earlier if other.params == trial.params), None)
        if len(earlier) >= self.total or (
            twin is not None and (twin.number >= known or twin.state == TrialState.RUNNING or self.queued or "again" in trial.user_attrs)
        ):
            self.tell(trial, state=TrialState.FAIL)
            return False
        if twin is not None:
            trial.set_user_attr("folder", twin.user_attrs["folder"])
            self.tell(trial, twin.values if twin.state == TrialState.COMPLETE else None, twin.state)
            log.info(f"trial {trial.number}: the point of trial {twin.number}")
            return False
        return True

    def _earlier(self, trial: Any) -> list[Any]:
        """The trials that came before one, when the parameters of all of them have been chosen."""
        while True:
            earlier = [other for other in self.in_state(*COUNTED) if other.number < trial.number]
            if all("owner" in other.user_attrs or other.state.is_finished() for other in earlier):
                return earlier
            time.sleep(0.1)
            self.requeue()

    def tell(self, trial: Any, values: Sequence[float] | None = None, state: Any = None) -> None:
        """Tells the study how a trial ended, unless another search, which took this one for dead, has told that first."""
        from optuna.exceptions import UpdateFinishedTrialError

        with suppress(UpdateFinishedTrialError):
            self.study.tell(trial, values, state, skip_if_finished=True)


def storage(where: str) -> Any:
    """A database by its URL, or a journal by its path.

    Raises:
        CompactHydraException: if the database cannot be used.
    """
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    from sqlalchemy.exc import SQLAlchemyError

    for message in (".*heartbeat_interval.* is an experimental", ".*fail_stale_trials is experimental", "Heartbeat of storage is supposed"):
        warnings.filterwarnings("ignore", message=message)
    if "://" not in where:
        return JournalStorage(JournalFileBackend(where, lock_obj=JournalFileOpenLock(where)))
    for pause in (1, 4, 0):  # of several searches that open an empty database, one makes its tables
        try:
            return RDBStorage(where, heartbeat_interval=60, heartbeat_stale_trial_callback=again)
        except (SQLAlchemyError, ImportError) as error:
            reason = str(error).splitlines()[0]
            time.sleep(pause)
    raise CompactHydraException(f"hydra.sweeper.storage cannot be used: {reason}")


def again(study: Any, trial: Any) -> None:
    """Queues the parameters of a trial that was lost."""
    study.enqueue_trial(trial.params, user_attrs={"again": trial.number})
