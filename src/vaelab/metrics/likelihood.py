"""The importance-weighted estimate of log p(x) (Burda et al., 2016, https://arxiv.org/abs/1509.00519; Rezende et al., 2014, appendix E).

log p^(x) = log (1/S) sum_s w_s, with w_s = p(x, z_s) / q(z_s | x) and z_s ~ q(z | x). In the mean it is a lower bound that rises to
log p(x) with S.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vaelab.draw import Draw


@runtime_checkable
class Model(Protocol):
    """A module that turns x into a `Draw`."""

    training: bool

    def train(self, mode: bool = True) -> Any: ...

    def __call__(self, x: Tensor, y: Tensor | None = None, num_samples: int = 1) -> Draw: ...


@dataclass(frozen=True)
class Evidence:
    """What S importance samples say of each example: shapes (B,)."""

    log_likelihood: Float[Tensor, "b"]  # log (1/S) sum_s w_s, in nats
    effective_sample_size: Float[Tensor, "b"]  # (sum w)^2 / sum w^2: S if all weights are equal, 1 if one has all


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Inside, the model is in evaluation mode: batch-norm and a running sigma do not adapt to the data that they score."""
    training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(training)


@torch.no_grad()
def importance_weighted(
    model: Model, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None, num_samples: int = 1000, chunk_size: int = 50
) -> Evidence:
    """log p^(x) from exactly S = num_samples samples for each example.

    The model scores in evaluation mode, and is left in the mode that it was in. Samples are drawn chunk_size at a time and added up
    with a running log-sum-exp, so memory does not grow with S.

    Raises:
        ValueError: if num_samples or chunk_size is below 1.
    """
    if num_samples < 1 or chunk_size < 1:
        raise ValueError(f"num_samples={num_samples} and chunk_size={chunk_size} must be at least 1")
    log_sum: Any = None
    log_sum_of_squares: Any = None
    with evaluating(model):
        for start in range(0, num_samples, chunk_size):
            log_w = model(x, y, num_samples=min(chunk_size, num_samples - start)).log_w.double()
            first, second = log_w.logsumexp(0), (2 * log_w).logsumexp(0)
            log_sum = first if log_sum is None else torch.logaddexp(log_sum, first)
            log_sum_of_squares = second if log_sum_of_squares is None else torch.logaddexp(log_sum_of_squares, second)
    return Evidence(log_sum - math.log(num_samples), (2 * log_sum - log_sum_of_squares).exp())


def bits_per_dim(log_likelihood: float, num_dims: int) -> float:
    """-log p(x) in bits for each of D dimensions: -log p(x) / (D log 2). Meaningful where p(x | z) is discrete."""
    return -log_likelihood / (num_dims * math.log(2))
