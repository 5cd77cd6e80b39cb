"""A search by Optuna (Akiba et al., 2019, https://arxiv.org/abs/1907.10902) that can be continued."""

import inspect
import json
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from vaelab.runs.configs import Use, is_immaterial
from vaelab.runs.folder import RunFolder
from vaelab.sweeps.grid import failure, write_table
from vaelab.sweeps.jobs import Job, check_devices, folder_of, name_of, plain_numbers, with_preset
from vaelab.sweeps.trials import Trials, storage

log = logging.getLogger(__name__)
SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "nsga2": "NSGAIISampler", "grid": "RandomSampler"}  # a grid is queued
PRUNERS = {"median": "MedianPruner", "hyperband": "HyperbandPruner", "halving": "SuccessiveHalvingPruner"}


@dataclass
class SearchConf:
    _target_: str = "hydra_plugins.vaelab.OptunaSweeper"
    _recursive_: bool = False
    n_trials: int = 20  # in all, those of earlier sessions too
    n_jobs: int = 1  # trials that are proposed, and launched, at a time
    metrics: list[str] = field(default_factory=lambda: ["val/bound"])  # of the results; several: the Pareto front is looked for
    directions: list[str] = field(default_factory=lambda: ["maximize"])
    sampler: Any = "tpe"  # tpe, random, grid, nsga2, or {_target_: ...}
    pruner: Any = None  # median, hyperband, halving, or {_target_: ...}
    storage: str | None = None  # URL of a database that machines share; None: a journal in the folder of the sweep
    seed: int = 0
    params: dict[str, str] = field(default_factory=dict)  # what is searched unless the command line says otherwise
    summarize: bool = True


class OptunaSweeper(Sweeper):
    """Proposes trials until n_trials of them are complete or pruned, whatever happens in between.

    The folder of a trial is named by its parameters: a point that is proposed twice is computed once, and one that was killed is queued
    again and goes on from its checkpoint. Searches of one name and storage may run at once, on several machines: they share the trials.

    Raises:
        CompactHydraException: if metrics and directions are not equally many, a direction or a number is none, or pruning is asked for
            with several metrics.
    """

    config: DictConfig
    launcher: Launcher

    def __init__(
        self,
        n_trials: int,
        n_jobs: int,
        metrics: list[str],
        directions: list[str],
        sampler: str | DictConfig,
        pruner: str | DictConfig | None,
        storage: str | None,
        seed: int,
        params: dict[str, str],
        summarize: bool,
    ) -> None:
        self.params = dict(params)
        self.metrics, self.directions = list(metrics), list(directions)
        if len(self.metrics) != len(self.directions):
            raise CompactHydraException(f"hydra.sweeper.metrics={self.metrics} need as many directions, not {self.directions}")
        if not set(self.directions) <= {"maximize", "minimize"}:
            raise CompactHydraException(f"hydra.sweeper.directions={self.directions} must be maximize or minimize")
        if min(n_trials, n_jobs) < 1:
            raise CompactHydraException(f"hydra.sweeper.n_trials={n_trials} and hydra.sweeper.n_jobs={n_jobs} must be at least 1")
        if pruner is not None and len(self.metrics) > 1:
            raise CompactHydraException("a trial is pruned by one metric: with several, leave hydra.sweeper.pruner out")
        self.n_trials, self.n_jobs, self.seed, self.url, self.summarize = n_trials, n_jobs, seed, storage, summarize
        self.grid = sampler == "grid"
        self.sampler = target_of(sampler, SAMPLERS, "optuna.samplers", "hydra.sweeper.sampler")
        self.pruner = None if pruner is None else target_of(pruner, PRUNERS, "optuna.pruners", "hydra.sweeper.pruner")

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.loader = config, hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> None:
        import optuna

        check_devices(self.config)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        overrides = OverridesParser.create(config_loader=self.loader).parse_overrides(with_preset(self.params, arguments))
        self.space = {override.get_key_element(): distribution(override) for override in overrides if override.is_sweep_override()}
        if not self.space:
            raise CompactHydraException("nothing to search: give an interval, such as 'optimizer.lr=tag(log,interval(1e-4,1e-2))'")
        self.fixed = [str(override.input_line) for override in overrides if not override.is_sweep_override()]
        self.folder = folder_of(self.config)
        OmegaConf.save(self.config, self.folder / "multirun.yaml")
        self.study = optuna.create_study(
            study_name=self.folder.name,
            storage=storage(self.url or str(self.folder / "study.journal")),
            directions=self.directions,  # type: ignore[arg-type]
            load_if_exists=True,
        )
        self.check_unchanged()
        self.trials = Trials(self.study, self.n_trials, self.grid)
        self.trials.requeue()
        if self.grid:
            self.trials.queue_grid(values_of(self.space))
        failures = 0
        while self.trials.left() > 0:
            failures += self.launch(self.trials.ask(self.space, self.sampler_after, self.n_jobs, lambda trial: self.job(trial).run.path))
            if failures > self.trials.total:
                raise CompactHydraException(
                    f"{failures} trials failed, more than the {self.trials.total} that were to be complete: see the logs"
                )
        self.report()
        if failures and self.grid:
            raise CompactHydraException(f"{failures} points of the grid failed; the same line tries them again")

    def check_unchanged(self) -> None:
        """A study compares trials that differ in what is searched alone.

        Raises:
            CompactHydraException: if it was started with other values.
        """
        searched = {key: list(getattr(choices, "choices", ["an interval"])) for key, choices in self.space.items()}
        asked = {"values": material_words(self.fixed), "metrics": self.metrics, "searched": searched}
        known = self.study.user_attrs.get("asked")
        if known is None:
            self.study.set_user_attr("asked", asked)
            return
        known = {**known, "values": material_words(known["values"])}  # of an earlier version, perhaps, which kept more of them
        changed = [f"{name}: {known.get(name)}, now {value}" for name, value in asked.items() if known.get(name) != value]
        if changed:
            words = "\n  ".join(changed)
            raise CompactHydraException(f"this search was started with other\n  {words}\ngive it another name (sweep=...)")

    def sampler_after(self, known: int) -> Any:
        """The sampler of a trial before which so many others were known; most samplers take a seed."""
        options = {key: value for key, value in self.sampler.items() if key != "_target_"}
        target = get_class(self.sampler["_target_"])
        seed = {"seed": self.seed + 1009 * known} if "seed" in inspect.signature(target).parameters else {}
        return target(**seed | options)

    def launch(self, trials: Sequence[Any]) -> int:
        """Runs trials, and tells the study how they ended; returns how many failed."""
        from optuna.storages._heartbeat import get_heartbeat_thread
        from optuna.trial import TrialState

        jobs = {trial.number: self.job(trial) for trial in trials}
        missing = [trial for trial in trials if not jobs[trial.number].run.is_finished]
        first = min((trial.number for trial in missing), default=0)
        lines = [[*jobs[trial.number].line, *self.pruning(trial)] for trial in missing]
        try:
            with ExitStack() as stack:
                for trial in trials:  # meanwhile, a database is told that this search is alive
                    stack.enter_context(get_heartbeat_thread(trial._trial_id, self.study._storage))  # type: ignore[arg-type]
                returns = self.launcher.launch(lines, initial_job_idx=first) if lines else []
        except Exception as error:
            log.error(f"the launcher stopped: {type(error).__name__}: {error}")
            returns = []
        returned = {trial.number: ret for trial, ret in zip(missing, returns, strict=False)}
        failures = 0
        for trial in trials:
            job = jobs[trial.number]
            reason = failure(job, returned.get(trial.number))
            if reason is None:
                values = [value_of(job, metric) for metric in self.metrics]
                self.trials.tell(trial, values)
                log.info(f"trial {trial.number}: {self.in_words(values)}   {job.name}")
            elif "pruned" in self.study.trials[trial.number].user_attrs:
                self.trials.tell(trial, state=TrialState.PRUNED)
                log.info(f"trial {trial.number}: pruned   {job.name}")
            else:
                self.trials.tell(trial, state=TrialState.FAIL)
                log.error(f"trial {trial.number}: failed   {job.name}\n  {reason}")
                failures += 1
        return failures

    def job(self, trial: Any) -> Job:
        """The job of a trial; of a number, six digits: a folder that can be read."""
        words = [f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in trial.params.items()]
        name = name_of(words)
        return Job(name, (*self.fixed, *words), RunFolder(self.folder / name))

    def pruning(self, trial: Any) -> list[str]:
        """The words that make a job report to its trial, and stop if it is told to."""
        if self.pruner is None:
            return []
        sweeper = OmegaConf.to_container(self.config.hydra.sweeper, resolve=False)
        url = sweeper["storage"]  # type: ignore[index,call-overload]  # with a password that comes from the environment not in it
        where = {"storage": url or str(self.folder / "study.journal"), "study": self.folder.name, "number": trial.number}
        pruner = json.dumps(self.pruner)
        words = ",".join(f"{key}:{json.dumps(value)}" for key, value in where.items())
        target = "vaelab.sweeps.pruning.Pruning"
        return [f"+callbacks.pruning={{_target_:{target},monitor:{self.metrics[0]},{words},pruner:{unquoted(pruner)}}}"]

    def in_words(self, values: Sequence[float]) -> str:
        return ", ".join(f"{metric}={value:.5g}" for metric, value in zip(self.metrics, values, strict=True))

    def report(self) -> None:
        """The best trials, in words, in best.json and in figures."""
        for trial in self.trials.in_state("RUNNING"):
            owner = trial.user_attrs.get("owner", "which did not say who it is")
            log.info(f"trial {trial.number} is still running in another search, {owner}: the one that ends last reports all")
        best = [(trial, self.place(trial)) for trial in self.study.best_trials]
        record = [{"number": trial.number, "values": trial.values, "params": trial.params, "folder": place} for trial, place in best]
        (self.folder / "best.json").write_text(json.dumps(record, indent=2) + "\n")
        if self.summarize:
            from vaelab.figures.charts.search import search_charts  # imports matplotlib: only now

            searched = [metric.removeprefix("test/") for metric in self.metrics]
            write_table(self.folder, leading=searched, more=search_charts(self.study, self.metrics))
        for trial, place in best:
            where = "best" if len(self.metrics) == 1 else "on the Pareto front"
            log.info(f"{where}: trial {trial.number}, {self.in_words(trial.values)}\n  {place}")

    def place(self, trial: Any) -> str:
        """The run folder of a trial; host:folder if it is that of another machine."""
        where = trial.user_attrs["folder"]
        folder = where.partition(":")[2]
        return folder if Path(folder).is_dir() else where


def distribution(override: Override) -> Any:
    """The values that a parameter may have: an interval, on a logarithmic scale if it is tagged so, whole numbers, or a list.

    Raises:
        CompactHydraException: if an interval is empty, or is logarithmic and not positive, or a list has a value twice.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    if isinstance(value, IntervalSweep):
        log_scale, whole = "log" in value.tags, isinstance(value.start, int) and isinstance(value.end, int)
        assert value.start is not None
        assert value.end is not None
        try:
            return (IntDistribution if whole else FloatDistribution)(value.start, value.end, log=log_scale)  # type: ignore[arg-type]
        except ValueError as error:
            raise CompactHydraException(f"{override.input_line}: {error}") from None
    if isinstance(value, RangeSweep) and all(isinstance(part, int) for part in (value.start, value.stop, value.step)):
        values = list(range(value.start, value.stop, value.step))  # type: ignore[arg-type]
        if values and value.step > 0 and not value.shuffle:
            return IntDistribution(values[0], values[-1], step=int(value.step))
    words = [str(word) for word in override.sweep_string_iterator()]
    if len({plain_numbers(f"={word}") for word in words}) < len(words):
        raise CompactHydraException(f"{override.input_line}: a value is asked for more than once")
    return CategoricalDistribution(words)


def values_of(space: dict[str, Any]) -> dict[str, list[Any]]:
    """Every value of each parameter.

    Raises:
        CompactHydraException: if one has infinitely many.
    """
    values = {}
    for key, choices in space.items():
        if hasattr(choices, "choices"):
            values[key] = list(choices.choices)
        elif isinstance(choices.low, int):
            values[key] = list(range(choices.low, choices.high + 1, choices.step))
        else:
            raise CompactHydraException(f"{key} has infinitely many values: a grid takes lists; use hydra.sweeper.sampler=random")
    return values


def target_of(choice: str | DictConfig, known: dict[str, str], module: str, option: str) -> dict[str, Any]:
    """The config of a sampler or pruner, from its short name or as it is.

    Raises:
        CompactHydraException: if there is nothing of that name.
    """
    if not isinstance(choice, str):
        return OmegaConf.to_container(choice)  # type: ignore[return-value]
    if choice not in known:
        raise CompactHydraException(f"{option}={choice} must be one of {', '.join(known)}, or {{_target_:{module}....}}")
    return {"_target_": f"{module}.{known[choice]}"}


def material_words(words: Sequence[str]) -> list[str]:
    """The words of a command line that change numbers, sorted, and each number in them written in one way."""
    keys = {word: word.lstrip("+~").split("=")[0].split("@")[-1] for word in words}
    return sorted(plain_numbers(word) for word, key in keys.items() if not is_immaterial(key, Use.SWEEP))


def value_of(job: Job, metric: str) -> float:
    """The value of a metric such as val/bound or test/mig.

    Raises:
        CompactHydraException: if it is not among the results of the job.
    """
    split, _, name = metric.partition("/")
    value = (job.results().get(split) or {}).get(name)
    if not isinstance(value, int | float):
        raise CompactHydraException(f"the results in {job.run} have no number {metric} (hydra.sweeper.metrics)")
    return float(value)


def unquoted(text: str) -> str:
    """JSON as Hydra's command line reads it."""
    return text.replace('"', "").replace(" ", "")
