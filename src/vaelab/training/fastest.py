"""The choice of the settings that make a step of training fastest, among those that compute the same loss."""

import copy
import fcntl
import hashlib
import math
import os
import re
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from lightning import Trainer
from torch import Tensor

from vaelab import rng
from vaelab.data import DataModule
from vaelab.objectives import Objective
from vaelab.runs.files import DamagedFile, read_json, write_json
from vaelab.runs.log import tell
from vaelab.runs.provenance import processor
from vaelab.training.lit import LitVAE
from vaelab.training.speed import NETWORK_SETTINGS, accelerate, with_threads

Setting = dict[str, Any]
STANDARD: Setting = {"channels_last": False, "bf16": False, "compile": False, "threads": None}
# Of the loss, as a share of that of standard. In float32, another order of the sums of a convolutional net is 1.5e-6 away.
TOLERANCE = {"channels_last": 1e-5, "threads": 1e-5, "compile": 1e-5, "bf16": 1e-2}
MIN_GAIN = 1.02  # times the speed of standard: what is faster by less may be noise
ROUNDS = 7  # each measures every setting once, so that what else the machine does falls on all of them
BLOCK_SECONDS = 0.05  # of steps that are measured together


def choose_speed(lit: LitVAE, datamodule: DataModule, trainer: Trainer, options: Mapping[str, Any]) -> Setting:
    """Puts a model at the fastest setting that the candidates make up, and returns it: standard, if training takes less than `min_seconds`.

    Copies of the model make steps of training on one batch, each setting in turn: the weights, the data and the generators of the run
    are left as they are. What was measured is kept in a file, for this model, batch and processor, and is not measured again; processes
    that need it at the same time wait for the one that measures.

    Args:
        lit: with a model at its standard setting.
        datamodule: that has been set up.
        trainer: before its fit.
        options: `candidates`, among channels_last, threads, compile and bf16, and `min_seconds`.

    Raises:
        ValueError: if a candidate is unknown.
    """
    chosen = best_setting(lit, datamodule, trainer, options)
    accelerate(lit.model, **{name: chosen[name] for name in NETWORK_SETTINGS})
    setting = {**chosen, "candidates": [], "min_seconds": options["min_seconds"]}  # a run that goes on has nothing to choose
    if lit.config is not None:
        lit.config["speed"] = setting
    return setting


def best_setting(lit: LitVAE, datamodule: DataModule, trainer: Trainer, options: Mapping[str, Any]) -> Setting:
    """The setting that `choose_speed` chooses, which the user is told."""
    unknown = sorted(set(options["candidates"]) - TOLERANCE.keys())
    if unknown:
        raise ValueError(f"speed.candidates names {unknown[0]}: there are {', '.join(TOLERANCE)}")
    if trainer.world_size > 1:
        return told(STANDARD, "standard, as always on several devices")
    with rng.fork(0):
        batch = datamodule.examples("train", datamodule.batch_size, trainer.strategy.root_device)
    steps = Steps(lit, len(datamodule.splits["train"]), *batch)
    if steps.seconds(STANDARD) * num_steps(trainer, datamodule) < options["min_seconds"]:
        return told(STANDARD, f"standard, because training takes less than {options['min_seconds']:g} s")
    cache = cache_file()
    with waiting_for_others(cache):
        known = read_cache(cache)
        key = steps.key(options["candidates"])
        if key not in known:
            known[key] = measured(steps, options["candidates"])
            write_cache(known, cache)
    setting, gain = known[key]["setting"], known[key]["gain"]
    return told(
        setting, "standard, the fastest of those tried" if setting == STANDARD else f"{in_words(setting)}, {gain:.2f} times standard"
    )


def told(setting: Setting, words: str) -> Setting:
    """A setting that has been told to the user."""
    tell(f"speed:        {words}")
    return setting


def in_words(setting: Setting) -> str:
    """Text such as "channels_last, threads=1"."""
    chosen = {name: value for name, value in setting.items() if value != STANDARD[name]}
    return ", ".join(name if value is True else f"{name}={value}" for name, value in chosen.items())


class Steps:
    """Steps of training with copies of a model, on one batch, at any setting.

    Args:
        lit: model, objective and optimizer.
        num_examples: of the training data.
        x, y: the batch.
    """

    def __init__(self, lit: LitVAE, num_examples: int, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."]) -> None:
        self.lit, self.num_examples, self.x, self.y = lit, num_examples, x, y
        self.copies: dict[str, Any] = {}
        self.num_steps = 0  # of a block

    def key(self, candidates: Sequence[str]) -> str:
        """Text that two processes share if they would measure the same."""
        objective = self.lit.objective
        parts = (
            self.lit.model,
            objective,
            getattr(objective, "num_samples", 1),
            tuple(self.x.shape),
            str(self.x.device),
            sorted(candidates),
        )
        device = torch.cuda.get_device_name(self.x.device) if self.x.device.type == "cuda" else processor()
        text = repr((*parts, device, torch.get_num_threads(), torch.__version__))
        return hashlib.sha256(re.sub(r" at 0x\w+", "", text).encode()).hexdigest()[:16]

    def copied(self, setting: Setting) -> tuple[Any, Any, Any, float]:
        """A model, its objective and its optimizer at a setting, the same ones each time, and the loss before the first step."""
        name = in_words(setting)
        if name not in self.copies:
            model, objective = copy.deepcopy((self.lit.model, self.lit.objective))
            model.to(self.x.device).train()
            for part in objective.to(self.x.device).modules():
                if isinstance(part, Objective):
                    part.num_examples = self.num_examples
            accelerate(model, **{part: setting[part] for part in NETWORK_SETTINGS})
            optimizer = self.lit.optimizer([{"params": list(model.parameters())}, *objective.parameter_groups()])
            with rng.fork(0), with_threads(setting["threads"]):
                loss = float(objective(objective.draw(model, self.x, self.y), 0)["loss"].detach())
            self.copies[name] = model, objective, optimizer, loss
        return self.copies[name]

    def loss(self, setting: Setting) -> float:
        """The loss of the first step of training."""
        return self.copied(setting)[-1]

    def seconds(self, setting: Setting) -> float:
        """Seconds of a step, of those of one block."""
        model, objective, optimizer, _ = self.copied(setting)

        def run(num: int) -> float:
            start = time.perf_counter()
            for _ in range(num):
                optimizer.zero_grad()
                objective(objective.draw(model, self.x, self.y), 0)["loss"].backward()
                optimizer.step()
            if self.x.device.type == "cuda":
                torch.cuda.synchronize(self.x.device)
            return (time.perf_counter() - start) / num

        with rng.fork(0), with_threads(setting["threads"]):
            if not self.num_steps:
                run(2)
                self.num_steps = math.ceil(BLOCK_SECONDS / run(1))
            return run(self.num_steps)


def measured(steps: Steps, candidates: Sequence[str]) -> dict[str, Any]:
    """The fastest setting and its speed as a multiple of that of standard: of the candidates one by one, then of the good ones together.

    A candidate that fails, or has another loss, is left out and told.
    """
    single = [{**STANDARD, name: value} for name in candidates for value in values_of(name, steps.lit)]
    gains = gains_of(steps, [setting for setting in single if is_sound(steps, setting)])
    good = sorted(
        (item for item in gains if item[1] >= MIN_GAIN), key=lambda item: item[1]
    )  # of two numbers of threads, the better one counts
    together: Setting = dict(STANDARD)
    for setting, _ in good:
        together |= {name: value for name, value in setting.items() if value != STANDARD[name]}
    if len(good) > 1 and is_sound(steps, together):
        good += [item for item in gains_of(steps, [together]) if item[1] > good[-1][1]]
    setting, gain = good[-1] if good else (STANDARD, 1.0)
    return {"setting": setting, "gain": gain, "tried": {in_words(each): gain for each, gain in gains}, "processor": processor()}


def values_of(candidate: str, lit: LitVAE) -> list[Any]:
    """The values of a setting to try; none, if it changes nothing for a model."""
    available = torch.get_num_threads()
    if candidate == "threads":
        return sorted({1, max(available // 2, 1)} - {available})
    return [True] if candidate != "channels_last" or any(weight.ndim == 4 for weight in lit.model.parameters()) else []


def is_sound(steps: Steps, setting: Setting) -> bool:
    """True if a setting runs, and has the loss of standard; if not, it is told."""
    try:
        loss, standard = steps.loss(setting), steps.loss(STANDARD)
    except Exception as error:  # whatever a compiler or a kernel raises
        tell(f"speed:        {in_words(setting)} is left out, because it fails: {' '.join(str(error).split())[:200]}")
        return False
    tolerance = max(TOLERANCE[name] for name, value in setting.items() if value != STANDARD[name])
    if abs(loss - standard) <= tolerance * max(abs(standard), 1):
        return True
    tell(f"speed:        {in_words(setting)} is left out, because its loss is {loss:.9g}, and not {standard:.9g}")
    return False


def gains_of(steps: Steps, settings: Sequence[Setting]) -> list[tuple[Setting, float]]:
    """The speed of each setting as a multiple of that of standard: the median over rounds that measure all of them."""
    seconds: list[list[float]] = [[] for _ in (STANDARD, *settings)]
    for _ in range(ROUNDS if settings else 0):
        for times, setting in zip(seconds, (STANDARD, *settings), strict=True):
            times.append(steps.seconds(setting))
    standard, *others = seconds
    ratios = [statistics.median(a / b for a, b in zip(standard, times, strict=True)) for times in others]
    return list(zip(settings, ratios, strict=True))


def num_steps(trainer: Trainer, datamodule: DataModule) -> float:
    """The number of steps of a fit; infinite if nothing ends it but time."""
    batches, limit = math.ceil(len(datamodule.splits["train"]) / datamodule.batch_size), trainer.limit_train_batches
    of_epoch = min(batches, limit) if isinstance(limit, int) else batches * limit
    epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs >= 0 else math.inf
    return min(of_epoch * epochs, trainer.max_steps if trainer.max_steps >= 0 else math.inf)


def cache_file() -> Path:
    """The path of the file that keeps what was measured: vaelab/speed.json in the user's folder of caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vaelab" / "speed.json"


@contextmanager
def waiting_for_others(cache: Path) -> Iterator[None]:
    """Inside, no other process measures; where a lock cannot be had, nothing is waited for."""
    with suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = cache.with_name("speed.lock").open("a")
    except OSError:
        yield
        return
    with lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_cache(cache: Path) -> dict[str, Any]:
    """The choices that were made before; none, if the file is not there or damaged."""
    try:
        known = read_json(cache, "")
    except (OSError, DamagedFile):
        return {}
    return {key: entry for key, entry in known.items() if is_choice(entry)}


def is_choice(entry: Any) -> bool:
    """True if an entry of the file is of the shape that this version writes."""
    setting = entry.get("setting") if isinstance(entry, dict) else None
    return isinstance(setting, dict) and setting.keys() == STANDARD.keys() and isinstance(entry.get("gain"), float)


def write_cache(known: dict[str, Any], cache: Path) -> None:
    """Keeps what was measured, or says why it cannot."""
    try:
        write_json(known, cache)
    except OSError as error:
        tell(f"note: {cache} cannot be written ({error.strerror}): the speed will be measured again by the next run")
