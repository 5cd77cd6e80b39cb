"""Checks of a config before training, so that nothing is found out hours later, or in the words of a library."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

from vaelab.checks import check_at_least, check_whole, given
from vaelab.commands.judging import build_metrics
from vaelab.commands.old_words import OLD_WORDS, now_called
from vaelab.training.lit import LitVAE


def check_values(config: DictConfig) -> None:
    """Raise if Lightning or torch would refuse a value in words of their own.

    Raises:
        ValueError: if the seed or num_classes is no whole number of at least 0, latent_dim or z_shape none of at least 1, all of training
            would be in another precision than float32, or an option of the trainer would do nothing, or something else than it says.
    """
    check_whole(0, seed=config.seed)
    check_whole(1, **given(latent_dim=config.get("latent_dim")))
    check_whole(0, num_classes=config.get("num_classes", 0))
    shape = config.get("z_shape", [1])
    if not isinstance(shape, ListConfig):
        raise ValueError(f"z_shape={shape} must be a list of whole numbers, such as z_shape=[16]")
    check_whole(1, z_shape=list(shape))
    check_trainer(OmegaConf.to_container(config.trainer, resolve=True))  # type: ignore[arg-type]
    if str(config.trainer.get("precision", "32-true")) not in ("None", "32", "32-true", "bf16-mixed", "16-mixed"):
        raise ValueError(
            f"trainer.precision={config.trainer.precision}: data and probabilities are float32; networks in half precision are"
            " trainer.precision=bf16-mixed or speed=fast"
        )


# options of Lightning's trainer that have a word of their own here
INSTEAD = {
    "callbacks": "write callbacks=none or +callbacks.<name>._target_=...",
    "default_root_dir": "write hydra.run.dir=<folder>",
    "enable_autolog_hparams": "hyper-parameters are in .hydra/config.yaml and go to every logger",
    "enable_checkpointing": "write '~callbacks.best' '~callbacks.last'",
    "limit_predict_batches": "nothing is predicted while training",
    "logger": "write logger=none",
    "model_registry": "checkpoints are files of the run folder",
    "reload_dataloaders_every_n_epochs": "data are read once",
}


def check_trainer(options: Mapping[str, Any]) -> None:
    """Raise if an option of the trainer would do nothing, or something else than it says.

    Raises:
        ValueError: if one would, with what to write.
    """
    for name, advice in INSTEAD.items():
        if name in options:
            raise ValueError(f"trainer.{name} is not used: {advice}")
    if options.get("use_distributed_sampler"):
        raise ValueError("trainer.use_distributed_sampler=true would share out the data twice, after the data module: leave it false")
    counts = {f"trainer.{name}": options.get(name) for name in ("check_val_every_n_epoch", "accumulate_grad_batches")}
    check_whole(1, **given(**counts))
    clip = options.get("gradient_clip_val")
    if isinstance(clip, int | float) and not 0 < clip < math.inf:
        raise ValueError(f"trainer.gradient_clip_val={clip} must be positive and finite; null: nothing is clipped")
    if options.get("max_epochs") is None and options.get("max_steps", -1) == -1 and options.get("max_time") is None:
        raise ValueError("trainer.max_epochs=null would be 1000: write that, or -1 for a run without an end")


def check_steps(lit: LitVAE) -> None:
    """Raise if the optimizer or the scheduler refuses its options, which it would do when training begins.

    Raises:
        ValueError: if one does.
    """
    part, options = "optimizer", getattr(lit.optimizer, "keywords", {})
    check_at_least(0, **given(**{"optimizer.lr": options.get("lr")}))
    try:
        optimizer = lit.optimizer([{"params": [torch.nn.Parameter(torch.zeros(1))]}])
        part = "scheduler"
        if lit.scheduling is not None:
            lit.scheduling.of(optimizer, None)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{part}: {error}") from error


def check_evaluation(options: DictConfig) -> None:
    """Raise if something is wrong with the options of evaluation, before training and not after.

    Raises:
        ValueError: if something is.
    """
    if options.checkpoint not in (None, "best", "last"):
        raise ValueError(f"evaluation.checkpoint={options.checkpoint} must be best or last, or null: which of them the objective says")
    for old, new in OLD_WORDS["train"].items():
        if old.removeprefix("evaluation.") in options:
            raise ValueError(now_called(old, new))
    build_metrics(options.get("metrics") or OmegaConf.create(), "evaluation.metrics")
