"""Checks of a config before training, so that nothing is found out hours later, or in the words of a library."""

import torch
from omegaconf import DictConfig, OmegaConf

from vaelab.checks import check_whole, given
from vaelab.commands.judging import build_metrics
from vaelab.runs.configs import MOVED_KEYS, moved_key
from vaelab.training.lit import LitVAE


def check_values(config: DictConfig) -> None:
    """Raise if Lightning or torch would refuse a value in words of their own.

    Raises:
        ValueError: if the seed is no whole number of at least 0, latent_dim none of at least 1, or all of training would be in another
            precision than float32.
    """
    check_whole(0, seed=config.seed)
    check_whole(1, **given(latent_dim=config.get("latent_dim")))
    if str(config.trainer.get("precision", "32-true")) not in ("None", "32", "32-true", "bf16-mixed", "16-mixed"):
        raise ValueError(
            f"trainer.precision={config.trainer.precision}: data and probabilities are float32; networks in half precision are"
            " trainer.precision=bf16-mixed or speed=fast"
        )


def check_steps(lit: LitVAE) -> None:
    """Raise if the optimizer or the scheduler refuses its options, which it would do when training begins.

    Raises:
        ValueError: if one does, or the scheduler asks for a metric.
    """
    part = "optimizer"
    try:
        optimizer = lit.optimizer([{"params": [torch.nn.Parameter(torch.zeros(1))]}])
        part = "scheduler"
        scheduler = None if lit.scheduler is None else lit.scheduler(optimizer)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{part}: {error}") from error
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise ValueError("scheduler: ReduceLROnPlateau asks for a metric after each epoch, which is not passed to it: choose another one")


def check_evaluation(options: DictConfig) -> None:
    """Raise if something is wrong with the options of evaluation, before training and not after.

    Raises:
        ValueError: if something is.
    """
    if options.checkpoint not in (None, "best", "last"):
        raise ValueError(f"evaluation.checkpoint={options.checkpoint} must be best or last, or null: which of them the objective says")
    moved = sorted(MOVED_KEYS.keys() & options.keys())
    if moved:
        raise ValueError(moved_key("evaluation.", moved[0]))
    build_metrics(options.get("metrics") or OmegaConf.create(), "evaluation.metrics")
