"""Two scores from images that share the value of one factor: which factor was it?

FactorVAE score: Kim & Mnih (2018, https://arxiv.org/abs/1802.05983). beta-VAE score: Higgins et al. (2017,
https://openreview.net/forum?id=Sy2fzU9gl). Both as Locatello et al. (2019, https://arxiv.org/abs/1811.12359) compute them. The images
are drawn for the purpose, so a function is asked for that gives codes (N, D) of images with factors (N, F): an encoder after a renderer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vaelab.metrics.disentanglement.samples import array, code_array

Encode = Callable[[Int[Tensor, "n f"]], Float[Tensor, "n d"] | Float[np.ndarray, "n d"]]

BATCHES_AT_ONCE = 250


@dataclass(frozen=True)
class Guesses:
    """The test points whose factors were guessed right, and the number of codes that the guesses used."""

    correct: Bool[np.ndarray, "n"]
    num_codes: int

    @property
    def accuracy(self) -> float:
        """The share that was."""
        return float(self.correct.mean())


def draw_factors(sizes: Sequence[int], *shape: int) -> Int[Tensor, "*shape f"]:
    """Factor indices, all combinations equally likely."""
    return torch.stack([torch.randint(size, shape) for size in sizes], dim=-1)


def factor_vae_score(
    encode: Encode, sizes: Sequence[int], num_train: int = 10_000, num_test: int = 5_000, num_variance: int = 10_000, batch_size: int = 64
) -> Guesses:
    """The accuracy of telling which factor a batch shares from the code that varies least in it.

    A vote is the code with the smallest variance in the batch, relative to its variance over num_variance images. Codes whose deviation
    over these is below 0.05 have no vote. The classifier names for each code the factor that most of its training votes came from. 0 if
    no code may vote.

    Args:
        encode: factor indices (N, F) to the codes (N, D) of their images.
        sizes: how many values each factor has.
        num_train, num_test: votes to learn the classifier from, and to test it on.
        num_variance: images to estimate the variances of the codes from.
        batch_size: images that share a factor for one vote.
    """
    variances = code_array(encode(draw_factors(sizes, num_variance))).var(0, ddof=1)
    active = np.flatnonzero(np.sqrt(variances) >= 0.05)
    if not len(active):
        return Guesses(np.zeros(num_test, dtype=bool), 0)

    def votes(num_votes: int) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        shared, codes = [], []
        for size in sizes_at_once(num_votes):
            factor, batches = batches_that_share(encode, sizes, size, batch_size)
            shared.append(factor)
            codes.append(least_varying(batches[:, :, active], variances[active]))
        return np.concatenate(shared), np.concatenate(codes)

    factor, code = votes(num_train)
    table = np.zeros((len(sizes), len(active)), dtype=np.int64)
    np.add.at(table, (factor, code), 1)
    test_factor, test_code = votes(num_test)
    return Guesses(table.argmax(0)[test_code] == test_factor, len(active))


def batches_that_share(
    encode: Encode, sizes: Sequence[int], num_batches: int, batch_size: int
) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n b d"]]:
    """A random factor for each batch, and codes of images that are all alike in it."""
    shared, factors = torch.randint(len(sizes), (num_batches,)), draw_factors(sizes, num_batches, batch_size)
    row = torch.arange(num_batches)
    factors[row, :, shared] = factors[row, :1, shared]
    codes = code_array(encode(factors.flatten(0, 1)))
    return array(shared), codes.reshape(num_batches, batch_size, -1)


def least_varying(batches: Float[np.ndarray, "n b d"], variances: Float[np.ndarray, "d"]) -> Int[np.ndarray, "n"]:
    """The code of each batch with the smallest variance relative to `variances`."""
    return (batches.var(1, ddof=1) / variances).argmin(1)


def beta_vae_score(encode: Encode, sizes: Sequence[int], num_train: int = 10_000, num_test: int = 5_000, batch_size: int = 64) -> Guesses:
    """The accuracy of telling which factor pairs of images share, by logistic regression on how far apart their codes are.

    A point is the mean of |z - z'| over a batch of pairs that agree in one factor, which may have another value in another pair. The
    regression is scikit-learn's by default: multinomial since its version 0.22, one factor against the others in that of the study.

    Args:
        encode: factor indices (N, F) to the codes (N, D) of their images.
        sizes: how many values each factor has.
        num_train, num_test: points to learn the regression from, and to test it on.
        batch_size: pairs that make a point.
    """
    from sklearn.linear_model import LogisticRegression  # not at the top: training imports this room, and need not wait for it

    def points(num_points: int) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n d"]]:
        shared, features = [], []
        for size in sizes_at_once(num_points):
            factor, distances = pairs_that_share(encode, sizes, size, batch_size)
            shared.append(factor)
            features.append(distances)
        return np.concatenate(shared), np.concatenate(features)

    factor, features = points(num_train)
    regression = LogisticRegression().fit(features, factor)
    test_factor, test_features = points(num_test)
    return Guesses(regression.predict(test_features) == test_factor, features.shape[1])


def pairs_that_share(
    encode: Encode, sizes: Sequence[int], num_batches: int, batch_size: int
) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n d"]]:
    """A random factor for each batch of pairs, and the mean of |z - z'| over pairs that agree in it."""
    shared, factors = torch.randint(len(sizes), (num_batches,)), draw_factors(sizes, 2, num_batches, batch_size)
    row = torch.arange(num_batches)
    factors[1, row, :, shared] = factors[0, row, :, shared]
    first, second = code_array(encode(factors.flatten(0, 2))).reshape(2, num_batches, batch_size, -1)
    return array(shared), np.abs(first - second).mean(1)


def sizes_at_once(total: int) -> list[int]:
    """The numbers of batches to draw at a time, which bound the memory."""
    return [min(BATCHES_AT_ONCE, total - start) for start in range(0, total, BATCHES_AT_ONCE)]
