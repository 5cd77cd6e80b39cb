"""A grid that can be continued: the same command line again runs what is missing."""

import itertools
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from vaelab.runs.configs import value_at
from vaelab.sweeps.jobs import Job, check_devices, folder_of, jobs_of, with_preset

log = logging.getLogger(__name__)
NOTHING = object()


@dataclass
class GridConf:
    _target_: str = "hydra_plugins.vaelab.GridSweeper"
    params: dict[str, str] = field(default_factory=dict)  # what is swept unless the command line says otherwise
    summarize: bool = True  # at the end, into the folder of the sweep


class GridSweeper(Sweeper):
    """Every combination of the values that are swept, each in a folder named by what distinguishes it.

    A job whose results are there is not run again, one that was interrupted goes on from its last checkpoint, and one that failed is
    tried again; it does not stop the others.
    """

    config: DictConfig
    launcher: Launcher

    def __init__(self, params: dict[str, str], summarize: bool) -> None:
        self.params, self.summarize = dict(params), summarize
        self._numbers: dict[str, Override | None] = {}  # by words

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.loader = config, hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        check_devices(self.config)
        folder = folder_of(self.config)
        jobs = jobs_of(OverridesParser.create(config_loader=self.loader).parse_overrides(with_preset(self.params, arguments)), folder)
        self.check_unchanged(jobs)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        missing = [job for job in jobs if not job.run.is_finished]
        going_on = sum(job.run.last_checkpoint is not None for job in missing)
        log.info(
            f"sweep {folder.name}: {len(jobs)} jobs, {len(jobs) - len(missing)} of them finished, {going_on} to go on,"
            f" {len(missing) - going_on} to start"
        )
        returns: Sequence[JobReturn] = []
        try:
            if missing:
                returns = self.launcher.launch([job.line for job in missing], initial_job_idx=0)
        except Exception as error:  # of a launcher that one job can take down: what the others have done is in their folders
            log.error(f"the launcher stopped: {type(error).__name__}: {error}")
        if self.summarize and any(job.run.is_finished for job in jobs):
            write_table(folder)
        failed = self.report(jobs, missing, returns)
        if failed:
            raise CompactHydraException(f"{len(failed)} of {len(jobs)} jobs failed; the same line tries them again")
        return [returns]

    def check_unchanged(self, jobs: Sequence[Job]) -> None:
        """A grid is one comparison: its jobs differ in what is swept alone.

        Raises:
            CompactHydraException: if a job has been started with another config, or its results cannot be read.
        """
        changed: dict[str, list[str]] = {}
        composed: dict[tuple[str, ...], dict[str, Any]] = {}
        for job in jobs:
            values = self.config_of(job, composed)  # now, so that a typo stops nothing half-way
            job.results()
            for change in job.changes(values):
                changed.setdefault(change, []).append(job.name)
        if changed:
            words = "\n".join(f"  {change}  ({len(names)} jobs)" for change, names in changed.items())
            raise CompactHydraException(
                f"{jobs[0].run.path.parent} holds jobs of another config:\n{words}\ngive this sweep another name (sweep=...), or remove it"
            )

    def config_of(self, job: Job, composed: dict[tuple[str, ...], dict[str, Any]]) -> dict[str, Any]:
        """The config of a job, as plain types.

        Hydra takes a third of a second to compose one. Jobs that differ in numbers alone share it, and their numbers are put in its place.

        Args:
            job: any.
            composed: the configs that have been composed, by the words of their jobs, without the numbers in them; a new one is added.
        """
        numbers = {word: override for word in job.overrides if (override := self.number(word)) is not None}
        words = tuple(numbers[word].key_or_group if word in numbers else word for word in job.overrides)
        if words not in composed:
            composed[words] = self.compose(job)
        config = composed[words]
        for override in numbers.values():
            if value_at(config, override.key_or_group, NOTHING) is NOTHING:  # it is behind an interpolation
                return self.compose(job)
            config = with_value(config, override.key_or_group.split("."), override.value())
        return config

    def compose(self, job: Job) -> dict[str, Any]:
        """The config of a job, as plain types, composed by Hydra."""
        values: Any = OmegaConf.to_container(self.loader.load_sweep_config(self.config, list(job.overrides)), resolve=False)
        del values["hydra"]
        return values

    def number(self, word: str) -> Override | None:
        """A word that gives a number, true or false to a key, so that all else is composed as with another one; None for other words."""
        if word not in self._numbers:
            override = OverridesParser.create().parse_override(word)
            key, change = override.key_or_group, override.type == OverrideType.CHANGE and override.package is None
            plain = change and re.fullmatch(r"[a-zA-Z_]\w*(\.[a-zA-Z_]\w*)*", key) and not self.loader.get_group_options(key)
            self._numbers[word] = override if plain and type(override.value()) in (bool, int, float) else None
        return self._numbers[word]

    def report(self, jobs: Sequence[Job], missing: Sequence[Job], returns: Sequence[JobReturn]) -> list[Job]:
        """Says which jobs failed, and how; warns if the others are of different versions of the code."""
        reasons = {job: failure(job, ret) for job, ret in itertools.zip_longest(missing, returns)}
        failed = [job for job, reason in reasons.items() if reason is not None]
        for job in failed:
            log.error(f"failed: {job.name}\n  {reasons[job]}\n  {job.run}")
        versions = {str(job.results().get("git_commit"))[:10] for job in jobs if job.run.is_finished}
        if len(versions) > 1:
            log.warning(f"jobs of this sweep were run with different versions of the code: {', '.join(sorted(versions))}")
        return failed


def with_value(config: dict[str, Any], key: Sequence[str], value: Any) -> dict[str, Any]:
    """The config with a value in place of another; what is not on the way to it is shared."""
    first, *rest = key
    return {**config, first: with_value(config[first], rest, value) if rest else value}


def failure(job: Job, ret: JobReturn | None) -> str | None:
    """Reason why a job failed; None if it did not, and its run is finished.

    A folder that another sweep of the same name has filled meanwhile does not make up for a job that failed.

    Args:
        job: that was launched.
        ret: what it returned; None if the launcher stopped before.
    """
    failed = ret is not None and ret.status == JobStatus.FAILED
    if job.run.is_finished and not failed:
        return None
    error = ret._return_value if ret is not None and failed else None
    if error is None:
        return job.run.reason or "it did not return"
    return job.run.reason or (str(error) if isinstance(error, CompactHydraException) else f"{type(error).__name__}: {error}")


def write_table(folder: Path, **options: Any) -> None:
    """Prints and writes the table at the end of a sweep."""
    from vaelab.runs.summary import main  # imports matplotlib: only now

    try:
        main([str(folder)], output=str(folder / "summary"), **options)
    except ValueError as error:
        log.warning(f"no summary: {error}")
