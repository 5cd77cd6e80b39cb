"""Training: from a config to a run folder with a trained, evaluated and pictured model."""

import copy
import os
import shlex
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from vaelab.build import OpenedRun, build, build_data, check_trusted, trained_model
from vaelab.checks import check_flag
from vaelab.commands.checking import check_evaluation, check_steps, check_values
from vaelab.commands.common import check_given, is_watched, prepare_process, shorter
from vaelab.commands.composing import typed_words
from vaelab.commands.errors import NO_ROOM, report_errors
from vaelab.commands.from_data import with_shape
from vaelab.commands.judging import draw_charts, final_metrics, judge, print_numbers, report, validate
from vaelab.commands.pretrained import start_from
from vaelab.data import DataModule
from vaelab.figures.scenes import draw_figures
from vaelab.metrics.progress import duration
from vaelab.objectives import Objective, PriorFit
from vaelab.runs.claims import check_links
from vaelab.runs.configs import Use, flatten, material, that_only_reads
from vaelab.runs.files import read_checkpoint, split_by_data, write_json
from vaelab.runs.folder import RunFolder
from vaelab.runs.log import tell
from vaelab.runs.provenance import git, stamp
from vaelab.training.callbacks import LastCheckpoint
from vaelab.training.checkpoints import AtomicCheckpointIO
from vaelab.training.fastest import choose_speed
from vaelab.training.fsdp import check_shardable
from vaelab.training.loggers import close, log_config, show_files
from vaelab.training.profiling import profiler_of, show_profile
from vaelab.training.resume import check_changes, check_resumable, check_same_run, finished_bound, is_resumed, recorded_split, rewind
from vaelab.training.signals import Preempted, Signals, exit_code, requeue
from vaelab.training.speed import with_threads
from vaelab.training.stacking.members import Member

ABOUT_RUNS = ("resume", "existing", "trust")  # keys that say what to do with a run, and are no part of it


@report_errors
def train(config: DictConfig) -> float | None:
    """Train what the config describes, then evaluate and picture it; return val/bound of what was evaluated.

    From Python, `compose` makes the config; the run folder is `config.paths.run_dir`:

    >>> small = ["data.size=16", "data.dataset.num_train=64", "data.dataset.num_test=8", "data.val_size=8", "latent_dim=2"]
    >>> quick = ["trainer=debug", "trainer.enable_progress_bar=false", "logger=csv", "evaluation.figures=false"]
    >>> bound = train(compose("data=circles", "encoder=mlp", "decoder=mlp", *small, *quick))  # doctest: +ELLIPSIS
    run folder:   outputs/circles/...

    Raises:
        ValueError: for whatever a user can put right, in words.
    """
    check_given(config)
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    started = int(os.environ.get("SLURM_NTASKS", "1")) > 1  # a process for each device, from outside
    if hydra is not None and hydra.mode == RunMode.MULTIRUN and config.trainer.devices not in (1, "1") and not started:
        raise ValueError(
            f"trainer.devices={config.trainer.devices} within the process of a multirun: every further process would run the whole sweep"
            " again; set launcher=local, ray or slurm"
        )
    checkpoint, stored, trust = None, None, config.get("trust", False)
    check_flag(trust=trust)
    first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
    if config.resume:
        checkpoint, stored = resumed_from(config.resume)
        changes = changes_of([] if hydra is None else typed_words(hydra))
        config = changed(OmegaConf.create(that_only_reads(stored["config"])), changes)
        config.paths.run_dir = str(RunFolder.of_checkpoint(checkpoint).path.absolute())
        if not trust:
            check_trusted(config, training=True, typed=list(flatten(changes).values()))
            check_links(RunFolder.of_checkpoint(checkpoint).path)
    config = with_shape(config)
    run = RunFolder(config.paths.run_dir)
    with Signals() as signals, ExitStack() as stack:
        try:
            signals.unblock()
            if first:
                stack.enter_context(run.start(fresh=stored is None and not is_resumed(config)))
            if stored is None and is_resumed(config):
                if run.last_checkpoint is not None:
                    checkpoint, stored = run.sound_checkpoint()
                    config.speed = stored["config"]["speed"] if config.speed.get("candidates") else config.speed  # which was chosen for it
                    check_same_run(run, stored["config"], plain(config))
                bound = finished_bound(run, stored, config)
                if bound is not None:
                    tell(f"{run} holds this run, finished with val/bound={bound:.6g}: nothing is left to do")
                    return bound
            if stored is None and first:
                run.clear()
            if first:
                stack.enter_context(run.noting_failure())
            return _train(config, run, checkpoint, stored, signals)
        except Preempted as stop:
            signals.deferred = True  # scontrol has SLURM send more of them
            if first:
                tell(f"\nstopped by {stop}{stop.where}: {how_to_resume(run)}")
                requeue(stop.signum, signals)
            # Lightning kills all processes of a run when one that it started ends with another code
            raise SystemExit(exit_code(stop.signum) if first else 0) from None
        except OSError as error:
            if not run.path.is_dir():
                raise ValueError(f"{run} was removed or renamed while the run worked in it: start it again") from error
            if error.errno not in NO_ROOM:
                raise
            raise ValueError(
                f"cannot write to {run}: {error.strerror}. What was written is kept; make room, or choose another place with"
                f" hydra.run.dir=<folder>; {how_to_resume(run)}"
            ) from error


def resumed_from(run: str) -> tuple[Path, dict[str, Any]]:
    """Path and content of the checkpoint that `resume=` names: a file, or the newest sound one of a folder.

    Raises:
        ValueError: if there is none, or it cannot be read.
    """
    return (Path(run), read_checkpoint(Path(run))) if Path(run).is_file() else RunFolder(run).sound_checkpoint()


def changes_of(overrides: list[str]) -> dict[str, Any]:
    """Dotted keys of a command line and their values, without those that say what to do with a run."""
    parsed = [each for each in OverridesParser.create().parse_overrides(overrides) if each.key_or_group not in ABOUT_RUNS]
    return {each.key_or_group: None if each.is_delete() else each.value() for each in parsed}


def changed(stored: DictConfig, changes: Mapping[str, Any]) -> DictConfig:
    """The stored config of a run with the values given on the command line that it goes on with.

    Raises:
        ValueError: if one would change what is learned, or how long where a learning rate was planned for that.
    """
    check_changes(plain(stored), changes)
    for key, value in changes.items():
        OmegaConf.update(stored, key, value)
    return stored


def plain(config: DictConfig) -> dict[str, Any]:
    """The config of plain types, with interpolations as they are written."""
    return OmegaConf.to_container(config, resolve=False)  # type: ignore[return-value]


def how_to_resume(run: RunFolder) -> str:
    """Text such as "go on with resume=<folder>"."""
    return "no checkpoint was written, so there is nothing to go on from" if run.last_checkpoint is None else f"go on with resume={run}"


def _train(config: DictConfig, run: RunFolder, checkpoint: Path | None, stored: dict[str, Any] | None, signals: Signals) -> float | None:
    started, origin = time.monotonic(), git()  # the code that runs is that of the start
    check_values(config)
    check_evaluation(copy.deepcopy(config).evaluation)
    prepare_process()
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    datamodule, lit = build_data(config), build(config)
    check_steps(lit)
    if stored is None and config.get("pretrained"):
        start_from(lit.model, config, config.pretrained)
    if isinstance(lit.objective, PriorFit):
        if not config.get("pretrained"):
            raise ValueError("objective=prior_fit fits the prior of a trained model: set pretrained=<run folder>")
        lit.objective.freeze(lit.model)  # now, because DistributedDataParallel has to know what is trained
    parts = copy.deepcopy(config)  # instantiating resolves interpolations in place, and the config is stored and shown as it was written
    has_bar = config.trainer.enable_progress_bar and is_watched()
    callbacks = [each for each in instantiate(parts.get("callbacks") or {}, _convert_="all").values() if each is not None]
    callbacks = [each for each in callbacks if has_bar or not isinstance(each, ProgressBar)] + Member.of_this_thread()
    for callback in [each for each in callbacks if isinstance(each, LastCheckpoint)]:
        callback.signals = signals
    loggers = [logger for logger in instantiate(parts.get("logger") or {}, _convert_="all").values() if logger is not None]
    trainer = instantiate(
        parts.trainer,
        callbacks=callbacks,
        logger=loggers or False,
        default_root_dir=str(run),
        enable_progress_bar=has_bar,
        profiler=profiler_of(parts.trainer.get("profiler"), run.path),
        plugins=[*instantiate(parts.trainer.get("plugins") or []), AtomicCheckpointIO(run.path)],
        _convert_="all",
    )
    check_shardable(lit, trainer)
    if stored is not None:
        check_resumable(stored, trainer)
        lit.started -= stored.get("train_time", 0.0)  # older checkpoints do not hold it
        rewind(loggers, stored["global_step"])
        datamodule.recorded = recorded_split(run)
    datamodule.setup("fit")
    if stored is None and config.speed.get("candidates"):
        config.speed = choose_speed(lit, datamodule, trainer, config.speed)
    log_config(loggers, hparams_of(plain(config)))
    if stored is None and trainer.is_global_zero:
        write_json(datamodule.record(), run.split)
    if trainer.is_global_zero:
        tell(f"run folder:   {shorter(run.path)}")
    try:
        with with_threads(config.speed.get("threads")):
            trainer.fit(lit, datamodule, ckpt_path=checkpoint, weights_only=True)
    except Preempted as stop:
        if not stop.where and trainer.strategy.launcher is not None:  # not all processes know
            trainer.strategy.launcher.kill(stop.signum)
        raise
    except (KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C into an exit
        tell(f"\nstopped in epoch {trainer.current_epoch}: {how_to_resume(run)}")
        raise
    if trainer.should_stop and trainer.is_global_zero:
        of = f" of {trainer.max_epochs}" if (trainer.max_epochs or 0) > 0 else ""
        tell(f"\na callback ended training in epoch {trainer.current_epoch}{of}")
    weights = trainer.strategy.lightning_module_state_dict()  # for which all processes are needed where each has a share of them
    if not trainer.is_global_zero:
        return None
    show_profile(run.path)
    if stored is not None and trainer.global_step == stored["global_step"] and run.is_finished:
        tell(f"nothing was left to train after {trainer.global_step} steps: set trainer.max_epochs to more than {trainer.max_epochs}")
    return finish_run(config, run, trainer, weights, datamodule, started, origin)


def finish_run(
    config: DictConfig,
    run: RunFolder,
    trainer: lightning.Trainer,
    weights: Mapping[str, Tensor],
    datamodule: DataModule,
    started: float,
    origin: dict[str, Any],
) -> float:
    """Evaluate and picture the chosen checkpoint, or `weights` if there is none, write the results, and return val/bound."""
    lit: Any = trainer.lightning_module
    train_time, objective = lit.train_time, lit.objective
    device, options = trainer.strategy.root_device, copy.deepcopy(config).evaluation
    path, reason = chosen_checkpoint(run, options.checkpoint, objective)
    # another model than the one that was trained, of which each process may have a share alone
    model = trained_model(config, read_checkpoint(path)["state_dict"] if path.is_file() else weights, datamodule).to(device)
    val, charts = validate(run, model, objective, datamodule, device)
    show_files(trainer.loggers, charts, trainer.global_step)
    test, evaluations = dict[str, Any](), dict[str, Any]()

    def keep(name: str, found: dict[str, Any], how: dict[str, Any]) -> None:
        of_test, of_val = split_by_data(found)
        test.update(of_test)
        val.update(of_val)
        evaluations[name] = how
        show_files(trainer.loggers, draw_charts(run, found), trainer.global_step)

    if options.enabled and options.get("metrics"):
        for failure in judge(OpenedRun(model, datamodule, config, run, path), options.metrics, config.seed, keep, {}, "evaluation.metrics"):
            tell(f"could not be computed: {failure}")
    if not test:
        print_numbers("validation data, nats per example", val)
    if options.figures:
        figures = draw_figures(model, datamodule, run.figures, device, config.seed)
        show_files(trainer.loggers, {f"figures/{path.stem}": path for path in figures}, trainer.global_step)
    results: dict[str, Any] = {
        "test": test or None,
        "val": val,
        "evaluations": evaluations,
        "checkpoint": str(path.relative_to(run.path)) if path.is_file() else None,
        "checkpoint_reason": reason,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "seed": config.seed,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_time_s": round(train_time, 1),
        "wall_time_s": round(time.monotonic() - started, 1),
        **stamp(device),
        **{key: value for part in (*(each.provenance for each in Member.of_this_thread()), origin) for key, value in part.items()},
    }
    write_json(datamodule.record(), run.split)  # now that the test data have been read, too
    run.write_results({key: value for key, value in results.items() if key != "val"})  # for the report
    seen = [report(run, config)] if options.get("report") else []
    log_hparams(trainer, config, final_metrics(test))
    run.write_results(results)  # now that all is there: it says that the run is finished
    tell(f"\nevaluated:    {path.name if path.is_file() else 'the last weights'}, {reason}")
    print_places(run, seen, results["wall_time_s"])
    return val["bound"]


def chosen_checkpoint(run: RunFolder, asked: str | None, objective: Objective) -> tuple[Path, str]:
    """Path of the checkpoint to evaluate, and why it is this one.

    Args:
        run: its folder; it may have no checkpoint at all.
        asked: "best" or "last"; None: best if the objective is a bound on log p(x) with all weights 1, else last.
        objective: of the run.
    """
    best, last = (run.checkpoints / f"{name}.ckpt" for name in ("best", "last"))
    if asked is not None:
        path, reason = run.checkpoints / f"{asked}.ckpt", f"which evaluation.checkpoint={asked} asks for"
    elif objective.not_a_bound is None:
        path, reason = best, "the best by val/bound"
    else:
        path, reason = last, f"because the objective is no bound on log p(x): {objective.not_a_bound}"
    return (last, "because no validation has written best.ckpt") if path == best and not best.is_file() else (path, reason)


def hparams_of(config: dict[str, Any]) -> dict[str, Any]:
    """The columns of TensorBoard's HPARAMS page: keys that change numbers, and parts by the names of their classes (objective: ELBO).

    What is not set (null) has none.
    """
    columns = {}
    for name, value in flatten(material(config, Use.HPARAMS)).items():
        part, _, key = name.rpartition(".")
        if key == "_target_":
            columns[part] = value.rpartition(".")[2]
        elif value is not None and key != "_partial_" and "${" not in str(value):  # what is referred to has a column already
            columns[name] = value if isinstance(value, int | float | str) else str(value)
    return columns


def log_hparams(trainer: lightning.Trainer, config: DictConfig, final: dict[str, float]) -> None:
    """Write the final metrics and the config, for TensorBoard's HPARAMS page.

    Only the start and the end of a session are written: with an experiment summary, as add_hparams writes it, TensorBoard would
    show the columns of one arbitrary run and leave the others empty.
    """
    for logger in trainer.loggers:
        if final:
            logger.log_metrics(final, trainer.global_step)
        if isinstance(logger, TensorBoardLogger):
            _, start, end = hparams(hparams_of(plain(config)), {})
            with SummaryWriter(logger.log_dir) as writer:
                writer.file_writer.add_summary(start)
                writer.file_writer.add_summary(end)
    close(trainer.loggers)


def print_places(run: RunFolder, seen: list[Path], seconds: float) -> None:
    """Print the places where a finished run can be looked at: files, figures, TensorBoard."""
    tell(f"run folder:   {shorter(run.path)}   ({duration(seconds)})")
    places = [str(shorter(path)) for path in [*seen, run.figures] if path.exists()]
    places += [f"tensorboard --logdir {shlex.quote(str(shorter(run.path)))}"] if run.tensorboard else []
    if places:
        tell("look at:      " + "\n              ".join(places))
