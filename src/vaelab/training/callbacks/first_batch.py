"""A check of the first batch, before the first optimiser step."""

import torch
from jaxtyping import Bool, Float
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints
from torch.distributions.constraints import nonnegative_integer, unit_interval

from vaelab import rng
from vaelab.data import DataModule
from vaelab.data.modality import NUM_LEVELS
from vaelab.distributions import Grid, MixedSupport, open_unit_interval
from vaelab.training.fsdp import whole
from vaelab.training.lit import LitVAE


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
        with torch.no_grad(), rng.fork(seed=0), whole(trainer):
            x, y = next(datamodule.batches("train", pl_module.device))
            draw = pl_module.objective.draw(pl_module.model, x, y)
            check_support(draw.p_x, draw.x, draw.observed)
            terms = pl_module.objective(draw, 0)
            far = far_from_scale(draw.p_x, draw.x, draw.observed)
            if far and datamodule.modality.columns:
                far = "this likelihood begins near 0 with scales near 1, and the columns have units of their own: set likelihood=mixed"
        pl_module.train(was_training)
        if not terms["loss"].isfinite():
            values = ", ".join(f"{name}={float(value):.6g}" for name, value in terms.items())
            advice = far or "look at the data and at the likelihood's parameters"
            raise ValueError(f"the loss of the first batch is not finite ({values}): {advice}")
        if far and trainer.is_global_zero:
            print(f"note: {far}")


MOST = 10  # root mean square of x, beyond which steps that suit numbers around 1 do not suit the data


def far_from_scale(p_x: Distribution, x: Float[Tensor, "b ..."], observed: Bool[Tensor, "b ..."] | None = None) -> str:
    """Advice to scale the data, if a likelihood of all real numbers is given values far from 1; "" else."""
    values = x.flatten() if observed is None else x[observed]
    size = float(values.double().square().mean().sqrt()) if len(values) else 0.0
    support = p_x.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is not constraints.real or size <= MOST:
        return ""
    return (
        f"the data have values in [{float(values.min()):.3g}, {float(values.max()):.3g}], and networks and likelihood begin near 0 with"
        f" scales near 1: set data.scale=standardize, or divide the data by {size:.2g}"
    )


# what a support is in words, and what puts data into it
WANTED = {
    constraints.boolean: ("{0, 1}", "make the data binary with data=mnist_binarized or +data.transform._target_=vaelab.data.Binarize"),
    constraints.unit_interval: ("[0, 1]", "divide the data by their largest value"),
    open_unit_interval: ("(0, 1), without 0 and 1", "spread 8-bit pixels with +data.transform._target_=vaelab.data.Dequantize"),
    constraints.nonnegative_integer: ("{0, 1, 2, ...}", "store counts as integers of more than 8 bits: 8-bit ones are divided by 255"),
}


def check_support(p_x: Distribution, x: Float[Tensor, "b ..."], observed: Bool[Tensor, "b ..."] | None = None) -> None:
    """Raise if p(x | z) cannot have given the observed values of x.

    Raises:
        ValueError: if not, with an example of a value that it cannot give, and which likelihoods or which transform would fit.
    """
    support, base = p_x.support, p_x.base_dist if isinstance(p_x, Independent) else p_x
    assert support is not None
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    values = x.flatten() if observed is None else x[observed]
    if bool(values.isnan().any()):
        raise ValueError("the data have values that are NaN: if those are missing values, set missing=true")
    outside = ~support.check(x) if observed is None else ~support.check(x) & observed
    if not bool(outside.any()):
        return
    if isinstance(support, MixedSupport):
        row, *place = outside.nonzero()[0].tolist()
        value = float(x[(row, *place)])
        raise ValueError(
            f"the likelihood expects x{place} in {support.at(place)}, but example {row} of the first batch has {value:.6g}:"
            " give another kind in likelihood.columns, or data.types"
        )
    wanted, change = str(support), "look at the data"
    if isinstance(support, Grid):
        wanted = f"{support}, the values of {support.num_bins} grey levels"
        change = "leave 8-bit pixels as they are with data.transform=null, or set likelihood.num_bins to the number of grey levels"
    wanted, change = WANTED.get(support, (wanted, change))
    raise ValueError(
        f"the likelihood {type(base).__name__} expects x in {wanted}, but the data have values in [{float(values.min()):.3g},"
        f" {float(values.max()):.3g}] (e.g. {float(x[outside][0]):.3g}): set likelihood={' or '.join(fitting(values))}; or {change}"
    )


def fitting(x: Float[Tensor, "n"]) -> list[str]:
    """The likelihoods that can give these values, the plainest first."""
    counts, unit = nonnegative_integer.check(x).all(), unit_interval.check(x).all()
    grid, real = Grid(NUM_LEVELS).check(x).all(), torch.tensor(True)
    fits = {
        "gaussian": real,
        "laplace": real,
        "student_t": real,
        "bernoulli": counts & unit,
        "continuous_bernoulli": unit,
        "beta": open_unit_interval.check(x).all(),
        "discretized_logistic": grid,
        "mixture_of_logistics": grid,
        "categorical": grid,
        "poisson": counts,
        "negative_binomial": counts,
    }
    return [name for name, holds in fits.items() if holds]
