"""Models, data and training, built from a config, and opened from a run folder."""

import copy
import inspect
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from vaelab.checks import check_flag
from vaelab.data import DataModule
from vaelab.models import Model
from vaelab.runs.configs import flatten, that_only_reads, value_at
from vaelab.runs.files import read_checkpoint
from vaelab.runs.folder import RunFolder, find_checkpoint
from vaelab.training.checkpoints import model_weights
from vaelab.training.lit import LitVAE
from vaelab.training.resume import recorded_split
from vaelab.training.schedulers import Scheduling
from vaelab.training.speed import NETWORK_SETTINGS, accelerate

DIALS = ("encoder", "decoder", "posterior", "likelihood", "prior", "missingness")
# what the stored config of a run may build unasked: parts of models and data, and for training what is below
PARTS = (
    "vaelab.data",
    "vaelab.flows",
    "vaelab.likelihoods",
    "vaelab.models",
    "vaelab.networks",
    "vaelab.posteriors",
    "vaelab.priors",
    "vaelab.schedules",
    "torch.nn",
)
OF_TRAINING = (
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.strategies",
    "lightning.pytorch.trainer",
    "torch.optim",
    "vaelab.applications.imputation",
    "vaelab.commands.seeds",
    "vaelab.metrics",
    "vaelab.objectives",
    "vaelab.sweeps.pruning",
    "vaelab.training.callbacks",
    "vaelab.training.loggers",
    "vaelab.training.metrics_csv",
    "vaelab.training.schedulers",
    "vaelab.training.tensorboard",
)
SHORT_NAMES = ("lightning.Trainer", "lightning.pytorch.Trainer")  # of what lies in the modules above
READS_NO_MACHINE = r"now|hydra"  # resolvers of interpolations; others, such as oc.env, may read secrets
IF_TRUSTED = "if you trust where it comes from, set trust=true (from Python: trust=True)"


def build_model(config: DictConfig) -> Model:
    """The model that a config describes, with its speed dial applied.

    Raises:
        ValueError: if it describes something else.
    """
    config = copy.deepcopy(config)  # instantiating resolves interpolations in place, and the config is stored as it was written
    model = instantiate(config.model)
    if not isinstance(model, Model):
        raise ValueError(f"model={config.model._target_} is no model: derive it from vaelab.models.Model")
    accelerate(model, **{name: config.speed.get(name, False) for name in NETWORK_SETTINGS})
    return model


def trained_model(config: DictConfig, weights: Mapping[str, Any], data: DataModule) -> Model:
    """The model that a config describes, in evaluation mode, with the weights of a checkpoint and the units of its data.

    Raises:
        RuntimeError: if the weights are those of another model.
    """
    model = build_model(config)
    model.load_state_dict(model_weights(weights))
    model.units = data.modality.scaling
    return model.eval()


def build_data(config: DictConfig) -> DataModule:
    """The data module that a config describes.

    config.data may also hold names for others to refer to (`root`, `size`), which the DataModule does not take itself.
    """
    config, known = copy.deepcopy(config), inspect.signature(DataModule).parameters
    taken = {"missing": config.get("missing", False)} | {key: config.data[key] for key in ("_target_", *known) if key in config.data}
    return instantiate(OmegaConf.create({"data": taken}, parent=config).data, _convert_="all")  # errors name the key: data.batch_size


def build(config: DictConfig) -> LitVAE:
    """The LightningModule that a config describes.

    Raises:
        ValueError: if a dial is set that the model does not use.
    """
    check_used(config)
    stored = OmegaConf.to_container(config, resolve=False)  # interpolations stay, so that paths.data_dir can be another one tomorrow
    config = copy.deepcopy(config)  # instantiating resolves interpolations in place, also in what a node refers to
    scheduling = build_scheduling(config.scheduler) if config.get("scheduler") else None
    # plain types: options of an optimizer or a scheduler end up in checkpoints, which hold no others
    objective, optimizer = (instantiate(config[part], _convert_="all") for part in ("objective", "optimizer"))
    return LitVAE(build_model(config), objective, optimizer, scheduling, stored)  # type: ignore[arg-type]


def build_scheduling(options: DictConfig) -> Scheduling:
    """The scheduler that a config describes, with when it is stepped.

    Raises:
        ValueError: if it does not say what its numbers count.
    """
    given = {name: options[name] for name in ("interval", "monitor") if name in options}
    build = instantiate({name: value for name, value in options.items() if name not in given}, _convert_="all")
    interval = given.get("interval", "step" if {"num_steps", "threshold_mode"} & inspect.signature(build).parameters.keys() else None)
    if interval not in ("step", "epoch"):
        raise ValueError(f"scheduler.interval={interval} must say what the numbers of {options._target_} count: step or epoch")
    return Scheduling(build, interval, given.get("monitor", "val/bound"))


def check_used(config: DictConfig) -> None:
    """Raise if a part is set that nothing refers to: it would be silently ignored.

    Raises:
        ValueError: if there is one.
    """
    raw: dict[str, Any] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]

    def references(keys: set[str]) -> set[str]:
        return set(re.findall(r"\$\{(\w+)", json.dumps([raw[key] for key in keys if key in raw])))

    used = references({"model"})
    while not references(used) <= used:  # the model refers to a posterior, which refers to an encoder
        used |= references(used)
    for dial in DIALS:
        if raw.get(dial) and dial not in used:
            raise ValueError(f"{dial}={raw[dial].get('_target_')} is not used by model={raw['model'].get('_target_')}: remove it")
    for option in ("num_classes", "missing"):
        if raw.get(option) and option not in used:
            raise ValueError(f"{option}={raw[option]} is not used by model={raw['model'].get('_target_')}: remove it, or set model=vae")
    known = inspect.signature(DataModule).parameters
    referred = set(re.findall(r"\$\{data\.(\w+)", json.dumps(raw)))
    size = raw["data"].get("size")
    if isinstance(size, list):
        raise ValueError(f"data.size={size} must be a number; else set data.shape={[3, *size]}".replace(", ", ","))
    unknown = raw["data"].keys() - known - referred - {"_target_", "name", "kinds", "size", "channels"}  # which are used by some alone
    if unknown:
        raise ValueError(f"nothing uses {', '.join(f'data.{key}' for key in sorted(unknown))}: the data module takes {', '.join(known)}")
    if "schedule" in raw:
        raise ValueError("a schedule was chosen, but for no weight: write +schedule@objective.beta=<schedule>")


class OpenedRun(NamedTuple):
    """A trained model with its data, and where both come from."""

    model: Model
    datamodule: DataModule
    config: DictConfig
    folder: RunFolder
    checkpoint: Path


def check_trusted(config: DictConfig, training: bool = False, typed: Collection[Any] = ()) -> None:
    """Raise if a stored config, which may come from a stranger, would do more than build what a run is made of.

    Args:
        config: the very one that will be built.
        training: whether it will be trained, with its objective, optimizer, callbacks, loggers and trainer, which may write below
            paths.run_dir alone.
        typed: values of the command line, among which a person may have named classes and paths.

    Raises:
        ValueError: if it names a class of another module, a path elsewhere, or an interpolation that reads the machine, or sets Hydra.
    """
    for name in ("defaults", "hydra"):
        if name in config:
            raise ValueError(f"the stored config has {name}, which no run stores: {IF_TRUSTED}")
    check_interpolations(config)
    names = ("model", "data", *(("objective", "optimizer", "scheduler", "callbacks", "logger", "trainer", "evaluation") * training))
    nodes = OmegaConf.create({name: config[name] for name in names if config.get(name) is not None}, parent=config)
    parts: dict[str, Any] = OmegaConf.to_container(nodes, resolve=True)  # type: ignore[assignment]
    for target in targets_in(parts):
        if target not in typed:
            check_target(target, (*PARTS, *OF_TRAINING) if training else PARTS)
    if training:
        written = {name: parts[name] for name in ("callbacks", "logger", "trainer") if name in parts}
        for key, value in flatten(written).items():
            for each in value if isinstance(value, list) else [value]:
                if each not in typed:
                    check_inside(key, each, Path(config.paths.run_dir))


def check_interpolations(config: DictConfig) -> None:
    """Raise if a stored config has an interpolation that reads the machine, as ${oc.env:SECRET} does.

    Raises:
        ValueError: if it has.
    """
    for key, value in flatten(OmegaConf.to_container(config, resolve=False)).items():
        text, before = json.dumps(value), None
        while text != before:  # what refers to other keys, from the innermost on
            before, text = text, re.sub(rf"\$\{{(?:[^${{}}:]*|(?:{READS_NO_MACHINE}):[^${{}}]*)\}}", "", text)
        if "${" in text:
            raise ValueError(f"the stored config has {key}={value}, which reads the machine that it is opened on: {IF_TRUSTED}")


def targets_in(node: Any) -> Iterator[Any]:
    """Every `_target_` in a node of plain types."""
    if isinstance(node, dict):
        yield from [node["_target_"]] if "_target_" in node else []
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from targets_in(value)


def check_target(target: Any, modules: Sequence[str]) -> None:
    """Raise if a stored config would build what does not lie in some modules.

    Raises:
        ValueError: if it would, or there is no such class.
    """
    refusal = f"the stored config would run {target}, which is no part of vaelab, torch.nn or a trainer: {IF_TRUSTED}"
    if not isinstance(target, str) or not lies_in(target, (*modules, *SHORT_NAMES)):  # before it is imported
        raise ValueError(refusal)
    try:
        found: Any = get_object(target)
    except Exception as error:  # whatever an import raises
        raise ValueError(
            f"the stored config names {target}, which this version does not have: open it with the version of its run"
        ) from error
    # the object, and not its name alone: a module of ours leads by its imports to anything (vaelab.x.subprocess.run)
    is_ours = lies_in(getattr(found, "__module__", None) or "", modules)
    is_whole = isinstance(found, type) or (target.startswith("vaelab.") and "." not in getattr(found, "__qualname__", "."))
    if not (is_ours and is_whole):
        raise ValueError(refusal)


def lies_in(name: str, modules: Sequence[str]) -> bool:
    """True if a dotted name is one of some modules, or lies below one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def check_inside(key: str, value: Any, folder: Path) -> None:
    """Raise if a value of a stored config is a path that leads out of the folder of its run.

    Raises:
        ValueError: if it does.
    """
    is_place = re.search(r"(dir|dirpath|path|folder)$", key) is not None
    if not isinstance(value, str) or not (is_place or value.startswith(("/", "~")) or ".." in Path(value).parts):
        return
    if not Path(value).expanduser().resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the stored config would write to {key}={value}, which is not below {folder}: {IF_TRUSTED}")


def move_data(config: DictConfig, places: Mapping[str, Any]) -> None:
    """Give a stored config the places where its data are now: paths.data_dir, data.root or data.file, data.cache, and download.

    Raises:
        ValueError: if its data have no such place.
    """
    plain, nothing = OmegaConf.to_container(config, resolve=False), object()
    for key, value in places.items():
        if key.startswith("data.") and value_at(plain, key, nothing) is nothing:
            raise ValueError(f"{key}={value}: the data of this run, {config.data.get('name')}, have no {key}; set data_dir=<folder>")
        OmegaConf.update(config, key, value)


def open_run(run: str | Path, checkpoint: str | None = None, places: Mapping[str, Any] | None = None, trust: bool = False) -> OpenedRun:
    """The model, on the CPU and in evaluation mode, and the data of a run, from its folder alone.

    Args:
        run: a run folder or a checkpoint file.
        checkpoint: "best" or "last"; None: as `RunFolder.checkpoint`.
        places: where the data are, if not where they were: see `move_data`. A stored config alone downloads nothing.
        trust: whether classes from outside vaelab may be built.

    Raises:
        ValueError: if there is no readable checkpoint, its config names a class that is not trusted, or its weights are of another model.
    """
    check_flag(trust=trust)
    path = find_checkpoint(run, checkpoint)
    stored = read_checkpoint(path)
    config = OmegaConf.create(that_only_reads(stored["config"]))
    move_data(config, places or {})
    config.speed = dict.fromkeys(NETWORK_SETTINGS, False)  # numbers that are reported are float32
    if not trust:
        check_trusted(config)
    folder, data = RunFolder.of_results(path), build_data(config)
    data.recorded = recorded_split(folder)
    data.load_state_dict(stored.get(type(data).__qualname__, {}))  # the scaling of x
    try:
        model = trained_model(config, stored["state_dict"], data)
    except RuntimeError as error:
        what = " ".join(str(error).split(":", 1)[-1].split())
        raise ValueError(f"the weights in {path} are not those of its model as this version builds it: {what[:300]}") from error
    return OpenedRun(model, data, config, folder, path)


def load(run: str | Path, checkpoint: str | None = None, trust: bool = False) -> Model:
    """The trained model of a run folder or checkpoint file, on the CPU and in evaluation mode.

    >>> load("outputs/no_such_run")
    Traceback (most recent call last):
        ...
    ValueError: there is no run folder ...

    Raises:
        ValueError: as `open_run`.
    """
    return open_run(run, checkpoint, trust=trust).model
