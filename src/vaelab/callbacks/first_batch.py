"""What can be found out before the first optimiser step."""

import torch
from jaxtyping import Float
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints

from vaelab import generators
from vaelab.data import DataModule
from vaelab.lit import LitVAE


class FirstBatch(Callback):
    """Scores one batch before training.

    Raises:
        ValueError: if x lies outside the support of the likelihood, or the objective cannot be computed for this model.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LitVAE)
        datamodule: DataModule = trainer.datamodule  # type: ignore[attr-defined]
        was_training = pl_module.training
        pl_module.eval()  # batch-norm must not remember this batch
        with torch.no_grad(), generators.set_aside(seed=0):
            x, y = next(datamodule.batches("train", pl_module.device))
            draw = pl_module.model(x, y, num_samples=pl_module.objective.num_samples)
            check_support(draw.p_x, x)
            terms = pl_module.objective(draw, 0)
        pl_module.train(was_training)
        if not terms["loss"].isfinite():
            values = ", ".join(f"{name}={float(value):.6g}" for name, value in terms.items())
            raise ValueError(f"the loss of the first batch is not finite ({values}): look at the data and at the likelihood's parameters")


def check_support(p_x: Distribution, x: Float[Tensor, "..."]) -> None:
    """Whether p(x | z) can have given this x.

    Raises:
        ValueError: if not, with an example of a value that it cannot give, and what to change.
    """
    base = p_x.base_dist if isinstance(p_x, Independent) else p_x
    assert base.support is not None
    inside = base.support.check(x)
    if bool(inside.all()):
        return
    name = type(base).__name__
    value = float(x[~inside].flatten()[0])
    wanted = "{0, 1}" if base.support is constraints.boolean else str(base.support)
    raise ValueError(
        f"the likelihood {name} expects x in {wanted}, but the data have values in [{float(x.min()):.3g}, {float(x.max()):.3g}]"
        f" (e.g. {value:.3g}): set likelihood=gaussian, or make the data binary with data=mnist_binarized"
        " or +data.transform._target_=vaelab.data.Binarize"
    )
