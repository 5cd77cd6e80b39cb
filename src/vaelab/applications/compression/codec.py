"""Bits back (Townsend et al., 2019, https://arxiv.org/abs/1901.04866): examples as a stack of bits whose length is -ELBO.

One example x is coded in three steps. z is popped from the stack with the probabilities q(z | x), which takes -log2 q(z | x) bits from it;
x is pushed with p(x | z), and z with p(z). In the mean the stack grows by

    E_q[-log2 p(x | z) - log2 p(z) + log2 q(z | x)] = -ELBO bits.

Decoding does the contrary: it pops z and x, and pushes z with q(z | x), by which the stack is as it was before. With several latent
variables, each in its turn is popped from the top down (HiLLoC; Townsend et al., 2020, https://arxiv.org/abs/1912.09953). Codes of a
codebook are certain given x, and take nothing back.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, UInt32
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from vaelab.applications.compression.latents import check_posterior, padded, places_of
from vaelab.applications.compression.stack import WORD, Code, Stack, Uniform
from vaelab.applications.compression.values import Alphabet, alphabet_of, base_of, code_of_x
from vaelab.distributions import centre
from vaelab.models import HierarchicalVAE, Model
from vaelab.models.vae import VAE

Watch = Callable[[list[slice]], Iterable[slice]]
SEED = 18  # of the bits that the first z are popped from
MOST_TRIED, MOST_PATIENT = 8, 1000  # examples that are coded one by one at first, and later
MOST_MEASURED, NARROW = 64, 0.05  # examples that the widths of bins are chosen by, and the share of their q(z | x) that may be narrower
EXPONENTS = 4, 10  # of widths


@dataclass(frozen=True, kw_only=True)
class Coded:
    """Examples as bits, and what it takes to decode them.

    Args:
        num: how many examples there are.
        shape: of one.
        num_levels: how many values a number of x may have.
        widths: of the bins of each latent variable, as exponents e of 2^-e.
        batch: how many examples the networks are shown at a time.
        depth: how many bits the z of an example are popped from, in the mean.
        patience: how many examples add as many bits as one pops, see `plan`.
        num_random: how many random words lay on the stack before the first example.
        num_kept: how many of them are still at its bottom, and are left out of `words`.
        words: the rest of the stack.
    """

    num: int
    shape: tuple[int, ...]
    num_levels: int
    widths: tuple[int, ...]
    batch: int
    depth: int
    patience: int
    num_random: int
    num_kept: int
    words: UInt32[np.ndarray, "n"]

    @property
    def initial_bits(self) -> int:
        """The number of random bits that were popped before examples had pushed as many, which decoding gives back."""
        return WORD * (self.num_random - self.num_kept)

    @property
    def net_bits(self) -> int:
        """The number of bits of the examples alone, up to a word."""
        return WORD * len(self.words) - self.initial_bits


class Fixed(nn.Module):
    """A prior that is always the same distribution: a VampPrior would encode its pseudo-inputs for each batch."""

    def __init__(self, p: Distribution) -> None:
        super().__init__()
        self.p = p

    def forward(self, y: Tensor | None = None) -> Distribution:
        return self.p


class Codec:
    """Turns examples into bits, and bits into examples, by a trained model.

    Networks run in double precision on the CPU, and are always shown the same number of examples: in single precision, other sizes of a
    batch or other numbers of threads decode nothing.

    Args:
        model: of which a copy is kept.
        batch: how many examples its networks are shown at a time.

    Raises:
        ValueError: if there is no code for the model, its likelihood, posterior or prior.
    """

    def __init__(self, model: Model, batch: int = 16) -> None:
        if not isinstance(model, VAE | HierarchicalVAE):
            raise ValueError(f"there is no code for a {type(model).__name__}: train with model=vae, hvae, ladder_vae or top_down_vae")
        if model.num_classes:
            raise ValueError("there is no code for a model that is conditional on y: train with num_classes=0")
        if model.missing:
            raise ValueError("there is no code for data with missing values: train with missing=false")
        self.model, self.batch = copy.deepcopy(model).cpu().double().eval(), batch
        with torch.no_grad():
            self.model.prior = Fixed(self.model.prior(None))
            p_x = self.model.likelihood(self.model.descend(lambda p, q: p.sample() if p.batch_shape else p.sample((1,))))
            self.alphabet: Alphabet = alphabet_of(p_x)
            self.shape = tuple(p_x.event_shape)
            self.dims = [q.event_shape.numel() for q, _ in self.pairs(np.zeros((1, *self.shape), np.int64))]

    @torch.no_grad()
    def encode(self, levels: Integer[np.ndarray, "n ..."], widths: Sequence[int] | None = None, watch: Watch = iter) -> Coded:
        """The examples as bits.

        Args:
            levels: x times `alphabet.unit`, whole numbers.
            widths: exponents e of the widths 2^-e of the bins of each latent variable, in standard deviations of a Gaussian prior, else
                in units of z; None: narrow enough for these examples.
            watch: is given the batches, and gives them one by one.

        Raises:
            ValueError: if the examples have another shape, or values that the likelihood does not have.
        """
        if levels.shape[1:] != self.shape:
            raise ValueError(f"examples of shape {levels.shape[1:]} are not of the shape {self.shape} that the model has")
        num_levels = self.alphabet.num or int(levels.max(initial=1)) + 1
        if levels.min(initial=0) < 0 or levels.max(initial=0) >= num_levels:
            raise ValueError(f"levels from {levels.min(initial=0)} to {levels.max()} are not all below {num_levels}")
        chosen = self.chosen_widths(levels) if widths is None else tuple(widths)
        depth, patience = self.tried(levels[:MOST_TRIED], num_levels, chosen)
        random = random_words(self.batch * sum(self.dims) + 8)  # a symbol pops at most 24 bits
        stack = Stack(random, sealed=True)
        for part in watch(plan(len(levels), self.batch, patience)):
            shift(stack, part, depth, 1)
            self.push(stack, levels[part].astype(np.int64), num_levels, chosen)
        words = stack.words()
        kept = int(np.argmin(np.append(words[: len(random)] == random[: len(words)], False)))
        return Coded(
            num=len(levels),
            shape=self.shape,
            num_levels=num_levels,
            widths=chosen,
            batch=self.batch,
            depth=depth,
            patience=patience,
            num_random=len(random),
            num_kept=kept,
            words=words[kept:],
        )

    @torch.no_grad()
    def decode(self, coded: Coded, watch: Watch = iter) -> Int[np.ndarray, "n ..."]:
        """The examples of bits; `watch` as for `encode`.

        Raises:
            ValueError: if these are not the bits of so many examples, or were made where numbers are computed otherwise.
        """
        if coded.batch != self.batch:
            raise ValueError(f"the examples were coded with batch={coded.batch}, and this codec has batch={self.batch}: choose the former")
        random = random_words(coded.num_random)
        stack = Stack(np.concatenate([random[: coded.num_kept], coded.words]), sealed=False)
        levels = np.zeros((coded.num, *coded.shape), np.int32)
        for part in watch(plan(coded.num, coded.batch, coded.patience)[::-1]):
            levels[part] = self.pop(stack, part.stop - part.start, coded.num_levels, coded.widths)
            shift(stack, part, coded.depth, -1)
        if not np.array_equal(stack.words(sealed=True), random):
            raise ValueError("the bits decode to something else than what was coded")
        return levels

    def push(self, stack: Stack, levels: Int[np.ndarray, "b ..."], num_levels: int, widths: Sequence[int]) -> int:
        """Code a batch; return how many bits its z were popped from."""
        before = stack.num_bits
        given = list[tuple[Code, np.ndarray]]()
        width = iter(widths)

        def infer(p: Distribution, q: Distribution | None) -> Tensor:
            assert q is not None
            z = places_of(p, 2.0 ** -next(width), self.batch)
            places = z.posterior(q, len(levels)).pop(stack)
            given.append((z.prior(len(levels)), places))
            return z.value(padded(places, self.batch))

        p_x = self.model.likelihood(self.model.descend(infer, self.x_of(levels)))
        popped = before - stack.num_bits
        if stack.num_bits < WORD:  # it would go on with zeros, which are not given back
            raise ValueError("there are too few random bits for z of this model to be popped from: report this model")
        code_of_x(p_x, num_levels, len(levels)).push(stack, levels)
        for code, places in reversed(given):
            code.push(stack, places)
        return popped

    def pop(self, stack: Stack, num: int, num_levels: int, widths: Sequence[int]) -> Int[np.ndarray, "b ..."]:
        """Decode a batch."""
        found, posteriors = list[np.ndarray](), list[Code]()
        width = iter(widths)

        def generate(p: Distribution, q: Distribution | None) -> Tensor:
            z = places_of(p, 2.0 ** -next(width), self.batch)
            found.append(z.prior(num).pop(stack))
            return z.value(padded(found[-1], self.batch))

        p_x = self.model.likelihood(self.model.descend(generate))
        levels = code_of_x(p_x, num_levels, num).pop(stack)
        width = iter(widths)

        def infer(p: Distribution, q: Distribution | None) -> Tensor:
            assert q is not None
            z = places_of(p, 2.0 ** -next(width), self.batch)
            posteriors.append(z.posterior(q, num))
            return z.value(padded(found[len(posteriors) - 1], self.batch))

        self.model.descend(infer, self.x_of(levels))
        for code, places in zip(reversed(posteriors), reversed(found), strict=True):
            code.push(stack, places)
        return levels

    def x_of(self, levels: Integer[np.ndarray, "b ..."]) -> Float[Tensor, "batch ..."]:
        """Levels as the model sees them, in a batch of the usual size."""
        return torch.from_numpy(padded(levels, self.batch)).double() / self.alphabet.unit

    def pairs(self, levels: Integer[np.ndarray, "b ..."]) -> list[tuple[Distribution, Distribution]]:
        """q(z | x) and p(z) of each latent variable of some examples, where those above it are at the centre of theirs."""
        found = list[tuple[Distribution, Distribution]]()

        def infer(p: Distribution, q: Distribution | None) -> Tensor:
            assert q is not None
            check_posterior(q)
            places_of(p, 1.0, self.batch)
            found.append((q, p))
            return centre(q)

        self.model.descend(infer, self.x_of(levels))
        return found

    def chosen_widths(self, levels: Integer[np.ndarray, "n ..."]) -> tuple[int, ...]:
        """Exponents e of the widths 2^-e: at most 1/16, and so that no more than one in twenty q(z | x) is narrower than a bin."""
        some = levels[:: max(len(levels) // MOST_MEASURED, 1)][:MOST_MEASURED]
        stds: list[list[np.ndarray]] = [[] for _ in self.dims]
        for start in range(0, len(some), self.batch):
            rows = some[start : start + self.batch]
            for (q, p), found in zip(self.pairs(rows), stds, strict=True):
                if isinstance(base_of(q), Normal):
                    found.append((base_of(q).scale / places_of(p, 1.0, self.batch).unit)[: len(rows)].numpy().ravel())
        narrow = (np.quantile(np.concatenate(found), NARROW) if found else 1.0 for found in stds)
        return tuple(int(np.clip(np.ceil(-np.log2(std)), *EXPONENTS)) for std in narrow)

    def tried(self, levels: Integer[np.ndarray, "n ..."], num_levels: int, widths: Sequence[int]) -> tuple[int, int]:
        """`depth` and `patience` of `Coded`, of some examples that are coded one by one."""
        stack, num = Stack(random_words(max(len(levels), 1) * sum(self.dims) + 8), sealed=True), max(len(levels), 1)
        before = stack.num_bits
        popped = sum(self.push(stack, levels[row : row + 1].astype(np.int64), num_levels, widths) for row in range(len(levels)))
        patience = np.clip(popped / max(stack.num_bits - before, 1), 1, MOST_PATIENT)
        return int(np.ceil(popped / num)), int(np.ceil(patience))


def random_words(num: int) -> UInt32[np.ndarray, "n"]:
    """The same random words everywhere."""
    return (np.random.PCG64(SEED).random_raw(num) >> np.uint64(32)).astype(np.uint32)


def shift(stack: Stack, part: slice, depth: int, sign: int) -> None:
    """Add random numbers, modulo 2^16, to the top of the stack, or with sign = -1 subtract them; with them, what lies there is uniform.

    Without them it is as random as x and z are typical of the model. Where they are not, z that are popped from it are no samples of
    q(z | x), and x takes more bits than the bound says. The random words at the bottom need none.

    Args:
        stack: of bits.
        part: the batch that comes next.
        depth: how many bits the z of one example are popped from.
        sign: 1 or -1.
    """
    if part.start:
        num = -(-depth * (part.stop - part.start) // 16)
        numbers = np.random.PCG64([SEED, part.start]).random_raw(num) >> np.uint64(48)
        code = Uniform((num,), 2**16)
        code.push(stack, (code.pop(stack) + sign * numbers.astype(np.int64)) % 2**16)


def plan(num: int, batch: int, patience: int) -> list[slice]:
    """Batches of 1, ..., 1, 2, ... examples, up to `batch`: of as many as pop no more bits than those before have added.

    Only what the z of the first examples are popped from are random bits then.

    Args:
        num: how many examples there are.
        batch: the size of the largest batch.
        patience: how many examples add as many bits as one pops.
    """
    found, start = list[slice](), 0
    while start < num:
        size = min(max(start // patience, 1), batch, num - start)
        found.append(slice(start, start + size))
        start += size
    return found
