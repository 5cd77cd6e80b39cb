"""A stack of bits, on which symbols are pushed with a probability: a symbol of probability p adds log2 1/p bits.

Asymmetric numeral systems (Duda, 2009, https://arxiv.org/abs/0902.0271), by the library constriction (Bamler, 2022,
https://arxiv.org/abs/2201.01741). A probability is a multiple of 2^-24, and never 0.
"""

from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt32

ADVICE = "constriction is not installed: pip install 'vaelab[compression]'"
WORD = 32  # bits


def library() -> Any:
    """The module of constriction with models and coders.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        return import_module("constriction").stream
    except ImportError as error:
        raise ValueError(ADVICE) from error


class Stack:
    """A stack of bits.

    Args:
        words: that lie on it.
        sealed: whether they are any words, such as random ones; else they are those that `words` of another stack has given.
    """

    def __init__(self, words: UInt32[np.ndarray, "n"], sealed: bool) -> None:
        self.models = library().model
        self.coder = library().stack.AnsCoder(words, seal=sealed)

    @property
    def num_bits(self) -> int:
        """The number of bits that lie on the stack."""
        return int(self.coder.num_valid_bits())

    def words(self, sealed: bool = False) -> UInt32[np.ndarray, "n"]:
        """The words that lie on the stack; those that it began with, if nothing else is on it and it was sealed.

        Raises:
            ValueError: if it is sealed no more.
        """
        try:
            return self.coder.get_compressed(unseal=sealed)
        except AssertionError as error:
            raise ValueError("there is more on the stack than the words that it began with, or less") from error

    def push(self, symbols: Int[np.ndarray, "n"], family: Any, *parameters: np.ndarray) -> None:
        """Put symbols on the stack, the last one first."""
        self.coder.encode_reverse(symbols.astype(np.int32), family, *parameters)

    def pop(self, family: Any, *parameters: np.ndarray | int) -> Int[np.ndarray, "n"]:
        """Take symbols from the stack, the first one first; of random bits they are samples of the family."""
        return self.coder.decode(family, *parameters).astype(np.int64)


class Code(ABC):
    """Probabilities of several symbols, by which they are pushed and popped."""

    @abstractmethod
    def push(self, stack: Stack, symbols: Int[np.ndarray, "..."]) -> None:
        """Put symbols on the stack."""

    @abstractmethod
    def pop(self, stack: Stack) -> Int[np.ndarray, "..."]:
        """Take symbols from the stack: those that were pushed last, or samples if what lies there is random."""


class Table(Code):
    """Each symbol has weights of its own.

    Args:
        weights: of each value of each symbol, (*shape, K), which need not sum to 1.
    """

    def __init__(self, weights: Float[np.ndarray, "*shape k"]) -> None:
        self.shape, self.weights = weights.shape[:-1], np.ascontiguousarray(weights.reshape(-1, weights.shape[-1]))

    def push(self, stack: Stack, symbols: Int[np.ndarray, "*shape"]) -> None:
        stack.push(symbols.ravel(), stack.models.Categorical(perfect=False), self.weights)

    def pop(self, stack: Stack) -> Int[np.ndarray, "*shape"]:
        return stack.pop(stack.models.Categorical(perfect=False), self.weights).reshape(self.shape)


class Gaussians(Code):
    """Each symbol is the place of a Gaussian variable, in bins around whole numbers from -reach to reach, whose outer ones have the tails.

    Args:
        mean, std: in bins.
        reach: 2 reach + 1 is how many bins there are.
    """

    def __init__(self, mean: Float[np.ndarray, "*shape"], std: Float[np.ndarray, "*shape"], reach: int) -> None:
        self.shape, self.reach = mean.shape, reach
        self.parameters = (np.ascontiguousarray(mean.ravel()), np.ascontiguousarray(std.ravel()))

    def push(self, stack: Stack, symbols: Int[np.ndarray, "*shape"]) -> None:
        stack.push(symbols.ravel(), stack.models.QuantizedGaussian(-self.reach, self.reach), *self.parameters)

    def pop(self, stack: Stack) -> Int[np.ndarray, "*shape"]:
        return stack.pop(stack.models.QuantizedGaussian(-self.reach, self.reach), *self.parameters).reshape(self.shape)


class Windows(Code):
    """The same, in bins around whole numbers of a window about each mean, of 8 to 16 standard deviations on each side.

    A bin has at least 2^-24. Over all bins of a prior these were enough for a z, once in some thousand examples, that is nowhere near x,
    and costs hundreds of bits.

    Args:
        mean, std: in bins.
        limit: means are held between -limit and limit, and windows are no wider: symbols are at most 2 limit.
    """

    def __init__(self, mean: Float[np.ndarray, "*shape"], std: Float[np.ndarray, "*shape"], limit: int) -> None:
        self.shape, flat = mean.shape, np.clip(mean.ravel(), -limit, limit)
        self.centre = np.rint(flat).astype(np.int64)
        self.parameters = (flat - self.centre, np.ascontiguousarray(std.ravel()))
        sizes = np.clip(np.ldexp(8.0, np.frexp(std.ravel())[1]), 8, limit).astype(np.int64)
        self.groups = [(int(size), np.flatnonzero(sizes == size)) for size in np.unique(sizes)]

    def push(self, stack: Stack, symbols: Int[np.ndarray, "*shape"]) -> None:
        flat = symbols.ravel() - self.centre
        for size, group in reversed(self.groups):
            inside = np.clip(flat[group], -size, size)  # as all are, unless what was decoded is wrong, which is found out at the end
            stack.push(inside, stack.models.QuantizedGaussian(-size, size), *(each[group] for each in self.parameters))

    def pop(self, stack: Stack) -> Int[np.ndarray, "*shape"]:
        found = self.centre.copy()
        for size, group in self.groups:
            found[group] += stack.pop(stack.models.QuantizedGaussian(-size, size), *(each[group] for each in self.parameters))
        return found.reshape(self.shape)


class Uniform(Code):
    """Each symbol is one of so many that are all alike.

    More than 2^23 are coded by their digits in base 2^16; the first of these has at most 1 % more values than needed.

    Args:
        shape: of the symbols.
        num: how many values each can have.
    """

    def __init__(self, shape: tuple[int, ...], num: int) -> None:
        self.shape, self.sizes = shape, list[int]()  # of the digits, the last one first
        while num > 2**23:
            self.sizes.append(2**16)
            num = -(-num // 2**16)
        self.sizes.append(num)

    def push(self, stack: Stack, symbols: Int[np.ndarray, "*shape"]) -> None:
        rest = symbols.ravel()
        for size in self.sizes:
            stack.push(rest % size, stack.models.Uniform(size))
            rest = rest // size

    def pop(self, stack: Stack) -> Int[np.ndarray, "*shape"]:
        num, found = int(np.prod(self.shape)), np.zeros(int(np.prod(self.shape)), np.int64)
        for size in reversed(self.sizes):
            found = found * size + stack.pop(stack.models.Uniform(size), num)
        return found.reshape(self.shape)
