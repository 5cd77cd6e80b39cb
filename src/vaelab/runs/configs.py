"""Configs of runs: flat, compared, and with one table of the keys that change no number."""

from collections.abc import Mapping
from enum import Enum, auto
from functools import cache
from typing import Any, NamedTuple

# Where classes lived when older runs stored their configs. The first row that fits counts.
MOVED_TARGETS = {
    "vaelab.callbacks.Pruning": "vaelab.sweeps.pruning.Pruning",
    "vaelab.callbacks": "vaelab.training.callbacks",
    "vaelab.metrics_csv": "vaelab.training.metrics_csv",
    "vaelab.seeds": "vaelab.commands.seeds",
}
# Where keys were, below `evaluation` and in the config of `vaelab evaluate`.
MOVED_KEYS = {name: f"metrics.likelihood.{name}" for name in ("num_samples", "chunk_size", "num_images")}


class Use(Enum):
    """The question that a key is asked about."""

    RESUME = auto()  # may a run go on with another value?
    SWEEP = auto()  # may a sweep go on with another value?
    COMPARISON = auto()  # are two runs of one setting? (summary, UDR)
    HPARAMS = auto()  # is it a column of TensorBoard's HPARAMS?
    TEST_DATA = auto()  # are two runs evaluated on the same data?


ALL = frozenset(Use)


class Immaterial(NamedTuple):
    """A key of a config, with all keys below it, that changes no number for some uses, and why."""

    key: str
    why: str
    uses: frozenset[Use]


IMMATERIAL = (
    *(Immaterial(key, "says where files are", ALL) for key in ("paths", "download")),
    *(
        Immaterial(f"data.{key}", "says where files are, and what is in them is compared", frozenset({Use.RESUME}))
        for key in ("root", "file", "hidden")
    ),
    *(Immaterial(key, "names the folder of a run or sweep", ALL) for key in ("name", "sweep")),
    *(Immaterial(key, "says what to do with a run that exists", ALL) for key in ("existing", "resume", "trust")),
    *(Immaterial(key, "says how the jobs of a sweep are started", ALL) for key in ("launcher", "hparams_search")),
    Immaterial("published", "says what a paper reports", ALL),
    Immaterial("logger", "says where metrics are written", ALL),
    Immaterial("evaluation", "judges a trained model; what was judged, and how, is read from its results", ALL),
    *(
        Immaterial(f"callbacks.{name}", "watches a run", ALL)
        for name in ("first_batch", "throughput", "collapse", "pictures", "progress", "last", "pruning")
    ),
    Immaterial("callbacks", "may end a run early, as fewer epochs do", frozenset({Use.RESUME, Use.HPARAMS, Use.TEST_DATA})),
    *(
        Immaterial(f"trainer.{name}", "shows or logs a run", ALL)
        for name in ("enable_progress_bar", "enable_model_summary", "log_every_n_steps", "num_sanity_val_steps")
    ),
    Immaterial("trainer.accelerator", "computes the same up to rounding", ALL),
    *(
        Immaterial(f"speed.{name}", "computes the same up to rounding", ALL)
        for name in ("channels_last", "threads", "candidates", "min_seconds")
    ),
    Immaterial("trainer", "makes a run longer, or moves it to other devices", frozenset({Use.RESUME, Use.TEST_DATA})),
    *(
        Immaterial(f"data.{name}", "loads the same examples in another way", ALL)
        for name in ("num_workers", "device_resident", "eval_batch_size", "cache", "dataset.cache", "dataset.max_memory")
    ),
    *(
        Immaterial(f"data.{name}", "concerns training data", frozenset({Use.TEST_DATA}))
        for name in ("batch_size", "num_labelled", "seed", "static_seed", "val_size")
    ),
    Immaterial("seed", "tells the runs of one setting apart", frozenset({Use.COMPARISON, Use.TEST_DATA})),
)


@cache
def _immaterial_keys(use: Use) -> frozenset[str]:
    return frozenset(row.key for row in IMMATERIAL if use in row.uses)


def is_immaterial(key: str, use: Use) -> bool:
    """True if a dotted key changes no number for this use; see `IMMATERIAL`."""
    parts = key.split(".")
    return any(".".join(parts[:length]) in _immaterial_keys(use) for length in range(1, len(parts) + 1))


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """{"optimizer.lr": 0.001, ...} of a nested config; lists and empty mappings are values."""
    if not isinstance(node, Mapping) or (not node and prefix):
        return {prefix: node}
    parts = [flatten(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in node.items()]
    return {key: value for part in parts for key, value in part.items()}


def value_at(config: Any, key: str, default: Any = None) -> Any:
    """The value at a dotted key of a nested config."""
    for name in key.split("."):
        if not isinstance(config, Mapping) or name not in config:
            return default
        config = config[name]
    return config


def material(config: Mapping[str, Any], use: Use, prefix: str = "") -> dict[str, Any]:
    """A nested config without what is immaterial for a use; of `pretrained`, if that is a config, too."""
    kept: dict[str, Any] = {}
    immaterial = _immaterial_keys(use)
    for name, value in config.items():
        key = f"{prefix}{name}"
        if key in immaterial:
            continue
        if isinstance(value, Mapping) and value:
            value = material(value, use, "" if key == "pretrained" else f"{key}.")
            if not value:
                continue  # nothing in it matters
        kept[str(name)] = value
    return kept


def differences(stored: Mapping[str, Any], now: Mapping[str, Any], use: Use) -> list[str]:
    """Material differences of two nested configs, as "trainer.max_epochs: 20, now 30". 1 and 1.0 are the same number."""
    before, after = (flatten(material(config, use)) for config in (stored, now))
    keys = sorted(before.keys() | after.keys())
    return [f"{key}: {before.get(key)}, now {after.get(key)}" for key in keys if before.get(key) != after.get(key)]


def of_today(config: Mapping[str, Any]) -> dict[str, Any]:
    """A stored config with classes and keys where they are today; see `MOVED_TARGETS` and `MOVED_KEYS`."""
    today: dict[str, Any] = with_moved_targets(config)
    evaluation, scheduler = today.get("evaluation"), today.get("scheduler")
    if isinstance(scheduler, dict) and "_target_" in scheduler and not {"interval", "num_steps", "monitor"} & scheduler.keys():
        scheduler["interval"] = "epoch"  # as all were
    old = {name: evaluation.pop(name) for name in MOVED_KEYS if name in evaluation} if isinstance(evaluation, dict) else {}
    if old:
        likelihood = {"_target_": "vaelab.metrics.evaluate_test_data", "_partial_": True, **old}
        today["evaluation"]["metrics"] = {"likelihood": likelihood, **(today["evaluation"].get("metrics") or {})}
    return today


def with_moved_targets(node: Any) -> Any:
    """A node of a config in which every `_target_` is where its class lives today."""
    if isinstance(node, Mapping):
        return {key: moved(value) if key == "_target_" else with_moved_targets(value) for key, value in node.items()}
    return [with_moved_targets(value) for value in node] if isinstance(node, list) else node


def that_only_reads(config: Mapping[str, Any]) -> dict[str, Any]:
    """A stored config that neither fetches data nor writes them elsewhere: only the command line that is typed now may ask for that."""
    found = without_download(config)
    for node in (found.get("data"), value_at(found, "data.dataset")):
        if isinstance(node, dict) and "cache" in node and node["cache"] != "${data.cache}":
            node["cache"] = None
    return found


def without_download(node: Any) -> Any:
    """A node of a stored config that fetches nothing."""
    if isinstance(node, Mapping):
        return {key: False if key == "download" and value != "${download}" else without_download(value) for key, value in node.items()}
    return [without_download(value) for value in node] if isinstance(node, list) else node


def quoted(text: str) -> str:
    """Text in the quotes of Hydra's command line."""
    plain = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{plain}'"


def moved(target: Any) -> Any:
    """The name of a class today, from its name when it was stored."""
    for old, new in MOVED_TARGETS.items():
        if f"{target}.".startswith(f"{old}."):
            return f"{new}{target.removeprefix(old)}"
    return target
