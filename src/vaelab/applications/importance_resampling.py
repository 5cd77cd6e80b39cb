"""Missing values by importance sampling (Mattei & Frellsen, 2019, https://arxiv.org/abs/1812.02633, section 4)."""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from vaelab.applications.completion import POINT, Completion, check_shapes, mean_and_std, moments, no_density, repeat
from vaelab.distributions import log_mean_exp
from vaelab.draw import Draw, Latent
from vaelab.evidence import Evidence, decodings_at_once, evaluating
from vaelab.models import Model


@torch.no_grad()
def importance_resampling(
    model: Model,
    x: Float[Tensor, "b ..."],
    observed: Bool[Tensor, "b ..."],
    y: Shaped[Tensor, "b ..."] | None = None,
    num_completions: int = 8,
    num_samples: int = 10_000,
    chunk_size: int | None = None,
    guesses: Float[Tensor, "m b ..."] | None = None,
) -> Completion:
    """x_m ~ p(x_m | z) with z among S samples of r(z), in proportion to w = p(x_o | z) p(z) / r(z), whose mean estimates p(x_o).

    The proposal is r(z) = (1/M) sum_m q(z | x_o, guess m of x_m), with as many samples of each component, and the density of the whole
    mixture for all (the balance heuristic of Veach & Guibas, 1995, https://doi.org/10.1145/218380.218498). Guesses may be anything that was
    found without these samples. Without any, M = 1, and zero stands for what is missing, as in the paper, or a model of missing values
    (`missing=true`) is shown what is missing as it was in training. Other models hardly recognise an x with holes, and completions by
    pseudo-Gibbs are better guesses. Where q has no density at any z, M = 1, and the guess is the mean of the guesses.

    Args:
        model, x, observed, y: as for `pseudo_gibbs`.
        num_completions: K draws for each example, with replacement. mean and std are of all S samples, weighted.
        num_samples: S, rounded up to a multiple of M.
        chunk_size: how many samples of every x are in memory at a time; None: as many as `decodings_at_once` allows.
        guesses: whose missing values are the guesses.

    Raises:
        ValueError: if the mask has not the shape of x, a number is below 1, q(z | x) is a point, or the likelihood does not score each
            value by itself.
    """
    check_shapes(x, observed, num_completions=num_completions)
    samples, drawn = WeightedSamples(num_completions), 0
    with evaluating(model):
        for draw in proposals(model, x, observed, y, num_samples, chunk_size, guesses):
            samples.add(draw)
            drawn += len(draw.log_w)
    draws, expected = (torch.where(observed, x, values) for values in samples.draws)
    evidence = Evidence(samples.log_sum - math.log(drawn), (2 * samples.log_sum - samples.log_sum_of_squares).exp())
    first, second, *others = samples.moments
    of_expected = torch.where(observed, x, others[0].to(x)) if others else None
    return Completion(draws, expected, *mean_and_std(x, observed, first, second), evidence=evidence, mean_of_expected=of_expected)


@torch.no_grad()
def evidence_of_observed(
    model: Model,
    x: Float[Tensor, "b ..."],
    observed: Bool[Tensor, "b ..."],
    y: Shaped[Tensor, "b ..."] | None = None,
    num_samples: int = 10_000,
    chunk_size: int | None = None,
    guesses: Float[Tensor, "m b ..."] | None = None,
) -> Evidence:
    """log p^(x_o) = log (1/S) sum_s w_s, which is too low in the mean and rises to log p(x_o) with S; see `importance_resampling`."""
    with evaluating(model):
        log_w = torch.cat([draw.log_w for draw in proposals(model, x, observed, y, num_samples, chunk_size, guesses)]).double()
    return Evidence(log_mean_exp(log_w), (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp())


def proposals(
    model: Model,
    x: Float[Tensor, "b ..."],
    observed: Bool[Tensor, "b ..."],
    y: Shaped[Tensor, "b ..."] | None,
    num_samples: int,
    chunk_size: int | None,
    guesses: Float[Tensor, "m b ..."] | None,
) -> Iterator[Draw]:
    """S samples in chunks."""
    at_once = max(1, decodings_at_once(x) // len(x)) if chunk_size is None else chunk_size
    check_shapes(x, observed, num_samples=num_samples, chunk_size=at_once)
    hidden = torch.nan if model.missing else 0.0
    filled = torch.where(observed, x, hidden)[None] if guesses is None else torch.where(observed, x, guesses)
    obstacle = no_density(model, filled[0], y)
    if obstacle == POINT:
        raise ValueError(f"an importance weight is made of the density q(z | x), but {obstacle}: set method=pseudo_gibbs")
    sample, drawn = from_mixture if len(filled) > 1 and not obstacle else from_mean, 0
    while drawn < num_samples:
        draw = sample(model, filled, observed, y, min(at_once, num_samples - drawn))
        drawn += len(draw.log_w)
        yield draw


def from_mean(
    model: Model, filled: Float[Tensor, "m b ..."], observed: Bool[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None, num_samples: int
) -> Draw:
    """Samples of all latent variables given the mean of the guesses."""
    return replace(model(filled.mean(0), y, num_samples=num_samples), observed=observed)


def from_mixture(
    model: Model, filled: Float[Tensor, "m b ..."], observed: Bool[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None, num_samples: int
) -> Draw:
    """Samples of the mixture over the guesses."""
    m, b = filled.shape[:2]
    q = model.encode(filled.flatten(0, 1), None if y is None else repeat(y, m))
    z = q.sample(torch.Size([-(-num_samples // m)])).unflatten(1, (m, b)).flatten(0, 1)
    under_each = q.log_prob(z[:, None].expand(-1, m, *z.shape[1:]).flatten(1, 2)).unflatten(1, (m, b))
    latent = Latent(z=z, q=q, p=model.p_z(y), log_q=log_mean_exp(under_each, dim=1))
    return Draw(x=filled[0], y=y, p_x=model.decode(z, y), latents=(latent,), observed=observed, units=model.units)


class WeightedSamples:
    """A summary of a stream of weighted samples: log-sums of weights, weighted moments, and K draws in proportion to the weights.

    When a chunk arrives, each draw is replaced by one of the chunk with the probability that the chunk has of all weights so far.
    """

    def __init__(self, num_draws: int) -> None:
        self.num_draws = num_draws
        self.log_sum = self.log_sum_of_squares = torch.tensor(-torch.inf, dtype=torch.float64)
        self.draws: tuple[Tensor, ...] = (torch.tensor(0.0),) * 2  # x and E[x | z], each (K, B, ...)
        self.moments: tuple[Tensor, ...] = ()  # E[x] and E[x^2], and with a missingness the mean of E[x | z], each (B, ...)

    def add(self, draw: Draw) -> None:
        """A chunk of samples; all of the first one is kept.

        With a missingness the missing values that were sampled have a part in the weights, and are what the draws and moments are of.

        Raises:
            ValueError: if a weight is NaN.
        """
        log_w = draw.log_w.double()
        if bool(log_w.isnan().any()):
            bad = draw.x[log_w.isnan().any(0)][0]
            raise ValueError(
                f"log p(x) is NaN where x is up to {float(bad.abs().max()):.3g}: such values are too far from the training data"
            )
        weights, chunk = log_w.softmax(0), log_w.logsumexp(0)
        self.log_sum = torch.logaddexp(self.log_sum.to(chunk), chunk)
        self.log_sum_of_squares = torch.logaddexp(self.log_sum_of_squares.to(chunk), (2 * log_w).logsumexp(0))
        share = (chunk - self.log_sum).exp()
        if draw.missingness is None:
            values, x = [*moments(draw.p_x)], draw.p_x.sample()
        else:
            x = draw.completed
            values = [x, x.square(), draw.p_x.mean]
        first = values[0]
        event = [1] * (first.ndim - 2)
        picks = torch.multinomial(weights.T, self.num_draws, replacement=True).T
        columns = torch.arange(log_w.shape[1], device=log_w.device)
        anew = (torch.rand_like(picks, dtype=share.dtype) < share).unflatten(1, (-1, *event))
        draws = (each[picks, columns] for each in (x, first))
        self.draws = tuple(torch.where(anew, new, old) for new, old in zip(draws, self.draws, strict=True))
        means = [torch.einsum("sb,sb...->b...", weights, each.double()) for each in values]
        share = share.unflatten(0, (-1, *event))
        self.moments = tuple(old + share * (new - old) for new, old in zip(means, self.moments or means, strict=True))
