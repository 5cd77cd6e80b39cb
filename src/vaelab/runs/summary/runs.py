"""From folders to what the runs in them say of themselves."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from glob import glob, has_magic
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

COSTS = ("num_parameters", "epochs", "steps", "train_time_s", "peak_memory_mib")
# what a config says that leaves the numbers alone; how a run was evaluated is read from its results instead
IMMATERIAL = (
    *("seed", "name", "paths", "logger", "resume", "existing", "sweep", "download", "evaluation"),
    *("callbacks.first_batch", "callbacks.pictures", "callbacks.progress", "callbacks.throughput", "callbacks.pruning", "callbacks.last"),
    *("data.eval_batch_size", "data.num_workers", "data.device_resident"),
    *("trainer.accelerator", "trainer.enable_progress_bar", "trainer.enable_model_summary"),
    *("trainer.log_every_n_steps", "trainer.num_sanity_val_steps"),
)
# of the data, what concerns training alone
TRAINING = ("data.batch_size", "data.num_labelled", "data.seed", "data.static_seed", "data.val_size")
# groups whose choice says how and where a run is done: their values are compared one by one
UNNAMED = ("callbacks", "launcher", "logger", "paths", "speed", "trainer")
# metrics that depend on how many importance samples of how many examples there were, and those in nats per example
IMPORTANCE_WEIGHTED = ("log_likelihood", "bits_per_dim", "effective_sample_size")
NATS = (
    *("elbo", "elbo_amortised", "elbo_local", "distortion"),
    *("log_likelihood", "log_likelihood_iwae", "log_likelihood_ais", "ais_log_likelihood"),
)
SPEED = ("_target_", "_partial_", "batch_size", "chunk_size", "num_jobs")  # options of a metric that leave it alone
INSIDE = ("anomalies", "checkpoints", "figures", "inpainting", "resumed", "tensorboard")  # folders of a run, which hold no other run
ABSENT = "—"
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was compiled


class Unfinished(NamedTuple):
    """A run folder without a number for the table."""

    name: str
    reason: str


@dataclass(frozen=True)
class Run:
    """A finished run."""

    name: str  # its folder, and never an absolute path
    raw: dict[str, Any]  # the config as it was written
    tree: dict[str, Any]  # the same without what is immaterial, and with how it was evaluated
    choices: dict[str, str]  # of the dials, by the key that they set
    overrides: list[str]  # the keys of the command line
    record: dict[str, Any]  # its results
    finished: float  # seconds since 1970

    @property
    def seed(self) -> int | None:
        seed = self.raw.get("seed")
        return seed if isinstance(seed, int) else None

    @cached_property
    def metrics(self) -> dict[str, float]:
        """All that is one number: of the test data by name, of the validation data as val/name, and what training cost."""
        found = {**(self.record.get("test") or {}), **{f"val/{key}": value for key, value in (self.record.get("val") or {}).items()}}
        found |= {key: self.record.get(key) for key in COSTS}
        return {key: float(value) for key, value in found.items() if isinstance(value, int | float) and not isinstance(value, bool)}

    def uncertainty(self, metric: str) -> tuple[float, ...]:
        """Over the test examples: (standard error,), or (low, high) of a 95 % interval, or () where neither is known."""
        test = self.record.get("test") or {}
        error, ends = test.get(f"{metric}_std_error"), test.get(f"{metric}_ci")
        return tuple(ends) if ends else () if error is None else (error,)

    def protocol(self, metric: str) -> dict[str, str]:
        """The conditions under which a metric was measured: values can be compared where they are equal."""
        name, how = metric.split("/")[-1], self.tree["evaluation"]
        found = {"data": self._data, "evaluation.checkpoint": str(how["checkpoint"])}
        if name in IMPORTANCE_WEIGHTED:
            found |= {f"evaluation.{key}": str(how[key]) for key in ("num_samples", "num_images")}
        if name in NATS:
            found["p(x | z)"] = self._kind
        for evaluation, how in (self.record.get("evaluations") or {}).items():  # of what scripts/evaluate.py has added
            if evaluation != "likelihood" and name in how.get("keys", ()):  # of which the conditions above tell
                options = {key: value for key, value in how.get("options", {}).items() if key not in SPEED}
                found[f"options of {evaluation}"] = json.dumps(options, sort_keys=True)
        return found

    @cached_property
    def _data(self) -> str:
        data = {key: self.raw.get(key) for key in ("data", "missing")}
        return json.dumps(_without(data, (*TRAINING, *IMMATERIAL)), sort_keys=True, default=str)

    @property
    def _kind(self) -> str:
        """A density cannot be compared with a probability; bits are known of probabilities, and never of data with missing values."""
        test = self.record.get("test") or {}
        if "bits_per_dim" not in test or self.raw.get("missing"):
            return "unknown"
        return "a density" if test["bits_per_dim"] is None else "a probability"

    def written(self, key: str) -> Any:
        """The value at a dotted key, as it was written."""
        return find(self.tree, key)

    def value(self, key: str) -> Any:
        """The value at a dotted key, its interpolations resolved but for those that only a running Hydra knows."""
        node, (root, _, below) = self.written(key), key.partition(".")
        if "${" not in str(node):
            return node
        config, key = (self._pretrained, below) if root == "pretrained" else (self._config, key)
        try:
            value = OmegaConf.select(config, key)
            return plain(OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value)
        except (OmegaConfBaseException, ValueError):
            return node

    @cached_property
    def _config(self) -> Any:
        return OmegaConf.create(self.raw)

    @cached_property
    def _pretrained(self) -> Any:
        return OmegaConf.create(self.raw["pretrained"])


def find(tree: Any, key: str) -> Any:
    """The value at a dotted key of a nested mapping, or ABSENT."""
    for name in key.split("."):
        if not isinstance(tree, dict) or name not in tree:
            return ABSENT
        tree = tree[name]
    return tree


def find_runs(paths: Iterable[str], results: str = "results.json") -> dict[str, Path]:
    """The run folders at or below some folders or globs, by name.

    Raises:
        ValueError: if a path is no folder, or there is no run.
    """
    paths, found, seen = list(paths), {}, set()
    for top in (top for path in paths for top in _folders(path)):
        for folder in _walk(top, results):
            if folder.resolve() not in seen:
                seen.add(folder.resolve())
                found[_name(folder, top)] = folder
    if not found:
        raise ValueError(f"there is no run folder in {', '.join(paths)}: scripts/train.py makes them, below outputs/")
    above = {parent for folder in found.values() for parent in folder.parents}  # of a script that started runs below its own folder
    return {name: folder for name, folder in found.items() if folder not in above or (folder / results).exists()}


def _folders(path: str) -> list[Path]:
    matches = sorted(glob(path, recursive=True)) if has_magic(path) and not Path(path).exists() else [path]
    folders = [Path(match) for match in matches if Path(match).is_dir()]
    if not folders:
        raise ValueError(f"there is no folder {path}")
    return folders


def _walk(top: Path, results: str) -> Iterator[Path]:
    for folder, below, _ in os.walk(top):
        is_run = _is_run(Path(folder), results)
        below[:] = sorted(name for name in below if not name.startswith(".") and not (is_run and name in INSIDE))
        if is_run:
            yield Path(folder)


def _is_run(folder: Path, results: str) -> bool:
    written = (folder / ".hydra" / "config.yaml", folder / results)
    return any(path.is_file() for path in written) or any((folder / "checkpoints").glob("*.ckpt"))


def _name(folder: Path, top: Path) -> str:
    """From the working directory if the folder lies below it, else from what was given."""
    absolute = folder.absolute()
    return str(absolute.relative_to(Path.cwd() if absolute.is_relative_to(Path.cwd()) else top.absolute().parent))


def read_run(folder: Path, name: str, results: str = "results.json") -> Run:
    """A finished run, from its results and its config.

    Raises:
        ValueError: if there are no results, or something cannot be read; the message is the reason.
    """
    record = _read_results(folder, results)
    raw, choices, overrides = _read_config(folder)
    test, checkpoint, finished = record.get("test") or {}, record.get("checkpoint"), record.get("finished")
    evaluation = {
        "checkpoint": Path(str(checkpoint)).stem if checkpoint else None,
        "num_samples": test.get("num_samples"),
        "num_images": test.get("num_images_log_likelihood"),
    }
    return Run(
        name=name,
        raw=raw,
        tree={**_without(raw, IMMATERIAL), "evaluation": evaluation},
        choices=choices,
        overrides=overrides,
        record=record,
        finished=datetime.fromisoformat(str(finished)).timestamp() if finished else (folder / results).stat().st_mtime,
    )


def _read_results(folder: Path, results: str) -> dict[str, Any]:
    path = folder / results
    if not path.is_file():
        pruned = (folder / "pruned.txt").is_file()
        raise ValueError("pruned by its search" if pruned else f"no {results}: it failed, was stopped, or is still running")
    try:
        record = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise ValueError(f"{results} cannot be read ({error})") from error
    if not isinstance(record, dict) or not all(isinstance(record.get(key) or {}, dict) for key in ("test", "val", "evaluations")):
        raise ValueError(f"{results} was not written by vaelab: it has no test metrics")
    return record


def _read_yaml(path: Path) -> Any:
    try:
        return plain(yaml.load(path.read_text(), Loader=Loader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.parent.name}/{path.name} cannot be read ({' '.join(str(error).split())})") from error


def _read_config(folder: Path) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """The config, the choices of the dials, and the keys of the command line."""
    written, seen = folder / ".hydra" / "config.yaml", folder / ".hydra" / "hydra.yaml"
    # of a run that was continued, only the checkpoint knows how
    raw = _read_yaml(written) if written.is_file() and not (folder / "resumed").is_dir() else _stored_config(folder)
    if not isinstance(raw, dict):
        raise ValueError(f"{written.parent.name}/{written.name} cannot be read (it is no mapping)")
    hydra = _read_yaml(seen) if seen.is_file() else {}
    choices = {}
    for key, choice in found.items() if isinstance(found := find(hydra, "hydra.runtime.choices"), dict) else ():
        dial = key.split("@")[-1]  # schedule@objective.beta chooses what is at objective.beta
        if choice is not None and dial not in UNNAMED and not dial.startswith("hydra/"):
            choices[dial] = str(choice)
    if isinstance(raw.get("pretrained"), str):
        cwd = find(hydra, "hydra.runtime.cwd")
        origin = Path("" if cwd == ABSENT else cwd, raw["pretrained"])
        origin = origin.parent.parent if origin.is_file() else origin
        if (origin / ".hydra" / "config.yaml").is_file():
            # the weights that it started from are those of a setting and a seed, and not of a folder
            first, named, _ = _read_config(origin)
            raw["pretrained"] = first
            choices |= {f"pretrained.{key}": choice for key, choice in named.items()}
    line = find(hydra, "hydra.overrides.task")
    return raw, choices, [re.split("[=@]", str(override).lstrip("+~"))[0] for override in (line if isinstance(line, list) else [])]


def _stored_config(folder: Path) -> Any:
    found = sorted((folder / "checkpoints").glob("*.ckpt"), key=lambda path: (path.stem != "last", path.name))
    if not found:
        raise ValueError("it has results, but neither .hydra/config.yaml nor a checkpoint")
    from vaelab.runs.folder import read_checkpoint

    return plain(read_checkpoint(found[0])["config"])


def plain(node: Any) -> Any:
    """1.0 and 1 are the same number."""
    if isinstance(node, dict):
        return {str(key): plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(value) for value in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node


def _without(node: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """A nested mapping without some of its dotted keys; without the same of the config of a pretrained run."""
    kept = {}
    for name, value in node.items():
        below = [key.removeprefix(f"{name}.") for key in keys if key.startswith(f"{name}.")]
        below = list(keys) if name == "pretrained" else below
        if name not in keys:
            kept[name] = _without(value, below) if below and isinstance(value, dict) else value
    return kept
