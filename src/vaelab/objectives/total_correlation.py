"""The total correlation of the aggregate posterior q(z) = E_x q(z | x), penalised.

The rate splits (Hoffman & Johnson, 2016; Chen et al., 2018, https://arxiv.org/abs/1802.04942):

    E_x KL(q(z | x) || p(z)) = I(x; z) + KL(q(z) || prod_d q(z_d)) + KL(prod_d q(z_d) || p(z))
                             = mutual information + total correlation + dimension-wise KL
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent
from torch.func import functional_call
from torch.nn.functional import softplus

from vaelab.checks import check_choice
from vaelab.collectives import all_gather, world
from vaelab.distributions import is_euclidean, space_of
from vaelab.divergences import is_product
from vaelab.draw import Draw
from vaelab.objectives.base import Objective
from vaelab.schedules import Schedule, at


class BetaTC(Objective):
    """loss = D + alpha I(x; z) + beta TC + gamma KL_dim (Chen et al., 2018); with all three 1, the ELBO.

    log q(z) is estimated from the minibatch as log sum_j W_ij q(z_i | x_j). Whatever the weights, the three terms add up to the Monte-Carlo
    KL of the same samples. Of several processes, each compares its own samples z_i with the x_j of all.

    Args:
        alpha, beta, gamma: the weights of the three terms, numbers or schedules.
        estimator: "mss", minibatch-stratified: every row of W sums to 1, so that independent dimensions have TC = 0; "mws",
            minibatch-weighted: W_ij = 1 / (N M), which shifts the terms but not their gradient.
        num_examples: N, the size of the training data; None: the trainer counts it.

    Raises:
        ValueError: if q or p does not factorise over the dimensions of z, a batch has one example, or N is not known.
    """

    def __init__(
        self,
        alpha: float | Schedule = 1.0,
        beta: float | Schedule = 6.0,
        gamma: float | Schedule = 1.0,
        estimator: str = "mss",
        num_examples: int | None = None,
    ) -> None:
        super().__init__()
        check_choice(("mss", "mws"), estimator=estimator)
        self.alpha, self.beta, self.gamma, self.estimator, self.num_examples = alpha, beta, gamma, estimator, num_examples

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        latent = draw.latent
        if not (isinstance(latent.q, Independent) and is_product(latent.q) and is_product(latent.p)):
            raise ValueError(
                f"the total correlation needs q and p that factorise over the dimensions of z, but they are {type(latent.q).__name__} and"
                f" {type(latent.p).__name__}: use posterior=gaussian prior=standard_normal"
            )
        if self.num_examples is None:
            raise ValueError("beta_tc needs the size of the training data: set objective.num_examples")
        q_j = of_all_processes(latent.q.base_dist)
        log_q_ij = q_j.log_prob(latent.z[:, :, None]).flatten(3)  # (K, B, W B, D): log q(z_i,d | x_j), W processes
        rank, size = world()
        log_weights = self.log_weights(log_q_ij.shape[2], self.num_examples, log_q_ij.device)[rank::size].to(log_q_ij.dtype)
        log_q = (log_weights + log_q_ij.sum(3)).logsumexp(2)
        log_q_dims = (log_weights[:, :, None] + log_q_ij).logsumexp(2).sum(2)
        mi, tc, dims = (latent.log_q - log_q).mean(), (log_q - log_q_dims).mean(), (log_q_dims - latent.log_p).mean()
        distortion = -draw.log_px.mean()
        rate = (mi + tc + dims).detach()
        return {
            "loss": distortion + at(self.alpha, step) * mi + at(self.beta, step) * tc + at(self.gamma, step) * dims,
            "elbo": -(distortion.detach() + rate),
            "distortion": distortion.detach(),
            "rate": rate,
            "mutual_information": mi.detach(),
            "total_correlation": tc.detach(),
            "dimension_wise_kl": dims.detach(),
        }

    @property
    def not_a_bound(self) -> str | None:
        weights = {"alpha": self.alpha, "beta": self.beta, "gamma": self.gamma}
        if any(callable(weight) for weight in weights.values()):
            return "a schedule changes a weight of the rate"
        changed = [f"{name}={weight:g}" for name, weight in weights.items() if weight != 1]
        return f"{' and '.join(changed)} weigh parts of the rate" if changed else None

    def log_weights(self, batch_size: int, num_examples: int, device: torch.device | None = None) -> Float[Tensor, "b b"]:
        """log W. Row i of the stratified weights: 1 / N for x_i itself, (N - M) / (N M) for one other, 1 / M for the rest; M = B - 1."""
        if self.estimator == "mws":
            return torch.full((batch_size, batch_size), -math.log(num_examples * batch_size), device=device)
        others = batch_size - 1
        if not 1 <= others < num_examples:
            raise ValueError(f"the stratified estimator needs batches of 2 to N = {num_examples} examples, but one has {batch_size}")
        weights = torch.full((batch_size, batch_size), 1 / others, device=device).fill_diagonal_(1 / num_examples)
        one_other = torch.eye(batch_size, dtype=torch.bool, device=device).roll(1, dims=1)
        return weights.masked_fill(one_other, (num_examples - others) / (num_examples * others)).log()


def of_all_processes(q: Distribution) -> Distribution:
    """q(z | x_j) for the x_j of all processes, in the order of `all_gather`."""
    if world()[1] == 1:
        return q
    names = [name for name in q.arg_constraints if name in q.__dict__]  # a lazy parameter is not one to copy
    options: dict[str, Any] = {name: all_gather(getattr(q, name)) for name in names}
    return type(q)(**options, validate_args=False)


class FactorTC(Objective):
    """loss = weight E[log D(z) / (1 - D(z))]: the total correlation, by a discriminator D of q(z) and prod_d q(z_d) (Kim & Mnih, 2018).

    https://arxiv.org/abs/1802.05983. To be added to a bound with `Sum`. D is trained by the same backward pass, with a gradient that no
    weight touches: the two players see each other as constants. Samples of prod_d q(z_d) are those of q(z) with each dimension permuted
    over the batch: several processes permute their own batches each, and say so. All else is as in one process.

    Args:
        z_shape: of the latent variable.
        discriminator: a network factory; it gives the logit of D.
        weight: of the total correlation (the paper's gamma), a number or a schedule.
        optimizer: options of D's own parameter group, for example its learning rate.

    Raises:
        ValueError: if z is not of real numbers, or a batch has one example.
    """

    local = "factor_tc: each process permutes the dimensions of its own batch only"

    def __init__(
        self,
        z_shape: Sequence[int],
        discriminator: Callable[..., nn.Module],
        weight: float | Schedule = 1.0,
        optimizer: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.discriminator = discriminator(in_shape=(math.prod(z_shape),), out_shape=(1,))
        self.optimizer = dict(optimizer or {})

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        if not is_euclidean(draw.latent.q):  # permuted codes would be no codes, and D would tell that
            raise ValueError(
                f"factor_tc permutes the numbers that z is made of, which must not be {space_of(draw.latent.q)}: use posterior=gaussian"
            )
        z = draw.latent.z.flatten(0, 1).flatten(1)
        if len(z) < 2:
            raise ValueError("factor_tc permutes the examples of a batch: set data.batch_size to at least 2")
        frozen = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        tc = functional_call(self.discriminator, frozen, z).mean()  # its gradient reaches z, and never D
        z = z.detach()  # the gradient of what follows reaches D, and never z
        shuffled = permuted(z)
        discriminator = (softplus(-self.discriminator(z)).mean() + softplus(self.discriminator(shuffled)).mean()) / 2
        return {
            "loss": at(self.weight, step) * tc + discriminator - discriminator.detach(),
            "total_correlation": tc.detach(),
            "discriminator_loss": discriminator.detach(),
        }

    @property
    def not_a_bound(self) -> str:
        return "it has an adversary"

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters()), **self.optimizer}]


def permuted(z: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Each column in a random order of its own."""
    return torch.stack([column[torch.randperm(len(z), device=z.device)] for column in z.unbind(1)], dim=1)
