"""Codes of z: q(z | x) and p(z) as probabilities of places, each of which stands for a z that a decoder is shown."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution, MixtureSameFamily, Normal

from vaelab.applications.compression.exact import LEAST, exp, rounded
from vaelab.applications.compression.stack import Code, Gaussians, Stack, Table, Uniform, Windows
from vaelab.applications.compression.values import base_of
from vaelab.distributions import Autoregressive, Digits, Embedded, Quantized, UniformIndices
from vaelab.distributions.codebooks import digits_of, number_of

LIMIT = 16.0  # standard deviations of a Gaussian p(z), within which are the means of q(z | x)
REACH = 8.0  # those of the components of a mixture
LEAST_STD = 2.0**-6  # of a Gaussian, in bins
MOST = 2.0**30  # bins between 0 and the mean of a posterior


class Places(ABC):
    """The places of one latent variable of a batch under p(z), and the z that each stands for."""

    unit: Tensor  # the width of a bin, in units of z

    @abstractmethod
    def value(self, places: Int[np.ndarray, "b ..."]) -> Float[Tensor, "b ..."]:
        """The z at these places."""

    @abstractmethod
    def prior(self, rows: int) -> Code:
        """The code of the places of the first so many examples under p(z)."""

    @abstractmethod
    def posterior(self, q: Distribution, rows: int) -> Code:
        """Their code under q(z | x)."""


class OfGaussian(Places):
    """z = mu + sigma w k at place k, under p(z) = N(mu, diag sigma^2): bins of width w, in standard deviations of p(z).

    Args:
        p: p(z), batch shape (B,).
        width: w.
    """

    def __init__(self, p: Distribution, width: float) -> None:
        self.loc, self.unit, self.width = base_of(p).loc, base_of(p).scale * width, width
        self.limit = round(LIMIT / width)

    def value(self, places: Int[np.ndarray, "b ..."]) -> Float[Tensor, "b ..."]:
        return self.loc + self.unit * torch.from_numpy(places)

    def prior(self, rows: int) -> Code:
        shape = (rows, *self.loc.shape[1:])
        return Gaussians(np.zeros(shape), np.full(shape, 1 / self.width), 2 * self.limit)

    def posterior(self, q: Distribution, rows: int) -> Code:
        mean, std = (base_of(q).loc - self.loc) / self.unit, base_of(q).scale / self.unit
        return Windows(*in_bins(mean[:rows], std[:rows]), self.limit)


class OfMixture(Places):
    """z = w k at place k, under p(z) = sum_c pi_c N(z; mu_c, diag sigma_c^2): bins of width w, in units of z."""

    def __init__(self, p: MixtureSameFamily, width: float) -> None:
        components = base_of(p.component_distribution)
        self.width, self.unit = width, torch.tensor(width)
        self.log_weights = rounded(p.mixture_distribution.logits)
        self.mean, self.std = in_bins(components.loc / width, components.scale / width)
        self.limit = ceil(float((np.abs(self.mean) + REACH * self.std).max()))

    def value(self, places: Int[np.ndarray, "b ..."]) -> Float[Tensor, "b ..."]:
        return self.width * torch.from_numpy(places).double()

    def prior(self, rows: int) -> Code:
        return MixtureCode(self.log_weights, self.mean, self.std, 2 * self.limit, rows)

    def posterior(self, q: Distribution, rows: int) -> Code:
        return Windows(*in_bins(base_of(q).loc[:rows] / self.width, base_of(q).scale[:rows] / self.width), self.limit)


class MixtureCode(Code):
    """A mixture of diagonal Gaussians, by bits back: the component is coded as well, and p(component | place) gives back what it costs.

    -log p(z, c) + log p(c | z) = -log p(z) bits for any c, where a table of p(z) would have no end of entries.

    Args:
        log_weights: of the components, (C,).
        mean, std: of them, in bins, (C, *shape).
        reach: 2 reach + 1 is how many bins there are.
        rows: how many examples are coded.
    """

    def __init__(self, log_weights: np.ndarray, mean: np.ndarray, std: np.ndarray, reach: int, rows: int) -> None:
        self.log_weights, self.mean, self.std, self.reach = log_weights, mean, std, reach
        self.weights = Table(np.tile(exp(log_weights - log_weights.max()), (rows, 1)))

    def push(self, stack: Stack, symbols: Int[np.ndarray, "b ..."]) -> None:
        component = self.given(symbols).pop(stack)
        self.of(component).push(stack, symbols)
        self.weights.push(stack, component)

    def pop(self, stack: Stack) -> Int[np.ndarray, "b ..."]:
        component = self.weights.pop(stack)
        symbols = self.of(component).pop(stack)
        self.given(symbols).push(stack, component)
        return symbols

    def of(self, component: Int[np.ndarray, "b"]) -> Gaussians:
        """The Gaussians of a component for each example."""
        return Gaussians(self.mean[component], self.std[component], self.reach)

    def given(self, symbols: Int[np.ndarray, "b ..."]) -> Table:
        """The components given the places."""
        found = np.tile(self.log_weights, (len(symbols), 1))
        for row, each in enumerate(symbols):
            squares = np.square((each - self.mean) / self.std) / 2 + np.log(self.std)
            found[row] -= squares.reshape(len(squares), -1).sum(1)
        relative = torch.from_numpy(found - found.max(1, keepdims=True)).clamp(min=LEAST)
        return Table(exp(rounded(relative)))


class OfCodes(Places):
    """z of the codes at some places of a codebook, under p(z) = p(k) of their indices k.

    Args:
        p: p(z), without a batch shape.
        batch: how many examples the networks of p are shown at a time.
    """

    def __init__(self, p: Embedded, batch: int) -> None:
        self.p, self.batch = p, batch

    def value(self, places: Int[np.ndarray, "b ..."]) -> Float[Tensor, "b ..."]:
        return self.p.codebook.embed(torch.from_numpy(places), self.p.space_ndim)

    def prior(self, rows: int) -> Code:
        indices = self.p.indices
        if isinstance(indices, UniformIndices):
            return UniformCode(indices, rows)
        if isinstance(indices, Digits):
            assert isinstance(indices.digits, Autoregressive)
            return DigitsCode(AutoregressiveCode(indices.digits, rows, self.batch), indices.radices)
        assert isinstance(indices, Autoregressive)
        return AutoregressiveCode(indices, rows, self.batch)

    def posterior(self, q: Distribution, rows: int) -> Code:
        assert isinstance(q, Quantized)
        return Certain(q.indices[:rows].numpy())


class Certain(Code):
    """Symbols that are known, and take no bits."""

    def __init__(self, symbols: Int[np.ndarray, "..."]) -> None:
        self.symbols = symbols

    def push(self, stack: Stack, symbols: Int[np.ndarray, "..."]) -> None:
        pass

    def pop(self, stack: Stack) -> Int[np.ndarray, "..."]:
        return self.symbols


class UniformCode(Code):
    """Grids of indices that are all alike, in row-major order, some of fewer codes than others."""

    def __init__(self, p: UniformIndices, rows: int) -> None:
        self.shape, self.codes = (rows, *p.event_shape), [Uniform((rows, num), limit) for num, limit in p.counts]

    def push(self, stack: Stack, symbols: Int[np.ndarray, "b ..."]) -> None:
        flat, ends = symbols.reshape(len(symbols), -1), np.cumsum([code.shape[1] for code in self.codes])
        for code, part in reversed(list(zip(self.codes, np.split(flat, ends[:-1], 1), strict=True))):
            code.push(stack, part)

    def pop(self, stack: Stack) -> Int[np.ndarray, "b ..."]:
        return np.concatenate([code.pop(stack) for code in self.codes], 1).reshape(self.shape)


class DigitsCode(Code):
    """Grids of indices that are written with several digits, which have a code."""

    def __init__(self, digits: Code, radices: Sequence[int]) -> None:
        self.digits, self.radices = digits, radices

    def push(self, stack: Stack, symbols: Int[np.ndarray, "b ..."]) -> None:
        self.digits.push(stack, digits_of(torch.from_numpy(symbols), self.radices).numpy())

    def pop(self, stack: Stack) -> Int[np.ndarray, "b ..."]:
        return number_of(torch.from_numpy(self.digits.pop(stack)), self.radices).numpy()


class AutoregressiveCode(Code):
    """Grids of indices, place by place."""

    def __init__(self, p: Autoregressive, rows: int, batch: int) -> None:
        self.p, self.rows, self.batch = p, rows, batch

    def push(self, stack: Stack, symbols: Int[np.ndarray, "b ..."]) -> None:
        flat = symbols.reshape(self.rows, -1)
        Table(self.weights(flat)).push(stack, flat.T)

    def pop(self, stack: Stack) -> Int[np.ndarray, "b ..."]:
        flat = np.zeros((self.rows, self.p.event_shape.numel()), np.int64)
        for place in range(flat.shape[1]):
            flat[:, place] = Table(self.weights(flat)[place]).pop(stack)
        return flat.reshape(self.rows, *self.p.event_shape)

    def weights(self, flat: Int[np.ndarray, "b n"]) -> Float[np.ndarray, "n b k"]:
        """Weights of all indices at each place, given those at the places before."""
        grid = torch.from_numpy(padded(flat, self.batch)).reshape(self.batch, *self.p.event_shape)
        logits = self.p.logits(grid)[: self.rows].flatten(2)
        return exp(rounded((logits - logits.amax(1, keepdim=True)).clamp(min=LEAST))).transpose(2, 0, 1)


def places_of(p: Distribution, width: float, batch: int) -> Places:
    """The places of z under its prior.

    Args:
        p: p(z), without a batch shape if it is the same for all, else of batch shape (B,).
        width: of bins, see `OfGaussian` and `OfMixture`.
        batch: B.

    Raises:
        ValueError: if there is no code for this prior.
    """
    base = base_of(p)
    if isinstance(p, Embedded):
        return OfCodes(p, batch)
    if isinstance(base, Normal):
        return OfGaussian(p if p.batch_shape else p.expand((batch,)), width)
    if isinstance(p, MixtureSameFamily) and isinstance(base_of(p.component_distribution), Normal):
        return OfMixture(p, width)
    raise ValueError(
        f"there is no code for the prior, a {type(base).__name__}: train with prior=standard_normal, mixture or vamp; codes of a codebook"
        " with uniform_codes, autoregressive_codes or transformer_codes"
    )


def check_posterior(q: Distribution) -> None:
    """Check that there is a code for a posterior.

    Raises:
        ValueError: if there is none.
    """
    if not isinstance(q, Quantized) and not isinstance(base_of(q), Normal):
        raise ValueError(
            f"there is no code for the posterior, a {type(base_of(q)).__name__}: train with posterior=gaussian, whose values can be popped"
            " one by one, or with codes, such as posterior=vector_quantized"
        )


def in_bins(mean: Tensor, std: Tensor) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Means and standard deviations in bins, rounded."""
    return rounded(mean.clamp(-MOST, MOST)), np.maximum(rounded(std.clamp(max=MOST)), LEAST_STD)


def padded(values: np.ndarray, batch: int) -> np.ndarray:
    """The values, and zeros up to so many: what a network computes for one example may depend on how many there are."""
    return np.concatenate([values, np.zeros((batch - len(values), *values.shape[1:]), values.dtype)])
