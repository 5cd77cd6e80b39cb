"""Training whose weights, gradients and optimizer state are shared out among processes (trainer=fsdp).

Rajbhandari et al. (2020, https://arxiv.org/abs/1910.02054), Zhao et al. (2023, https://arxiv.org/abs/2304.11277). All of what is trained
is one unit: each process has all weights while it computes a loss and its gradient, and its share of them otherwise. A checkpoint is
that of one process.
"""

from contextlib import AbstractContextManager

from lightning import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.modules.batchnorm import _BatchNorm

from vaelab.objectives import FactorTC, PriorFit
from vaelab.training.optimizers import AdamNormGrad


def whole(trainer: Trainer) -> AbstractContextManager:
    """A context in which every process has all weights; what all of them change alike stays changed. All of them must enter it."""
    assert trainer.model is not None
    return FullyShardedDataParallel.summon_full_params(trainer.model)  # where nothing is shared out, this does nothing


def unshardable(module: nn.Module) -> list[str]:
    """The parts that would fail or train to something else, in words.

    Within a step the weights of a part are views of one long vector: they have no `requires_grad` of their own, and what is written to
    them is lost. Buffers are not shared out: they must come out the same on all processes.
    """
    reasons = [f"{name}, which is a single number" for name, weight in module.named_parameters() if weight.ndim == 0]
    for part in module.modules():
        if isinstance(part, FactorTC):
            reasons.append("objective=factor_tc, which freezes its discriminator within a step")
        if isinstance(part, PriorFit):
            reasons.append("objective=prior_fit, which freezes all but the prior")
        if getattr(part, "update", None) == "gradient":
            reasons.append("posterior.update=gradient, which replaces codes within a step (posterior.update=ema can be)")
    return reasons


def check_shardable(module: nn.Module, trainer: Trainer) -> None:
    """Raise if a module cannot be trained with weights that are shared out.

    Raises:
        ValueError: if they are to be, and there is something; or if all of training would be in another precision than float32.
    """
    if not isinstance(trainer.strategy, FSDPStrategy):
        return
    reasons = unshardable(module)
    if any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        reasons.append("callbacks.ema, which averages whole weights")
    if trainer.strategy._layer_sync is None and any(isinstance(part, _BatchNorm) for part in module.modules()):
        reasons.append("batch-norm without trainer.sync_batchnorm=true")
    if getattr(getattr(module, "optimizer", None), "func", None) is AdamNormGrad:
        reasons.append("optimizer=adam_norm_grad, which needs the length of whole gradients")
    if trainer.precision != "32-true":
        reasons.append(f"trainer.precision={trainer.precision} (speed=fast can be)")
    if reasons:
        raise ValueError(f"trainer=fsdp is not for {', nor for '.join(reasons)}: set trainer=ddp")
