"""Missing values by Markov chains that draw z and x_missing in turn."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.distributions import Distribution

from vaelab.applications.completion import POINT, Completion, check_shapes, mean_and_std, moments, no_density, repeat
from vaelab.divergences import is_product
from vaelab.draw import Draw, Latent
from vaelab.evidence import evaluating
from vaelab.models import Model


@torch.no_grad()
def pseudo_gibbs(
    model: Model,
    x: Float[Tensor, "b ..."],
    observed: Bool[Tensor, "b ..."],
    y: Shaped[Tensor, "b ..."] | None = None,
    num_completions: int = 8,
    num_steps: int = 500,
) -> Completion:
    """z ~ q(z | x_o, x_m) and x_m ~ p(x_m | z) in turn (Rezende et al., 2014, https://arxiv.org/abs/1401.4082, appendix F).

    The chain's stationary distribution is p(x_m | x_o) only if q(z | x) is p(z | x). For every model; of one that has learned q(z | x_o)
    (`missing=true`), z ~ q(z | x_o).

    Args:
        model: of x.
        x: whose missing values may be anything, NaN too.
        observed: which values of x are known.
        y: labels, which a model that is conditional on them is given.
        num_completions: K independent chains for each example. Their ends are the draws; mean and std are of their second halves.
        num_steps: of each chain.

    Raises:
        ValueError: if the mask has not the shape of x, a number is below 1, or the mask splits values that the likelihood draws together.
    """
    check_shapes(x, observed, num_completions=num_completions, num_steps=num_steps)
    with evaluating(model):
        chains = GibbsChains(model, x, observed, y, num_completions)
        completion, _ = chains.run(chains.pseudo_gibbs, chains.start(), num_steps)
    return completion


@torch.no_grad()
def metropolis_within_gibbs(
    model: Model,
    x: Float[Tensor, "b ..."],
    observed: Bool[Tensor, "b ..."],
    y: Shaped[Tensor, "b ..."] | None = None,
    num_completions: int = 8,
    num_steps: int = 500,
    num_pseudo_gibbs: int = 50,
) -> Completion:
    """z' ~ q(z | x), taken with probability min(1, p(x, z') q(z | x) / (p(x, z) q(z' | x))), and x_m ~ p(x_m | z) in turn.

    The chain's stationary distribution is p(x_m, z | x_o) however q(z | x) is (Mattei & Frellsen, 2018, https://arxiv.org/abs/1802.04826).

    Args:
        model, x, observed, y, num_completions, num_steps: as for `pseudo_gibbs`.
        num_pseudo_gibbs: steps before the first proposal can be refused: a chain that starts far from where p(x, z) has its mass would be
            slow to find it.

    Raises:
        ValueError: as for `pseudo_gibbs`, or if the model has several latent variables, or a q(z | x) without a density at any z.
    """
    check_shapes(x, observed, num_completions=num_completions, num_steps=num_steps, num_pseudo_gibbs=num_pseudo_gibbs)
    with evaluating(model):
        chains = GibbsChains(model, x, observed, y, num_completions)
        obstacle = no_density(model, chains.x, chains.y)
        if obstacle:
            others = "method=pseudo_gibbs" if obstacle == POINT else "method=importance_resampling or method=pseudo_gibbs"
            raise ValueError(f"method=metropolis_within_gibbs compares the density q(z | x) of two z, but {obstacle}: set {others}")
        state = chains.start()
        for _ in range(num_pseudo_gibbs - 1):
            state = chains.pseudo_gibbs(state)
        completion, moved = chains.run(chains.metropolis, state, num_steps)
    return Completion(completion.x, completion.expected, completion.mean, completion.std, acceptance_rate=moved)


class State(NamedTuple):
    """The places of N chains."""

    x: Float[Tensor, "n ..."]
    z: Shaped[Tensor, "n ..."]  # that the missing values of x were drawn from
    p_x: Distribution  # p(x | z), batch shape (2, N) of the proposals and the old z, or (1, N)
    moved: Bool[Tensor, "n"]  # whether z is the proposal

    def chosen(self, rows: Shaped[Tensor, "r n ..."]) -> Shaped[Tensor, "n ..."]:
        """The values that the chains have now: proposals where they were accepted, old values elsewhere."""
        return choose(self.moved, rows)


def choose(moved: Bool[Tensor, "n"], rows: Shaped[Tensor, "r n ..."]) -> Shaped[Tensor, "n ..."]:
    """The first row where a chain moved, the last where it did not."""
    return torch.where(moved.reshape(-1, *[1] * (rows.ndim - 2)), rows[0], rows[-1])


class GibbsChains:
    """K chains for each of B examples, N = K B beside one another in the batch.

    A model of missing values (`missing=true`) has learned q(z | x_o), and is not shown what the chains have put in their place.
    """

    def __init__(
        self,
        model: Model,
        x: Float[Tensor, "b ..."],
        observed: Bool[Tensor, "b ..."],
        y: Shaped[Tensor, "b ..."] | None,
        num_completions: int,
    ) -> None:
        self.model, self.num_completions = model, num_completions
        self.x, self.observed = repeat(torch.where(observed, x, 0.0), num_completions), repeat(observed, num_completions)
        self.y = None if y is None else repeat(y, num_completions)

    def start(self) -> State:
        """A state after one step from zero in place of what is missing."""
        return self._pseudo_gibbs(self.x)

    def pseudo_gibbs(self, state: State) -> State:
        """z ~ q(z | x), always taken."""
        return self._pseudo_gibbs(state.x)

    def _pseudo_gibbs(self, x: Float[Tensor, "n ..."]) -> State:
        draw = self.model(self._seen(x), self.y)
        check_splittable(draw.p_x, self.observed)
        moved = torch.ones(len(x), dtype=torch.bool, device=x.device)
        return State(self._completed(draw.p_x.sample()[0]), draw.latents[-1].z[0], draw.p_x, moved)

    def metropolis(self, state: State) -> State:
        """z' ~ q(z | x), taken or not."""
        q = self.model.encode(self._seen(state.x), self.y)
        z = torch.stack([q.sample(), state.z])
        p_x = self.model.decode(z, self.y)
        latent = Latent(z=z, q=q, p=self.model.p_z(self.y))
        # where proposals do not depend on x_m, it need not be conditioned on: the target is p(z | x_o) itself
        observed = self.observed if self.model.missing else None
        log_w = Draw(x=state.x, y=self.y, p_x=p_x, latents=(latent,), observed=observed).log_w
        moved = torch.rand_like(log_w[0]).log() < log_w[0] - log_w[1]
        return State(self._completed(choose(moved, p_x.sample())), choose(moved, z), p_x, moved)

    def run(self, step: Callable[[State], State], state: State, num_steps: int) -> tuple[Completion, Float[Tensor, "b"]]:
        """The ends of the chains, and the share of steps that moved z."""
        first = second = torch.zeros_like(self.x, dtype=torch.float64)
        moved, num_kept = torch.zeros(len(self.x), device=self.x.device), num_steps - num_steps // 2
        for t in range(num_steps):
            state = step(state)
            moved = moved + state.moved / num_steps
            if t >= num_steps - num_kept:
                now = [state.chosen(moment) for moment in moments(state.p_x)]
                first, second = first + now[0] / num_kept, second + now[1] / num_kept
        values = (self.x, self.observed, first, second, moved, state.x, self._completed(now[0]))
        x, observed, first, second, moved, ends, expected = (value.unflatten(0, (self.num_completions, -1)) for value in values)
        return Completion(ends, expected, *mean_and_std(x[0], observed[0], first.mean(0), second.mean(0))), moved.mean(0)

    def _seen(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        return x.masked_fill(~self.observed, torch.nan) if self.model.missing else x

    def _completed(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        return torch.where(self.observed, self.x, x)


def check_splittable(p_x: Distribution, observed: Bool[Tensor, "n ..."]) -> None:
    """Missing values are drawn from p(x | z) as if there were no observed ones, which is right for those that are independent given z.

    Raises:
        ValueError: if the channels of a pixel are not, and only some of them are observed.
    """
    if not is_product(p_x) and observed.ndim > 2 and bool((observed != observed[:, :1]).any()):
        raise ValueError(
            "some channels of a pixel are observed and others not, but this likelihood draws them together: use a mask that hides whole"
            " pixels, or a likelihood that draws each value by itself"
        )
