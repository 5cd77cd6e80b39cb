"""Where Hydra meets the library: a config becomes a run, and a run folder becomes a model again."""

import copy
import errno
import inspect
import json
import logging
import os
import re
import shlex
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from hydra.utils import get_object, instantiate
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from vaelab import generators, metrics
from vaelab.callbacks import LastCheckpoint, show_figures
from vaelab.checkpoints import AtomicCheckpointIO, find_checkpoint, model_weights, read_checkpoint
from vaelab.continuation import (
    changed,
    claimed,
    finished,
    flatten,
    found,
    goes_on,
    refuse_unresumable,
    remove_written,
    rewind,
    write_text,
)
from vaelab.data import DataModule
from vaelab.figures import draw_figures
from vaelab.lit import LitVAE, StartsFromData
from vaelab.models import Model
from vaelab.objectives import PriorFit
from vaelab.preemption import Preempted, Signals, exit_code, requeue
from vaelab.provenance import git, provenance
from vaelab.report import write_report
from vaelab.sharding import refuse_unshardable
from vaelab.speed import accelerate, keep_freed_memory

DIALS = ("encoder", "decoder", "posterior", "likelihood", "prior")
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
P = ParamSpec("P")
T = TypeVar("T")
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


class Told(ValueError, CompactHydraException):
    """A ValueError that Hydra prints as its message alone."""


def in_words(function: Callable[P, T]) -> Callable[P, T]:
    """On the command line, a ValueError of ours is shown without its traceback, unless HYDRA_FULL_ERROR=1 asks for it."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except ValueError as error:
            *_, (frame, _) = traceback.walk_tb(error.__traceback__)
            ours = Path(frame.f_code.co_filename).is_relative_to(Path(__file__).parent)
            if not ours or not HydraConfig.initialized() or os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
            message = str(error)
        raise Told(message)

    return wrapper


def refuse_missing(config: DictConfig) -> None:
    """Values that have no default must be given.

    Raises:
        ValueError: if one is not, with its name.
    """
    values = flatten(OmegaConf.to_container(config, resolve=False))
    missing = [key for key, value in values if value == "???" or (key, value) == ("run", "None")]
    if missing:
        raise ValueError(f"{' and '.join(missing)} must be given: {' '.join(f'{key}=...' for key in missing)}")


# From a config to objects.


def build_model(config: DictConfig) -> Model:
    """The model that a config describes, with its speed dial applied."""
    config = copy.deepcopy(config)  # instantiating resolves interpolations in place, and the config is stored as it was written
    model = instantiate(config.model)
    accelerate(model, **config.speed)
    return model


def build_data(config: DictConfig) -> DataModule:
    """The data module that a config describes.

    config.data may also hold names for others to refer to (`root`, `size`), which the DataModule does not take itself.
    """
    config, known = copy.deepcopy(config), inspect.signature(DataModule).parameters
    taken = {key: config.data[key] for key in ("_target_", *known) if key in config.data}
    return instantiate(OmegaConf.create(taken, parent=config), _convert_="all")


def build(config: DictConfig) -> LitVAE:
    """The LightningModule that a config describes.

    Raises:
        ValueError: if a dial is set that the model does not use.
    """
    refuse_unused(config)
    scheduler = instantiate(config.scheduler) if config.get("scheduler") else None
    objective = instantiate(config.objective, _convert_="all")  # plain types: options of the optimizer end up in checkpoints
    stored = OmegaConf.to_container(config, resolve=False)  # interpolations stay, so that paths.data_dir can be another one tomorrow
    return LitVAE(build_model(config), objective, instantiate(config.optimizer), scheduler, stored)  # type: ignore[arg-type]


def refuse_unused(config: DictConfig) -> None:
    """A part that is set but that nothing refers to would be silently ignored.

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
    unknown = raw["data"].keys() - known - referred - {"_target_", "name"}
    if unknown:
        raise ValueError(f"nothing uses {', '.join(f'data.{key}' for key in sorted(unknown))}: the data module takes {', '.join(known)}")
    if "schedule" in raw:
        raise ValueError("a schedule was chosen, but for no weight: write +schedule@objective.beta=<schedule>")


def start_from(model: Model, config: DictConfig, run: str) -> None:
    """Gives a model the weights of a trained one; a prior of another kind stays what it is.

    Raises:
        ValueError: if another part is not the same.
    """
    checkpoint = read_checkpoint(find_checkpoint(run))
    stored = model_weights(checkpoint["state_dict"])
    theirs, mine = kinds(OmegaConf.create(checkpoint["config"])), kinds(config)
    if theirs != mine:  # weights of the same shapes would fit, and mean something else
        raise ValueError(
            f"pretrained={run} is made of {', '.join(theirs - mine)}; this model of {', '.join(mine - theirs)}: choose its dials"
        )
    for name, part in model.named_children():
        own = part.state_dict(prefix=f"{name}.")
        found = {key: value for key, value in stored.items() if key.startswith(f"{name}.")}
        if {key: value.shape for key, value in own.items()} == {key: value.shape for key, value in found.items()}:
            part.load_state_dict({key.removeprefix(f"{name}."): value for key, value in found.items()})
            for started in part.modules():
                if isinstance(started, StartsFromData):
                    started.num_initial = 0  # it has started
        elif name != "prior":
            raise ValueError(f"pretrained={run}: the {name} of that run has other weights than this model's; choose the dials that it had")


def kinds(config: DictConfig) -> set[str]:
    """What a model is made of, besides its prior: where in the config, and which class."""
    model: dict[str, Any] = OmegaConf.to_container(OmegaConf.create({"model": config.model}, parent=config), resolve=True)  # type: ignore[assignment]
    model["model"].pop("prior", None)
    return {f"{key.removesuffix('._target_')}={value}" for key, value in flatten(model) if key.endswith("_target_")}


# From a run folder back to objects.


class Run(NamedTuple):
    """What a run folder holds."""

    model: Model
    datamodule: DataModule
    config: DictConfig
    folder: Path
    checkpoint: Path


def refuse_unsafe(config: DictConfig) -> None:
    """A stored config names the classes to build; one from a stranger could name anything.

    Raises:
        ValueError: if its model or data name something that is none of the parts which models and data are made of.
    """
    parts = OmegaConf.to_container(OmegaConf.create({key: config[key] for key in ("model", "data")}, parent=config), resolve=True)
    for target in re.findall(r'"_target_": "([^"]*)"', json.dumps(parts)):
        # the object, and not its name alone: a module of ours leads by its imports to anything (vaelab.x.subprocess.run)
        if not is_part(target) or not is_part(get_object(target).__module__):
            raise ValueError(
                f"the stored config would run {target}, which is not part of {', '.join(PARTS)}:"
                " if you trust where it comes from, set trust=true (or load(..., trust=True))"
            )


def is_part(name: str) -> bool:
    """Whether a dotted name lies in a module that models and data are made of."""
    return any(name == part or name.startswith(f"{part}.") for part in PARTS)


def open_run(run: str | Path, checkpoint: str = "best", data_dir: str | None = None, trust: bool = False) -> Run:
    """The model, on the CPU and in evaluation mode, and the data of a run, from its folder alone.

    Args:
        run: a run folder or a checkpoint file.
        checkpoint: "best" or "last".
        data_dir: where the data are, if not where they were.
        trust: whether classes from outside vaelab may be built.

    Raises:
        ValueError: if there is no readable checkpoint, its config names a class that is not trusted, or its weights are of another model.
    """
    path = find_checkpoint(run, checkpoint)
    stored = read_checkpoint(path)
    config = OmegaConf.create(stored["config"])
    if data_dir is not None:
        config.paths.data_dir = data_dir
    if not trust:
        refuse_unsafe(config)
    config.speed = {"channels_last": False, "bf16": False, "compile": False}  # numbers that are reported are float32
    model = build_model(config)
    try:
        model.load_state_dict(model_weights(stored["state_dict"]))
    except RuntimeError as error:
        what = " ".join(str(error).split(":", 1)[-1].split())
        raise ValueError(f"the weights in {path} are not those of its model as this version builds it: {what[:300]}") from error
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return Run(model.eval(), build_data(config), config, folder, path)


def load(run: str | Path, checkpoint: str = "best", trust: bool = False) -> Model:
    """The trained model of a run folder or checkpoint file; see `open_run`."""
    return open_run(run, checkpoint, trust=trust).model


# What the scripts do.


@in_words
def train(config: DictConfig) -> float | None:
    """Trains what the config describes, then evaluates and pictures it; returns val/elbo of the last epoch.

    Raises:
        ValueError: for whatever a user can put right, in words.
    """
    refuse_missing(config)
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    started = int(os.environ.get("SLURM_NTASKS", "1")) > 1  # a process for each device, from outside
    if hydra is not None and hydra.mode == RunMode.MULTIRUN and config.trainer.devices not in (1, "1") and not started:
        raise ValueError(
            f"trainer.devices={config.trainer.devices} within the process of a multirun: every further process would run the whole sweep"
            " again; set launcher=local, ray or slurm"
        )
    stored, first = None, rank_zero_only.rank == 0  # type: ignore[attr-defined]
    if config.resume:
        path = find_checkpoint(config.resume, "last")
        stored = read_checkpoint(path)
        config = changed(OmegaConf.create(stored["config"]), [] if hydra is None else list(hydra.overrides.task))
        config.paths.run_dir = str(path.parent.parent.absolute())
    folder = Path(config.paths.run_dir)
    with Signals() as signals, ExitStack() as stack:
        try:
            signals.unblock()
            if first:
                hold(folder, fresh=stored is None and not goes_on(config), stack=stack)
            if stored is None and goes_on(config):
                path, stored = folder / "checkpoints" / "last.ckpt", found(folder, config)
                elbo = finished(folder, stored, config)
                if elbo is not None:
                    print(f"{folder} holds this run, finished with val/elbo={elbo:.6g}: nothing is left to do")
                    return elbo
                if stored is None and first:
                    remove_written(folder)
            return _train(config, folder, None if stored is None else path, stored, signals)
        except Preempted as stop:
            signals.deferred = True  # scontrol has SLURM send more of them
            if first:
                print(f"\nstopped by {stop}{stop.where}: {how_to_go_on(folder)}", flush=True)
                requeue(stop.signum, signals)
            # Lightning kills all processes of a run when one that it started ends with another code
            raise SystemExit(exit_code(stop.signum) if first else 0) from None
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise ValueError(
                f"cannot write to {folder}: {error.strerror}. What was written is kept; make room, or choose another place with"
                f" hydra.run.dir=<folder>; {how_to_go_on(folder)}"
            ) from error


def hold(folder: Path, fresh: bool, stack: ExitStack) -> None:
    """Makes the run folder and keeps other processes out of it.

    Raises:
        ValueError: if it has to be `fresh` and is not, or another process trains there.
    """
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=not fresh)  # of two runs that start at once, one can
    except FileExistsError:
        raise ValueError(
            f"{folder} already holds a run: go on with resume={folder}, or with existing=resume, or choose another folder"
        ) from None
    stack.enter_context(claimed(folder))


def how_to_go_on(folder: Path) -> str:
    saved = (folder / "checkpoints" / "last.ckpt").exists()
    return f"go on with resume={folder}" if saved else "no checkpoint was written, so there is nothing to go on from"


def _train(config: DictConfig, folder: Path, checkpoint: Path | None, stored: dict[str, Any] | None, signals: Signals) -> float | None:
    started, origin = time.time(), git()  # the code that runs is that of the start
    refuse_values(config)
    refuse_evaluation(config.evaluation)
    prepare()
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    datamodule, lit = build_data(config), build(config)
    if checkpoint is None and config.get("pretrained"):
        start_from(lit.model, config, config.pretrained)
    if isinstance(lit.objective, PriorFit):
        if not config.get("pretrained"):
            raise ValueError("objective=prior_fit fits the prior of a trained model: set pretrained=<run folder>")
        lit.objective.freeze(lit.model)  # now, because DistributedDataParallel has to know what is trained
    callbacks = [callback for callback in instantiate(config.callbacks or {}).values() if callback is not None]
    if not config.trainer.enable_progress_bar:
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    for callback in callbacks:
        if isinstance(callback, LastCheckpoint):
            callback.signals = signals
    loggers = [logger for logger in instantiate(config.logger or {}).values() if logger is not None]
    trainer = instantiate(
        config.trainer,
        callbacks=callbacks,
        logger=loggers or False,
        default_root_dir=str(folder),
        plugins=[*instantiate(config.trainer.get("plugins") or []), AtomicCheckpointIO()],
        _convert_="all",
    )
    refuse_unshardable(lit, trainer)
    if stored is not None:
        refuse_unresumable(stored, trainer)
        rewind(loggers, stored["global_step"])
    try:
        trainer.fit(lit, datamodule, ckpt_path=checkpoint, weights_only=True)
    except Preempted as stop:
        if not stop.where and trainer.strategy.launcher is not None:  # not all processes know
            trainer.strategy.launcher.kill(stop.signum)
        raise
    except (KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C into an exit
        print(f"\nstopped in epoch {trainer.current_epoch}: {how_to_go_on(folder)}")
        raise
    weights = trainer.strategy.lightning_module_state_dict()  # for which all processes are needed where each has a share of them
    if not trainer.is_global_zero:
        return None
    if stored is not None and trainer.global_step == stored["global_step"] and (folder / "results.json").exists():
        print(f"nothing was left to train after {trainer.global_step} steps: set trainer.max_epochs to more than {trainer.max_epochs}")
    write_json(record_of_split(datamodule), folder / "split.json")
    return finish(config, folder, trainer, weights, datamodule, started, origin)


def refuse_values(config: DictConfig) -> None:
    """What Lightning and torch would refuse in words of their own.

    Raises:
        ValueError: if the seed is no whole number of at least 0, or all of training would be in another precision than float32.
    """
    if not isinstance(config.seed, int) or config.seed < 0:
        raise ValueError(f"seed={config.seed} must be a whole number of at least 0")
    if str(config.trainer.get("precision", "32-true")) not in ("None", "32", "32-true", "bf16-mixed", "16-mixed"):
        raise ValueError(
            f"trainer.precision={config.trainer.precision}: data and probabilities are float32; networks in half precision are"
            " trainer.precision=bf16-mixed or speed=fast"
        )


def refuse_evaluation(options: DictConfig) -> None:
    """What is wrong with the options of evaluation is said before training, not after.

    Raises:
        ValueError: if something is.
    """
    if options.checkpoint not in ("best", "last"):
        raise ValueError(f"evaluation.checkpoint={options.checkpoint} must be best or last")
    for name in ("num_samples", "chunk_size", "num_images"):
        value = options[name]
        if not ((isinstance(value, int) and value >= 1) or (name != "num_samples" and value is None)):
            raise ValueError(f"evaluation.{name}={value} must be a whole number of at least 1")


def prepare() -> None:
    """Quiet and fast: what Lightning announces is in the config or in the summary (its warnings stay), and freed memory is kept."""
    keep_freed_memory()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval")  # validation is logged anyway
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty")  # as it must when a run goes on
    warnings.filterwarnings("ignore", message=".*`srun` command is available")  # a machine with SLURM need not be used through it
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")  # the data module begins where it stopped
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)  # of torch, called by Lightning


def record_of_split(datamodule: DataModule) -> dict[str, Any]:
    """Which examples of the training data were validated on."""
    return {
        "split_seed": datamodule.split_seed,
        "num_train": len(datamodule.splits["train"]),
        "num_val": len(datamodule.splits["val"]),
        "val_indices": datamodule.splits["val"].indices.tolist(),
    }


def finish(
    config: DictConfig,
    folder: Path,
    trainer: lightning.Trainer,
    weights: Mapping[str, Tensor],
    datamodule: DataModule,
    started: float,
    origin: dict[str, Any],
) -> float:
    """Evaluates and pictures the chosen checkpoint, or `weights` if there is none, writes results.json, and returns its val/elbo."""
    train_time = time.time() - started
    device, options = trainer.strategy.root_device, config.evaluation
    path = folder / "checkpoints" / f"{options.checkpoint}.ckpt"
    if not path.is_file() and (path.with_name("last.ckpt")).is_file():
        print(f"there is no {path.name}, because no epoch was validated: the last weights are evaluated")
        path = path.with_name("last.ckpt")
    # another model than the one that was trained, of which each process may have a share alone
    model = build_model(config)
    model.load_state_dict(model_weights(read_checkpoint(path)["state_dict"] if path.is_file() else weights))
    model.to(device).eval()
    with generators.set_aside(config.seed):
        val = metrics.mean_bound(model, datamodule.batches("val", device))
    test = evaluate_on_test(model, datamodule, options, config.seed) if options.enabled else None
    if options.figures:
        show_figures(trainer, draw_figures(model, datamodule, folder / "figures", device, config.seed))
    results: dict[str, Any] = {
        "test": test,
        "val": val,
        "checkpoint": str(path.relative_to(folder)) if path.is_file() else None,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "seed": config.seed,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_time_s": round(train_time, 1),
        "wall_time_s": round(time.time() - started, 1),
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        **origin,
        **provenance(device),
    }
    write_json(results, folder / "results.json")
    if options.get("metrics"):
        from vaelab.evaluation import judge  # which stands above this module

        for failure in judge(Run(model, datamodule, config, folder, path), options.metrics, config.seed, False, Console(highlight=False)):
            print(failure)
    if options.get("report"):
        report(folder, config, folder / "results.json")
    log_hparams(trainer, config, final_metrics(test or {}))
    show(test or val, folder, "test" if test else "validation", results["wall_time_s"])
    return val["elbo"]


class Shown:
    """A data module whose passes over the data show how far they are."""

    def __init__(self, data: DataModule, description: str) -> None:
        self.data, self.description = data, description

    @property
    def splits(self) -> Mapping[str, Any]:
        return self.data.splits

    def setup(self, stage: str) -> None:
        self.data.setup(stage)

    def batches(self, split: str, device: torch.device | str = "cpu") -> Iterator[tuple[Tensor, Tensor]]:
        self.setup("test" if split == "test" else "fit")
        size = self.data.batch_size if split == "train" else self.data.eval_batch_size
        total = -(-len(self.splits[split]) // size)
        yield from track(self.data.batches(split, device), f"{self.description} on {split} data", total=total, transient=True)


def evaluate_on_test(model: Model, datamodule: DataModule, options: DictConfig, seed: int) -> dict[str, Any]:
    """`metrics.evaluate_test_data`, with noise of its own."""
    with generators.set_aside(seed):
        shown = Shown(datamodule, "evaluating")
        return metrics.evaluate_test_data(model, shown, options.num_samples, options.chunk_size, options.num_images)


def final_metrics(found: dict[str, Any]) -> dict[str, float]:
    """What was found out on the test data, as it is logged: without standard errors and counts, which are no metrics."""
    numbers = {name: value for name, value in found.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    return {f"test/{name}": value for name, value in numbers.items() if not re.search("_std_error$|num_|^latent_dim$", name)}


def log_hparams(trainer: lightning.Trainer, config: DictConfig, final: dict[str, float]) -> None:
    """The final metrics and the config, for TensorBoard's HPARAMS page.

    Only the start and the end of a session are written: with an experiment summary, as add_hparams writes it, TensorBoard would
    show the columns of one arbitrary run and leave the others empty.
    """
    raw: dict[str, Any] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]
    learned = {
        key: value for key, value in raw.items() if key not in ("paths", "callbacks", "logger", "evaluation", "resume", "sweep", "existing")
    }
    flat = {name: value for name, value in flatten(learned) if "${" not in str(value)}  # what is referred to has a column already
    for logger in trainer.loggers:
        if final:
            logger.log_metrics(final, trainer.global_step)
        if isinstance(logger, TensorBoardLogger):
            logger.hparams.update(flat)  # for the hparams.yaml that it leaves
            _, start, end = hparams(flat, {})
            with SummaryWriter(logger.log_dir) as writer:
                writer.file_writer.add_summary(start)
                writer.file_writer.add_summary(end)
        logger.save()
        logger.finalize("success")


def report(folder: Path, config: DictConfig, results: Path) -> Path:
    """Writes the run's report.html."""
    typed = folder / ".hydra" / "overrides.yaml"
    return write_report(folder, OmegaConf.to_yaml(config), [str(word) for word in OmegaConf.load(typed)] if typed.exists() else [], results)


def write_json(record: dict[str, Any], path: Path) -> None:
    write_text(json.dumps(record, indent=2) + "\n", path)


def show(report: dict[str, Any], folder: Path, split: str, seconds: float | None = None) -> None:
    """The summary at the end of a run."""
    table = Table(
        box=None, show_header=False, padding=(0, 2), title=f"{split} data, nats per example", title_justify="left", title_style="bold"
    )
    for name in ("elbo", "rate", "distortion", "log_likelihood", "bits_per_dim"):
        if report.get(name) is not None:
            error = report.get(f"{name}_std_error")
            table.add_row(
                name, f"{report[name]:.4g}" if name == "bits_per_dim" else f"{report[name]:.2f}", f"± {error:.2f}" if error else ""
            )
    if "active_units" in report:
        table.add_row("active_units", f"{report['active_units']} of {report['latent_dim']}", "")
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    if "num_samples" in report:
        console.print(f"\nlog_likelihood: {report['num_samples']} importance samples for {report['num_images_log_likelihood']} examples")
    shown = shorter(folder)
    console.print(f"\nrun folder:   {shown}" + (f"   ({seconds:.0f} s)" if seconds is not None else ""))
    places = [str(shown / name) for name in ("report.html", "figures") if (folder / name).exists()]
    places += [f"tensorboard --logdir {shlex.quote(str(shown))}"] if (folder / "tensorboard").is_dir() else []
    if places:
        console.print("look at:      " + "\n              ".join(places))


def shorter(path: Path) -> Path:
    """As a person would type it."""
    return Path(os.path.relpath(path)) if path.absolute().is_relative_to(Path.cwd()) else path


def refuse_counts(config: DictConfig, optional: Sequence[str] = (), **least: int) -> None:
    """Counts are whole numbers; null stands for all where it may.

    Raises:
        ValueError: if one is not, or is too small.
    """
    for name, smallest in least.items():
        value = config[name]
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= smallest
        if not whole and not (value is None and name in optional):
            raise ValueError(f"{name}={value} must be a whole number of at least {smallest}")


def chosen_device(config: DictConfig) -> torch.device:
    """A GPU if there is one, unless accelerator=cpu."""
    return torch.device("cuda" if torch.cuda.is_available() and config.accelerator != "cpu" else "cpu")


def below(folder: Path, name: Any) -> Path:
    """A folder of that name in another.

    Raises:
        ValueError: if the name leads elsewhere.
    """
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"name={name} must be the name of a folder, such as name=mine")
    return folder / name


@in_words
def generate(config: DictConfig) -> None:
    """Pictures a run folder; writes figures/*.png.

    Raises:
        ValueError: as `open_run`.
    """
    prepare()
    refuse_missing(config)
    refuse_counts(config, num_images=1)
    run, device = open_run(config.run, config.checkpoint, config.data_dir, config.trust), chosen_device(config)
    folder = Path(config.folder) if config.folder else run.folder / "figures"
    for path in draw_figures(run.model.to(device), run.datamodule, folder, device, config.seed, config.num_images):
        print(path)
