"""One of several processes that train every objective, each on its share of the batches.

python tests/support/two_process_training.py <folder> <rank> <world>

Noise is drawn for the whole batch by all of them alike, and each keeps that of its own examples: example i has the noise that it has in
one process. In float64, and with plain gradient descent, which turns no rounding error into a step.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel

from vaelab.likelihoods import Bernoulli
from vaelab.models import VAE, SemiSupervisedVAE
from vaelab.networks import MLP
from vaelab.objectives import (
    CIWAE,
    DIP,
    ELBO,
    GECO,
    IWAE,
    M2,
    MIWAE,
    MMD,
    PIWAE,
    STL,
    VIMCO,
    VQ,
    BetaTC,
    DReG,
    FactorTC,
    Objective,
    PriorFit,
    Renyi,
    Sum,
)
from vaelab.posteriors import Categorical, Gaussian, Hierarchical, LookupFree, Residual, VectorQuantized
from vaelab.priors import ConditionalGaussian, Mixture, StandardNormal, UniformCategorical, UniformCodes
from vaelab.schedules import Linear

NUM_STEPS, BATCH_SIZE = 3, 12
X_SHAPE, Z_SHAPE, NUM_CLASSES = (1, 4, 4), (3,), 3
NETWORK = partial(MLP, hidden=(8,))


def vae(posterior: Callable[..., nn.Module] = Gaussian, prior: Any = None) -> VAE:
    return VAE(
        posterior(NETWORK, X_SHAPE, Z_SHAPE), Bernoulli(NETWORK, Z_SHAPE, X_SHAPE), StandardNormal(Z_SHAPE) if prior is None else prior
    )


def categorical() -> VAE:
    return vae(Categorical, UniformCategorical(Z_SHAPE))


def mixture() -> VAE:
    return vae(prior=Mixture(Z_SHAPE, num_components=2))


def given_labels() -> VAE:
    """Its prior has parameters, and its samples a gradient for them."""
    prior = ConditionalGaussian(Z_SHAPE, NUM_CLASSES)
    return VAE(Gaussian(NETWORK, X_SHAPE, Z_SHAPE, NUM_CLASSES), Bernoulli(NETWORK, Z_SHAPE, X_SHAPE, NUM_CLASSES), prior, NUM_CLASSES)


def codebook(update: str) -> VAE:
    """All of its codes are in use: which output of the encoder replaces one that is not is random."""
    model = vae(partial(VectorQuantized, num_codes=5, update=update, decay=0.9, revive_below=0.0), partial(UniformCodes))
    model.posterior.counts.fill_(2.0)
    return model


def bits() -> VAE:
    return vae(partial(LookupFree, temperature=2.0), partial(UniformCodes))


def residual() -> VAE:
    codes = partial(VectorQuantized, num_codes=5, decay=0.9, revive_below=0.0)
    model = vae(partial(Residual, quantizer=codes, depth=2), partial(UniformCodes))
    for part in model.posterior.quantizers:
        part.counts.fill_(2.0)
    return model


def hierarchical() -> VAE:
    codes, z_shape = partial(VectorQuantized, num_codes=5, decay=0.9, revive_below=0.0), (2, 2, 2)
    posterior = Hierarchical(NETWORK, X_SHAPE, z_shape, down=NETWORK, up=NETWORK, top=codes, bottom=codes, channels=4)
    for part in (posterior.top, posterior.bottom):
        part.counts.fill_(2.0)
    return VAE(posterior, Bernoulli(NETWORK, z_shape, X_SHAPE), partial(UniformCodes))


def semi_supervised() -> SemiSupervisedVAE:
    posterior, likelihood = Gaussian(NETWORK, X_SHAPE, Z_SHAPE, NUM_CLASSES), Bernoulli(NETWORK, Z_SHAPE, X_SHAPE, NUM_CLASSES)
    return SemiSupervisedVAE(Categorical(NETWORK, X_SHAPE, (NUM_CLASSES,)), posterior, likelihood, StandardNormal(Z_SHAPE), NUM_CLASSES)


# The numbers of capacity and free bits lie between the rates of the two halves of a batch, at one step at least: so do the halves differ in
# what they ask for.
CASES: dict[str, tuple[Callable[[], Objective], Callable[[], nn.Module]]] = {
    "elbo": (ELBO, vae),
    "elbo_k3": (partial(ELBO, kl="k3", num_samples=3), vae),
    "capacity": (partial(ELBO, capacity=1.2), vae),
    "free_bits": (partial(ELBO, free_bits=0.6), vae),
    "free_bits_of_latents": (partial(ELBO, free_bits=1.2, free_bits_of="latent"), vae),
    "geco": (partial(GECO, target=11.0, step_size=0.5), vae),
    "iwae": (IWAE, vae),
    "miwae": (partial(MIWAE, num_bounds=2, samples_per_bound=3), vae),
    "piwae": (partial(PIWAE, num_bounds=2, samples_per_bound=3), vae),
    "ciwae": (partial(CIWAE, beta=0.3, num_samples=5), vae),
    "stl": (partial(STL, num_samples=2), vae),
    "dreg": (DReG, vae),
    "renyi": (partial(Renyi, alpha=0.5, num_samples=5), vae),
    "vimco": (partial(VIMCO, num_samples=5), categorical),
    "beta_tc": (partial(BetaTC, num_examples=100), vae),
    "beta_tc_weighted": (partial(BetaTC, num_examples=100, estimator="mws"), vae),
    "factor_tc": (lambda: Sum(elbo=ELBO(), tc=FactorTC(Z_SHAPE, NETWORK, weight=5.0)), vae),
    "dip_i": (lambda: Sum(elbo=ELBO(), dip=DIP("i", 1.0, 1.0)), vae),
    "dip_ii": (lambda: Sum(elbo=ELBO(), dip=DIP("ii", 1.0, 1.0)), vae),
    "info_mmd": (lambda: Sum({"mmd": 100.0}, elbo=ELBO(beta=0.0), mmd=MMD("rbf", [1.0])), vae),
    "wae": (lambda: Sum({"mmd": 10.0}, elbo=ELBO(beta=0.0, num_samples=2), mmd=MMD()), vae),
    "mmd_of_a_prior_that_learns": (lambda: Sum({"mmd": 10.0}, elbo=ELBO(), mmd=MMD()), given_labels),
    "m2": (M2, semi_supervised),
    "prior_fit": (PriorFit, mixture),
    "vq": (VQ, partial(codebook, "ema")),
    "vq_gradient": (VQ, partial(codebook, "gradient")),
    "vq_bits": (partial(VQ, entropy=1.0), bits),
    "vq_residual": (VQ, residual),
    "vq_hierarchical": (VQ, hierarchical),
    "sum": (lambda: Sum({"mmd": Linear(end=10.0, steps=2)}, bound=DReG(4), mmd=MMD(), dip=DIP("ii", 0.1, 0.1)), vae),  # more of it diverges
}
# The loss of these is no mean over examples.
COUPLED = {
    *("capacity", "free_bits", "free_bits_of_latents", "geco", "beta_tc", "beta_tc_weighted", "dip_i", "dip_ii", "info_mmd", "wae"),
    *("mmd_of_a_prior_that_learns", "vq", "vq_gradient", "vq_bits", "vq_residual", "vq_hierarchical", "sum"),
}


# What trainer=fsdp refuses.
UNSHARDABLE = {"factor_tc", "prior_fit", "vq_gradient"}


class Step(nn.Module):
    """What is wrapped, as a LightningModule is: model and objective, up to the loss."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, x: Tensor, y: Tensor, step: int) -> dict[str, Tensor]:
        return self.objective(self.objective.draw(self.model, x, y), step)


def shared_noise(rank: int, world: int) -> ExitStack:
    """Examples are along the last dimension but one of all noise here. The two samplers are the only sources of it."""

    def own(draw: Callable[..., Tensor], shape: Any) -> Tensor:
        *others, batch, dims = shape
        return draw(*others, batch * world, dims)[..., rank::world, :]

    def normal(shape: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
        return own(torch.randn, shape)

    def gumbel(logits: Tensor, sample_shape: Any) -> Tensor:
        return logits - (-own(torch.rand, (*sample_shape, *logits.shape)).log()).log()

    def rotated(z: Tensor) -> Tensor:
        """In place of a random permutation, one that keeps the examples of each of two processes to themselves."""
        shares = [z] if world == 2 else [z[0::2], z[1::2]]
        moved = [torch.stack([column.roll(i + 1) for i, column in enumerate(share.unbind(1))], 1) for share in shares]
        return torch.stack(moved, 1).flatten(0, 1)

    stack = ExitStack()
    stack.enter_context(patch("torch.distributions.normal._standard_normal", normal))
    stack.enter_context(patch("vaelab.distributions.categorical.with_gumbel_noise", gumbel))
    stack.enter_context(patch("vaelab.objectives.total_correlation.permuted", rotated))
    return stack


def shared_out(step: nn.Module) -> nn.Module:
    return FullyShardedDataParallel(step, use_orig_params=True, device_id=torch.device("cpu"))


def train(name: str, rank: int, world: int, wrap: Callable[[nn.Module], nn.Module] = DistributedDataParallel) -> dict[str, Any]:
    """The weights and buffers after some steps, and the terms of each."""
    torch.manual_seed(0)
    build, build_model = CASES[name]
    objective, model = build(), build_model()
    if isinstance(objective, PriorFit):
        objective.freeze(model)
    start = [value.clone() for value in model.state_dict().values()]
    x = torch.rand(NUM_STEPS, BATCH_SIZE, *X_SHAPE).round()
    y = torch.arange(NUM_STEPS * BATCH_SIZE).reshape(NUM_STEPS, BATCH_SIZE) % 7 % NUM_CLASSES
    if isinstance(objective, M2):
        y[:, ::3] = -1
    step = Step(model, objective)
    wrapped = wrap(step) if world > 1 else step
    optimizer = torch.optim.SGD([parameter for parameter in step.parameters() if parameter.requires_grad], lr=0.05)
    terms = []
    with shared_noise(rank, world):
        for i in range(NUM_STEPS):
            found = wrapped(x[i, rank::world], y[i, rank::world], i)
            optimizer.zero_grad()
            found["loss"].backward()
            optimizer.step()
            terms.append({key: value.item() for key, value in found.items()})
    with FullyShardedDataParallel.summon_full_params(wrapped):
        moved = max((a - b).abs().max().item() for a, b in zip(start, model.state_dict().values(), strict=True))
        return {"weights": {key: value.detach().clone() for key, value in step.state_dict().items()}, "terms": terms, "moved": moved}


if __name__ == "__main__":
    folder, rank, world = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_default_dtype(torch.float64)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world)
    together = {name: train(name, rank, world) for name in CASES}
    shards = {name: train(name, rank, world, shared_out) for name in CASES if name not in UNSHARDABLE}
    # what each process would do if it looked at its own batch alone
    alone = [patch(f"vaelab.{module}.world", lambda: (0, 1)) for module in ("collectives", "objectives.total_correlation")]
    with alone[0], alone[1]:
        apart = {name: train(name, rank, world) for name in sorted(COUPLED) if not name.startswith("vq")}
    torch.save({"together": together, "shared_out": shards, "apart": apart}, folder / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()
