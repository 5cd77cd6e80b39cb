"""Run folders with results, as the table sees them."""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from vaelab.runs.configs import Use, flatten, material, value_at
from vaelab.runs.find import lineage, setting
from vaelab.runs.folder import RESULTS, RunFolder

COSTS = ("num_parameters", "epochs", "steps", "train_time_s", "peak_memory_mib")
# groups whose choice says how and where a run is done: their values are compared one by one
UNNAMED = ("callbacks", "launcher", "logger", "paths", "speed", "trainer")
# metrics that depend on how many importance samples of how many examples there were, and those in nats per example
IMPORTANCE_WEIGHTED = ("log_likelihood", "bits_per_dim", "effective_sample_size")
NATS = (
    *("elbo", "elbo_amortised", "elbo_local", "distortion"),
    *("log_likelihood", "log_likelihood_iwae", "log_likelihood_ais", "ais_log_likelihood"),
)
SPEED = ("_target_", "_partial_", "batch_size", "chunk_size", "num_jobs")  # options of a metric that leave it alone
ABSENT = "—"


class Unfinished(NamedTuple):
    """A run folder without a number for the table."""

    name: str
    reason: str


class Finished:
    """A run folder with results: the metrics that can be shown, and the setting that they are of.

    Args:
        run: the folder; its name is never an absolute path.
        results: name of the file of its results.

    Raises:
        ValueError: if it has none, or something cannot be read; the message is the reason.
    """

    def __init__(self, run: RunFolder, results: str = RESULTS) -> None:
        if not (run.path / results).is_file():
            reasons = {"pruned": "pruned by its search", "failed": f"it failed: {run.reason}"}
            raise ValueError(reasons.get(run.state, f"no {results}: it failed, was stopped, or is still running"))
        self.name, self.record = run.name, run.results(results)
        runs = lineage(run)
        self.raw = with_whole_numbers(setting(runs))  # the config as it was written
        self.choices = choices_of(runs)  # of the dials, by the key that they set
        self.overrides = [re.split("[=@]", word.lstrip("+~"))[0] for word in run.overrides]  # the keys of the command line
        test, checkpoint, finished = self.record.get("test") or {}, self.record.get("checkpoint"), self.record.get("finished")
        left_to_objective = results == RESULTS and checkpoint and value_at(self.raw, "evaluation.checkpoint", "") is None
        evaluation = {
            "checkpoint": "by objective" if left_to_objective else Path(str(checkpoint)).stem if checkpoint else None,
            "num_samples": test.get("num_samples"),
            "num_images": test.get("num_images_log_likelihood"),
        }
        self.tree = {**material(self.raw, Use.COMPARISON), "evaluation": evaluation}  # what makes the setting
        # seconds since 1970
        self.finished = datetime.fromisoformat(str(finished)).timestamp() if finished else (run.path / results).stat().st_mtime

    @property
    def seed(self) -> int | None:
        seed = self.raw.get("seed")
        return seed if isinstance(seed, int) else None

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Everything that is one number: of the test data by name, of the validation data as val/name, and costs of training."""
        found = {**(self.record.get("test") or {}), **{f"val/{key}": value for key, value in (self.record.get("val") or {}).items()}}
        found |= {key: self.record.get(key) for key in COSTS}
        return {key: float(value) for key, value in found.items() if isinstance(value, int | float) and not isinstance(value, bool)}

    def uncertainty(self, metric: str) -> tuple[float, ...]:
        """(standard error,) over the test examples, or (low, high) of a 95 % interval, or () if neither is known."""
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
        for evaluation, how in (self.record.get("evaluations") or {}).items():  # of what `vaelab evaluate` has added
            if evaluation != "likelihood" and name in how.get("keys", ()):  # of which the conditions above tell
                options = {key: value for key, value in how.get("options", {}).items() if key not in SPEED}
                found[f"options of {evaluation}"] = json.dumps(options, sort_keys=True)
        return found

    @cached_property
    def _data(self) -> str:
        data = {key: self.raw.get(key) for key in ("data", "missing")}
        return json.dumps(material(data, Use.TEST_DATA), sort_keys=True, default=str)

    @property
    def _kind(self) -> str:
        """A density cannot be compared with a probability; bits are known of probabilities, and never of data with missing values."""
        test = self.record.get("test") or {}
        if "bits_per_dim" not in test or self.raw.get("missing"):
            return "unknown"
        return "a density" if test["bits_per_dim"] is None else "a probability"

    def written(self, key: str) -> Any:
        """The value at a dotted key, as it was written; ABSENT if there is none."""
        return value_at(self.tree, key, ABSENT)

    def value(self, key: str) -> Any:
        """The value at a dotted key, its interpolations resolved but for those that only a running Hydra knows."""
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        node, (root, _, below) = self.written(key), key.partition(".")
        if "${" not in str(node):
            return node
        config, pretrained = self._nodes
        try:
            value = OmegaConf.select(pretrained, below) if root == "pretrained" else OmegaConf.select(config, key)
            return with_whole_numbers(OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value)
        except (OmegaConfBaseException, ValueError):
            return node

    @cached_property
    def _nodes(self) -> tuple[Any, Any]:
        """The config, and that of the run it started from, whose interpolations are its own."""
        from omegaconf import OmegaConf

        origin = self.raw.get("pretrained")
        return OmegaConf.create(self.raw), OmegaConf.create(origin if isinstance(origin, dict) else {})


def choices_of(runs: Sequence[RunFolder]) -> dict[str, str]:
    """The choices of the dials that make the setting of a lineage of runs, by the key that they set.

    Raises:
        DamagedFile: if the notes of Hydra cannot be read.
    """
    found = {}
    for generation, run in enumerate(runs):
        for key, choice in flatten(value_at(run.hydra, "runtime.choices", {})).items():
            dial = key.split("@")[-1]  # schedule@objective.beta chooses what is at objective.beta
            if choice is not None and dial not in UNNAMED and not dial.startswith("hydra/"):
                found["pretrained." * generation + dial] = str(choice)
    return found


def with_whole_numbers(node: Any) -> Any:
    """A config in which 1.0 is 1."""
    if isinstance(node, dict):
        return {str(key): with_whole_numbers(value) for key, value in node.items()}
    if isinstance(node, list):
        return [with_whole_numbers(value) for value in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node
