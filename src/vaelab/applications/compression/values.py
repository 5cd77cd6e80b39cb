"""Codes of x given z: p(x | z) as weights of whole numbers, the levels of x."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import special
from torch.distributions import Distribution, Independent

from vaelab import distributions
from vaelab.applications.compression.exact import exp, rounded, sigmoid
from vaelab.applications.compression.stack import Code, Stack, Table

BASE = 16  # of the digits in which a level is coded: two tables of 16 weights are faster to make than one of 256
LEAST_WEIGHT = 1e-300  # of a digit, so that the weights of digits that cannot be do not sum to 0
DISCRETE = "likelihood=discretized_logistic, mixture_of_logistics or categorical, or bernoulli for values of 0 and 1"


class Alphabet(NamedTuple):
    """The values that x can have: level / unit, where a level is 0, 1, ..., num - 1.

    Args:
        num: how many there are; None: counts, which have no end.
        unit: the level of x = 1.
    """

    num: int | None
    unit: int


def base_of(p: Distribution) -> Any:
    """The distribution of each value by itself, if they are independent."""
    return p.base_dist if isinstance(p, Independent) else p


def alphabet_of(p_x: Distribution) -> Alphabet:
    """The alphabet of a likelihood.

    Raises:
        ValueError: if it is continuous, or its values are not all of one kind.
    """
    p = base_of(p_x)
    if isinstance(p, distributions.Bernoulli):
        return Alphabet(2, 1)
    if isinstance(p, distributions.GridCategorical | distributions.DiscretizedLogistic | distributions.MixtureOfLogistics):
        return Alphabet(p.grid.num_bins, p.grid.num_bins - 1)
    if isinstance(p, distributions.Poisson | distributions.NegativeBinomial):
        return Alphabet(None, 1)
    raise ValueError(
        f"p(x | z) is a {type(p).__name__}, which gives x no probability but a density, so that there is no code for it: train with"
        f" {DISCRETE}; counts with poisson or negative_binomial"
    )


def code_of_x(p_x: Distribution, num: int, rows: int) -> Code:
    """The code of the levels of the first so many x of a batch.

    Args:
        p_x: p(x | z), batch shape (B,).
        num: how many levels there are, of which only counts have any number.
        rows: how many x are coded.
    """
    p = base_of(p_x)
    if isinstance(p, distributions.Bernoulli):
        logits = rounded(p.logits[:rows])
        small = exp(-np.abs(logits))
        return Table(np.stack([np.where(logits > 0, small, 1.0), np.where(logits > 0, 1.0, small)], -1))
    if isinstance(p, distributions.GridCategorical):
        logits = rounded(p.logits[:rows] - p.logits[:rows].amax(-1, keepdim=True))
        return ByDigits(logits.shape[:-1], num, below_of_weights(exp(logits).reshape(-1, num)))
    if isinstance(p, distributions.DiscretizedLogistic):
        loc, scale = in_levels(p.loc[:rows], num).ravel(), in_levels(p.scale[:rows], num).ravel()
        return ByDigits(p.loc[:rows].shape, num, lambda edges: below_of_logistic(edges, loc[:, None], scale[:, None]))
    if isinstance(p, distributions.MixtureOfLogistics):
        return Channels(p, num, rows)
    if isinstance(p, distributions.Poisson):
        rate = exp(rounded(p.log_rate[:rows]))
        return ByDigits(rate.shape, num, lambda edges: special.pdtr(edges - 1.0, rate.reshape(-1, 1)))
    assert isinstance(p, distributions.NegativeBinomial)
    theta, ratio = exp(rounded(p.total_count[:rows].log())), rounded(p.logits[:rows])
    failure = sigmoid(-ratio).reshape(-1, 1)
    return ByDigits(theta.shape, num, lambda edges: below_of_failures(edges, theta.reshape(-1, 1), failure))


Below = Callable[[Int[np.ndarray, "n e"]], Float[np.ndarray, "n e"]]  # P(level < edge) of each of n symbols, for edges from 0 to num


class ByDigits(Code):
    """Levels by their digits, the highest first: digit k has the probability that the level has it, given the higher ones.

    Args:
        shape: of the levels.
        num: how many there are.
        below: P(level < edge).
    """

    def __init__(self, shape: tuple[int, ...], num: int, below: Below) -> None:
        self.shape, self.num, self.below = tuple(shape), num, below
        self.places = [1]  # of the digits, the highest first
        while self.places[0] * BASE < num:
            self.places.insert(0, self.places[0] * BASE)

    def push(self, stack: Stack, symbols: Int[np.ndarray, "*shape"]) -> None:
        levels = symbols.ravel()
        for place in reversed(self.places):
            higher = levels // (place * BASE)
            self.table(higher, place).push(stack, levels // place - higher * BASE)

    def pop(self, stack: Stack) -> Int[np.ndarray, "*shape"]:
        levels = np.zeros(int(np.prod(self.shape)), np.int64)
        for place in self.places:
            levels = levels * BASE + self.table(levels, place).pop(stack)
        return levels.reshape(self.shape)

    def table(self, higher: Int[np.ndarray, "n"], place: int) -> Table:
        """The weights of the digits at a place, given the number that the higher digits make."""
        size = min(BASE, -(-self.num // place))
        edges = (higher[:, None] * BASE + np.arange(size + 1)) * place
        below = self.below(np.minimum(edges, self.num))
        below = np.where(edges <= 0, 0.0, np.where(edges >= self.num, 1.0, below))
        return Table(np.maximum(np.diff(below, axis=1), 0) + LEAST_WEIGHT)


def below_of_weights(weights: Float[np.ndarray, "n k"]) -> Below:
    """P(level < edge) of levels that have weights."""
    sums = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, 1)], 1)
    sums /= sums[:, -1:]
    return lambda edges: np.take_along_axis(sums, edges, 1)


def in_levels(x: torch.Tensor, num: int) -> Float[np.ndarray, "..."]:
    """A location or a scale in units of x, in levels; a scale is not 0."""
    return rounded(x * (num - 1))


def below_of_logistic(edges: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """sigmoid((edge - 1/2 - mu) / s)."""
    return sigmoid((edges - 0.5 - loc) / np.maximum(scale, 2.0**-12))


def below_of_failures(edges: np.ndarray, theta: np.ndarray, failure: np.ndarray) -> np.ndarray:
    """P(x < edge) of a negative binomial: the regularised incomplete beta function."""
    return np.where(edges > 0, special.betainc(theta, np.maximum(edges, 1.0), failure), 0.0)


class Channels(Code):
    """Levels of a mixture of logistics, channel by channel: the component has the weights that the channels before have left it.

    Args:
        p: the mixture, see `vaelab.distributions.MixtureOfLogistics`.
        num: how many levels there are.
        rows: how many x are coded.
    """

    def __init__(self, p: distributions.MixtureOfLogistics, num: int, rows: int) -> None:
        self.num, self.shape = num, (rows, *p.event_shape)
        self.loc, self.scale = in_levels(p.loc[:rows], num), in_levels(p.scale[:rows], num)  # (rows, M, C, pixels)
        self.logits, self.coefficients = rounded(p.logits[:rows]), rounded(p.coefficients[:rows])

    def push(self, stack: Stack, symbols: Int[np.ndarray, "*shape"]) -> None:
        levels = symbols.reshape(len(symbols), *self.loc.shape[2:])
        codes = []
        logits = self.logits
        for channel in range(levels.shape[1]):
            below = self.below(levels, channel)
            codes.append(self.code(logits, below))
            logits = self.given(logits, below, levels[:, channel])
        for channel in reversed(range(levels.shape[1])):
            codes[channel].push(stack, levels[:, channel])

    def pop(self, stack: Stack) -> Int[np.ndarray, "*shape"]:
        levels = np.zeros((len(self.loc), *self.loc.shape[2:]), np.int64)
        logits = self.logits
        for channel in range(levels.shape[1]):
            below = self.below(levels, channel)
            levels[:, channel] = self.code(logits, below).pop(stack)
            logits = self.given(logits, below, levels[:, channel])
        return levels.reshape(self.shape)

    def below(self, levels: np.ndarray, channel: int) -> Callable[[np.ndarray], np.ndarray]:
        """P(level < edge) of each component, given the channels before, for edges (rows, pixels, e): (rows, M, pixels, e)."""
        loc = self.loc[:, :, channel]
        for before in range(channel):
            loc = loc + self.coefficients[:, :, channel * (channel - 1) // 2 + before] * levels[:, None, before]
        loc, scale = loc[..., None], self.scale[:, :, channel, :, None]
        return lambda edges: below_of_logistic(edges[:, None], loc, scale)

    def code(self, logits: np.ndarray, below: Callable[[np.ndarray], np.ndarray]) -> ByDigits:
        weights = exp(logits - logits.max(1, keepdims=True))
        weights = (weights / weights.sum(1, keepdims=True))[..., None]
        rows, _, pixels = logits.shape
        return ByDigits(
            (rows, pixels), self.num, lambda edges: (weights * below(edges.reshape(rows, pixels, -1))).sum(1).reshape(edges.shape)
        )

    def given(self, logits: np.ndarray, below: Callable[[np.ndarray], np.ndarray], levels: np.ndarray) -> np.ndarray:
        """The logits of the components, given this channel too."""
        edges = np.stack([levels, levels + 1], -1)
        found = below(edges)
        found = np.where((edges <= 0)[:, None], 0.0, np.where((edges >= self.num)[:, None], 1.0, found))
        return logits + np.rint(np.log(np.maximum(found[..., 1] - found[..., 0], 2.0**-50)) * 2**12) / 2**12
