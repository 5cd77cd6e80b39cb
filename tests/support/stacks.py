"""What launcher=stacked promises to stack: words of a config by the dial that they are about, and by a name."""

import torch
from lightning import Callback, LightningModule, Trainer
from small_runs import composed
from torch import Generator, Tensor

from vaelab.build import build
from vaelab.training.stacking.stack import Trained

K1 = "objective.kl=k1"
# docs/clusters.md has it as a table
STACKS = {
    "objective": {
        "elbo": ["objective.beta=4"],
        "elbo, Monte Carlo": ["objective.kl=k3", "objective.num_samples=2"],
        "elbo, free bits": ["objective.free_bits=0.1"],
        "elbo, free bits of latents": ["objective.free_bits=0.1", "objective.free_bits_of=latent"],
        "elbo, capacity": ["objective.capacity=3", "objective.beta=10"],
        "elbo, annealed": ["+schedule@objective.beta=linear", "objective.beta.steps=10"],
        "iwae": ["objective=iwae"],
        "stl": ["objective=stl"],
        "dreg": ["objective=dreg"],
        "ciwae": ["objective=ciwae"],
        "piwae": ["objective=piwae"],
        "renyi": ["objective=renyi"],
        "beta_tc": ["objective=beta_tc"],
        "dip_i": ["objective=dip_i"],
        "factor_tc": ["objective=factor_tc", "objective.tc.discriminator.hidden=[8]"],
        "info_mmd": ["objective=info_mmd"],
        "wae": ["objective=wae"],
        "vimco": ["objective=vimco", "posterior=categorical", "prior=uniform_categorical"],
        "geco": ["objective=geco", "objective.target=10"],
    },
    "posterior": {
        "gaussian": [],
        "full_gaussian": ["posterior=full_gaussian", K1],
        "laplace": ["posterior=laplace", "prior=standard_laplace"],
        "iaf": ["posterior=iaf", K1],
        "planar": ["posterior=planar", K1],
        "spline": ["posterior=spline", K1],
        "hyperspherical": ["posterior=hyperspherical", "prior=uniform_sphere"],
        "gumbel": ["posterior=gumbel", "prior=relaxed_categorical", K1],
    },
    "prior": {
        "mixture": ["prior=mixture", K1],
        "vamp": ["prior=vamp", "prior.num_components=4", K1],
        "flow": ["prior=flow", K1],
        "conditional_gaussian": ["prior=conditional_gaussian", "num_classes=10"],
    },
    "likelihood": {
        "gaussian": ["likelihood=gaussian", "likelihood.sigma=0.5"],
        "gaussian, learned": ["likelihood=gaussian", "likelihood.sigma=learned"],
        "gaussian, optimal": ["likelihood=gaussian", "likelihood.sigma=optimal"],
        "laplace": ["likelihood=laplace"],
        "student_t": ["likelihood=student_t"],
        "continuous_bernoulli": ["likelihood=continuous_bernoulli"],
    },
    "encoder, decoder": {
        "conv": ["data.shape=[1,16,16]", "encoder=conv", "decoder=conv", "encoder.channels=[4,8]", "decoder.channels=[8,4]"],
    },
    "model": {
        "ladder_vae": ["model=ladder_vae", "model.ladder.z_dims=[4,3]", "model.ladder.hidden=8"],
        "vae with classes": ["num_classes=10"],
    },
}
SHAPE = (1, 4, 4)
TINY = [
    "data=mnist_binarized",
    "data.shape=[1,4,4]",
    "encoder=mlp",
    "decoder=mlp",
    "encoder.hidden=[8]",
    "decoder.hidden=[8]",
    "latent_dim=3",
]


def models(words: list[str], num: int = 2) -> list[Trained]:
    """Models of a config with different weights, in 64 bits."""
    config = composed([*TINY, *words], None)  # type: ignore[arg-type]
    found = []
    for seed in range(num):
        torch.manual_seed(seed)
        lit = build(config)
        for part in lit.objective.modules():
            if getattr(part, "num_examples", 0) is None:
                part.num_examples = 1000  # type: ignore[assignment]
        found.append(Trained(lit.model, lit.objective).double())
    return found


def batch(each: Trained, step: int, num: int, size: int = 6) -> tuple[Tensor, Tensor]:
    """Batches of several models."""
    generator = Generator().manual_seed(step)
    shape = each.model.posterior.in_shape if hasattr(each.model, "posterior") else SHAPE
    shape = SHAPE if len(shape) != 3 else tuple(shape)
    x = torch.rand(num, size, *shape, generator=generator, dtype=torch.float64).round()
    return x, torch.randint(0, 10, (num, size), generator=generator)


class RaiseBeta(Callback):
    """A callback as users write them: anneals beta by hand."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.objective.beta = 1.0 + 3.0 * trainer.current_epoch  # type: ignore[assignment, union-attr]
