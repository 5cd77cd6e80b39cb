"""Runs in groups, and what is said of each group."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from vaelab.runs.find import find_runs
from vaelab.runs.folder import RESULTS
from vaelab.runs.summary.finished import ABSENT, Finished, Unfinished
from vaelab.runs.summary.intervals import Interval, student_interval
from vaelab.runs.summary.settings import as_number, columns_of, labels_of, shortened

HEADLINE = ("elbo", "log_likelihood", "rate", "distortion", "active_units", "val/code_usage", "val/code_perplexity", "accuracy")
HIGHER = (
    *(
        "elbo",
        "bound",
        "elbo_amortised",
        "elbo_local",
        "log_likelihood",
        "log_likelihood_*",
        "ais_log_likelihood",
        "accuracy",
        "*_accuracy",
        "*_r2",
    ),
    *("*_score", "mig", "sap", "dci_*", "irs", "modularity", "explicitness", "udr", "auroc*", "average_precision*"),
    *("code_usage*", "code_perplexity*"),
    *("precision_*", "recall_*", "density_*", "coverage_*"),
    *("psnr*", "ssim"),
)
LOWER = (
    *("distortion", "bits_per_dim", "fid", "kid", "frechet_*", "kernel_distance*"),
    *("rfid", "lpips_*", "reconstruction_mse", "reconstruction_l1"),
)
OF_DATA = ("majority_accuracy", "*_of_train")  # and not of the model
SIZES = ("num_*", "*_num_*", "latent_dim", "*_std_error")  # what results hold beside metrics


def direction(metric: str) -> int:
    """1 if higher is better, -1 if lower is, 0 if neither."""
    name = metric.split("/")[-1]
    higher, lower, of_data = (any(fnmatchcase(name, pattern) for pattern in patterns) for patterns in (HIGHER, LOWER, OF_DATA))
    return 0 if of_data else higher - lower


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed alone."""

    values: tuple[str, ...]  # one for each column
    runs: tuple[Finished, ...]

    def interval(self, metric: str) -> Interval | None:
        """Statistics over the seeds; None if no run has the metric."""
        values = [run.metrics[metric] for run in self.runs if metric in run.metrics]
        return student_interval(values) if values else None

    def mean(self, metric: str) -> float:
        """Mean over the seeds; NaN if no run has the metric."""
        found = self.interval(metric)
        return math.nan if found is None else found.mean

    def uncertainty(self, metric: str) -> tuple[float, ...]:
        """Standard error or interval over the test examples of a single run; see `Finished.uncertainty`."""
        return self.runs[0].uncertainty(metric) if len(self.runs) == 1 else ()

    def protocol(self, metric: str) -> dict[str, str]:
        """Conditions of the metric, equal for settings whose values of it can be compared."""
        return self.runs[0].protocol(metric)


def paired_difference(setting: Setting, reference: Setting, metric: str) -> Interval | None:
    """Statistics of setting - reference over the seeds that both have; None if there is none."""
    own, other = (
        {run.seed: run.metrics[metric] for run in each.runs if metric in run.metrics and run.seed is not None}
        for each in (setting, reference)
    )
    shared = [seed for seed in own if seed in other]
    return student_interval([own[seed] - other[seed] for seed in shared]) if shared else None


@dataclass(frozen=True)
class Summary:
    """The content of a table over some run folders."""

    columns: list[str]
    settings: list[Setting]
    metrics: list[str]
    unfinished: list[Unfinished] = field(default_factory=list)
    baselines: list[Setting] = field(default_factory=list)  # at most one among settings that can be compared
    notes: list[str] = field(default_factory=list)
    leading: list[str] = field(default_factory=list)  # metrics by which runs are ranked

    @property
    def runs(self) -> list[Finished]:
        return [run for setting in self.settings for run in setting.runs]

    def best(self, metric: str) -> list[Setting]:
        """The settings with the best mean among those that can be compared, where there are at least two."""
        found = []
        for rivals in self.comparable(metric):
            means = [direction(metric) * setting.mean(metric) for setting in rivals]
            finite = [mean for mean in means if math.isfinite(mean)]
            if direction(metric) and len(rivals) > 1 and finite:
                found += [setting for setting, mean in zip(rivals, means, strict=True) if mean == max(finite)]
        return found

    def best_runs(self, metric: str) -> list[Finished]:
        """The best run among those that can be compared, where there are at least two."""
        found = []
        for rivals in self.comparable(metric):
            runs = [run for setting in rivals for run in setting.runs if math.isfinite(run.metrics.get(metric, math.nan))]
            if direction(metric) and len(runs) > 1:
                found.append(max(runs, key=lambda run: direction(metric) * run.metrics[metric]))
        return found

    def comparable(self, metric: str) -> list[list[Setting]]:
        """The settings that have a metric, apart where its values cannot be compared."""
        groups: list[list[Setting]] = []
        for setting in self.settings:
            if setting.interval(metric) is not None:
                same = [group for group in groups if group[0].protocol(metric) == setting.protocol(metric)]
                same[0].append(setting) if same else groups.append([setting])
        return groups

    def reference(self, setting: Setting, metric: str) -> Setting | None:
        """The setting that another is compared to: the baseline, or without one the best."""
        candidates = self.baselines or self.best(metric)
        return next((each for each in candidates if each.protocol(metric) == setting.protocol(metric)), None)

    def difference(self, setting: Setting, metric: str) -> Interval | None:
        """The paired difference to the reference; None for the reference itself, or without seeds in common."""
        reference = self.reference(setting, metric)
        return None if reference is None or reference is setting else paired_difference(setting, reference, metric)

    def label(self, setting: Setting) -> str:
        """Values of a setting, such as "objective.beta=4, prior=vamp"."""
        named = zip(self.columns, setting.values, strict=True)
        return ", ".join(f"{column}={value}" for column, value in named if value != ABSENT) or "all runs"


def summarize(
    paths: Iterable[str],
    metrics: Sequence[str] = (),
    baseline: str | None = None,
    results: str = RESULTS,
    leading: Sequence[str] = (),
) -> Summary:
    """Reads run folders and groups them.

    Args:
        paths: folders or globs; runs are searched for below them.
        metrics: names or patterns of what results hold; (): the headline metrics that there are.
        baseline: key=value,... of the setting that others are compared to. None: the best of each metric; because it is chosen after it was
            seen, intervals of differences to it hold the true one less often than they say.
        results: the file of a run folder to read, such as results_last.json.
        leading: metrics by which the best run is named, which stand first if `metrics` are (). (): the first of `metrics`, or without
            them val/bound, because a run is not chosen on test data; val/elbo, if an older run has none.

    Raises:
        ValueError: if there is no finished run, a metric is unknown, or the baseline is not one setting.
    """
    runs, unfinished = [], []
    for found in find_runs(paths, results):
        try:
            runs.append(Finished(found, results))
        except ValueError as error:
            reason = str(error).replace(f"{found.path}/", "").replace(str(found.path), "it")  # a table that is passed on names no path
            unfinished.append(Unfinished(found.name, reason))
    if not runs:
        others = f" (and {len(unfinished) - 1} more)" if len(unfinished) > 1 else ""
        raise ValueError(f"no run is finished; {unfinished[0].name}{others}: {unfinished[0].reason}")
    chosen = _choose(metrics, runs, leading)
    for run in runs:
        if not run.metrics.keys() & set(chosen):
            reason = f"it has no {' or '.join(chosen)}" if run.record.get("test") else "it was not evaluated on test data"
            unfinished.append(Unfinished(run.name, reason))
    runs = [run for run in runs if run.metrics.keys() & set(chosen)]
    columns = columns_of(runs)
    settings, repeated = _group(runs, columns)
    summary = Summary(columns, settings, chosen, unfinished)
    pairs = [(run, metric) for run in summary.runs for metric in chosen]
    strange = [
        f"{metric} is {run.metrics[metric]} in {run.name}" for run, metric in pairs if not math.isfinite(run.metrics.get(metric, 0.0))
    ]
    others = ", ".join(name for name in available(runs) if name not in chosen)
    notes = [*repeated, *_incomparable(summary), *strange, *([f"not shown: {others} (see --metrics)"] if others else [])]
    validated = "val/bound" if all("val/bound" in run.metrics for run in runs) else "val/elbo"
    candidates = leading or (chosen if metrics else [validated, *chosen])
    ranked = [name for name in candidates if direction(name) and any(name in run.metrics for run in runs)][: len(leading) or 1]
    return Summary(columns, settings, chosen, unfinished, _find_baselines(summary, baseline) if baseline else [], notes, ranked)


def available(runs: Sequence[Finished]) -> list[str]:
    """The metrics that any of the runs has."""
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    return [name for name in names if name == "num_parameters" or not any(fnmatchcase(name, pattern) for pattern in SIZES)]


def _choose(wanted: Sequence[str], runs: Sequence[Finished], leading: Sequence[str]) -> list[str]:
    known, chosen = available(runs), []
    for pattern in wanted or [name for name in (*leading, *HEADLINE) if name in known]:
        found = [name for name in known if fnmatchcase(name, pattern)]
        if not found:
            close = get_close_matches(pattern, known, 3)
            raise ValueError(f"no run has the metric {pattern}; {'nearest are' if close else 'there are'} {', '.join(close or known)}")
        chosen += [name for name in found if name not in chosen]
    if not chosen:
        raise ValueError(f"no run was evaluated on test data: run `vaelab evaluate`, or choose --metrics from {', '.join(known)}")
    return chosen


def _group(runs: Sequence[Finished], columns: Sequence[str]) -> tuple[list[Setting], list[str]]:
    """The settings in the order of their values, and a note on runs that another one repeats."""
    rows = [shortened(labels_of(runs, column)) for column in columns]
    groups: dict[tuple[str, ...], list[Finished]] = {}
    for i, run in enumerate(runs):
        groups.setdefault(tuple(row[i] for row in rows), []).append(run)
    settings, repeated = [], []
    for values, group in groups.items():
        latest: dict[Any, Finished] = {}
        for run in sorted(group, key=lambda run: run.finished):
            latest[run.name if run.seed is None else run.seed] = run
        repeated += [run.name for run in group if run not in latest.values()]
        settings.append(Setting(values, tuple(sorted(latest.values(), key=lambda run: (run.seed or 0, run.name)))))
    settings.sort(key=lambda setting: [_order(value) for value in setting.values])
    return settings, [f"left out, because a later run has the same setting and seed: {', '.join(repeated)}"] if repeated else []


def _order(value: str) -> tuple[bool, float, str]:
    """Numbers by size, before words."""
    size = as_number(value)
    return size is None, size or 0.0, value


def _find_baselines(summary: Summary, name: str) -> list[Setting]:
    wanted = {}
    for part in re.split(r",(?![^\[]*\])", name):  # not at the commas of a list
        key, _, value = part.strip().partition("=")
        columns = [column for column in summary.columns if column == key] or [c for c in summary.columns if c.endswith(f".{key}")]
        if len(columns) != 1:
            raise ValueError(f"--baseline {name}: {key} is none of the columns that differ ({', '.join(summary.columns) or 'none does'})")
        wanted[summary.columns.index(columns[0])] = value
    found = [setting for setting in summary.settings if all(_same(setting.values[i], value) for i, value in wanted.items())]
    if not found:
        raise ValueError(f"--baseline {name} is none of the settings: {'; '.join(map(summary.label, summary.settings))}")
    protocols = [setting.protocol(summary.metrics[0]) for setting in found]
    if any(protocol in protocols[:i] for i, protocol in enumerate(protocols)):
        raise ValueError(f"--baseline {name} is {len(found)} settings; say which: {'; '.join(map(summary.label, found))}")
    return found


def _same(a: str, b: str) -> bool:
    return a == b or (as_number(a) is not None and as_number(a) == as_number(b))


def _incomparable(summary: Summary) -> list[str]:
    """One line on rows whose numbers cannot be compared, and why."""
    concerned: dict[str, list[str]] = {}
    for metric in summary.metrics:
        protocols = [run.protocol(metric) for run in summary.runs if metric in run.metrics]
        for condition in dict.fromkeys(name for protocol in protocols for name in protocol):
            if len({protocol.get(condition) for protocol in protocols}) > 1:
                concerned.setdefault(condition, []).append(metric)
    reasons = [f"{condition} ({'all' if metrics == summary.metrics else ', '.join(metrics)})" for condition, metrics in concerned.items()]
    return [f"not comparable are rows that differ in {'; '.join(reasons)}: the best is marked among those that agree"] if reasons else []
