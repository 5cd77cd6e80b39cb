"""The importance-weighted estimate of log p(x) (Burda et al., 2016, https://arxiv.org/abs/1509.00519; Rezende et al., 2014, appendix E).

log p^(x) = log (1/S) sum_s w_s, with w_s = p(x, z_s) / q(z_s | x) and z_s ~ q(z | x). In the mean it is a lower bound that rises to
log p(x) with S: it is too low by Var(w) / (2 S p(x)^2), and has the standard error sd(w) / (sqrt(S) p(x)), up to higher orders of 1 / S.
The effective sample size ESS = (sum w)^2 / sum w^2 estimates both: Var(w) / p(x)^2 = S / ESS - 1, hence a bias of (1/S - 1/ESS) / 2.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from vaelab.checks import check_at_least, given
from vaelab.networks.pointwise import fastest_products

MAX_BIAS = 0.05  # nats: published log-likelihoods of images have two decimals


@dataclass(frozen=True)
class Evidence:
    """Estimates of log p(x) from S importance samples of each example: shapes (B,)."""

    log_likelihood: Float[Tensor, "b"]  # log (1/S) sum_s w_s, in nats
    effective_sample_size: Float[Tensor, "b"]  # (sum w)^2 / sum w^2: S if all weights are equal, 1 if one has all

    def std_error(self, num_samples: int) -> Float[Tensor, "b"]:
        """The standard error of each log-likelihood in nats, from S = num_samples: sqrt((S / ESS - 1) / (S - 1)), NaN if S = 1."""
        return ((num_samples / self.effective_sample_size - 1).clamp(min=0) / (num_samples - 1)).sqrt()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode: batch-norm and a running sigma do not adapt to the data that they score."""
    training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(training)


def importance_weighted(
    model: nn.Module,
    x: Float[Tensor, "b ..."],
    y: Shaped[Tensor, "b ..."] | None = None,
    num_samples: int = 1000,
    chunk_size: int | None = None,
) -> Evidence:
    """log p^(x) in nats from exactly S = num_samples samples for each example, and its effective sample size, (B,).

    The model scores in evaluation mode, and is left in the mode that it was in. Samples are drawn a chunk at a time and added up with
    a running log-sum-exp, so that memory does not grow with S.

    Args:
        model: module (x, y, num_samples) -> `Draw`, whose log-weights are taken.
        x, y: examples.
        num_samples: S.
        chunk_size: how many samples of every x are in memory at a time; None: as many as `decodings_at_once` allows, of some of the x if
            not of all. Then an x is encoded only once for a thousand of its samples, and memory does not grow with B either.

    Raises:
        ValueError: if num_samples or chunk_size is below 1.

    Warns:
        if so few samples are effective that the mean of log p^(x) is more than 0.05 nats too low. The mean over x of 1 / ESS is at least
        1 / (mean ESS), so that (1 / (mean ESS) - 1 / S) / 2 underestimates how much; for a large S the limit is a mean ESS of 10.
    """
    check_at_least(1, num_samples=num_samples, **given(chunk_size=chunk_size))
    at_once = decodings_at_once(x)
    samples = min(num_samples, at_once) if chunk_size is None else chunk_size
    images = max(1, at_once // samples if chunk_size is None else len(x))
    parts = ((part, None) for part in x.split(images)) if y is None else zip(x.split(images), y.split(images), strict=True)
    keep_freed_chunks()
    with evaluating(model), torch.no_grad(), fastest_products():  # no inference mode: some densities are made of derivatives
        sums = [log_sums_of_weights(model, part, labels, num_samples, samples) for part, labels in parts]
    log_sum, log_sum_of_squares = (torch.cat(found) for found in zip(*sums, strict=True))
    evidence = Evidence(log_sum - math.log(num_samples), (2 * log_sum - log_sum_of_squares).exp())
    warn_of_bias(evidence, num_samples)
    return evidence


def log_sums_of_weights(
    model: nn.Module, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None, num_samples: int, chunk_size: int
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
    """log sum_s w_s and log sum_s w_s^2 of S samples, in double precision."""
    log_sum = log_sum_of_squares = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
    for start in range(0, num_samples, chunk_size):
        log_w = model(x, y, num_samples=min(chunk_size, num_samples - start)).log_w.double()
        log_sum = log_sum.logaddexp(log_w.logsumexp(0))
        log_sum_of_squares = log_sum_of_squares.logaddexp((2 * log_w).logsumexp(0))
    return log_sum, log_sum_of_squares


def decodings_at_once(x: Float[Tensor, "b ..."]) -> int:
    """The number of x in memory at a time: 8 MiB of them on a CPU, elsewhere 128 MiB; what networks need comes on top.

    An x of less than 1024 numbers counts as 1024, because hidden layers are no smaller for it.
    """
    numbers = 2**21 if x.device.type == "cpu" else 2**25
    return max(1, numbers // max(math.prod(x.shape[1:]), 1024))


def keep_freed_chunks() -> None:
    """Has glibc keep up to 62 MiB of what is freed, instead of asking the system for it again, page by page, with every chunk.

    It learns what to keep from the largest block that it has seen freed (mallopt(3), M_MMAP_THRESHOLD). This one is never touched, and so
    takes no memory; without it, an evaluation may spend half of its time in the system.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def warn_of_bias(evidence: Evidence, num_samples: int) -> None:
    """Says so if log p^(x) is far too low; the words do not depend on x, so that Python shows them once."""
    mean = evidence.effective_sample_size.mean().item()
    if (1 / mean - 1 / num_samples) / 2 > MAX_BIAS:
        warnings.warn(
            f"with num_samples={num_samples} importance samples, log p(x) is on average more than {MAX_BIAS} nats too low, because few of"
            " them are effective: raise num_samples",
            stacklevel=3,
        )


def bits_per_dim(log_likelihood: float, num_dims: int, num_levels: int = 1) -> float:
    """-log P(x) in bits for each of D dimensions: -log p(x) / (D log 2) + log2 n.

    With n = 1, p(x | z) is a probability. A density has bits if it is of x = (k + u) / n, where u ~ U(0, 1) has dequantised the levels
    k = 0, ..., n - 1 (Uria et al., 2013, https://arxiv.org/abs/1306.0186): they have probability P(k) = int p((k + u) / n) du n^-D, hence
    log P(k) >= E_u log p(x) - D log n, and these bits are at least those of P (Theis et al., 2016, https://arxiv.org/abs/1511.01844).

    Args:
        log_likelihood: log p(x) in nats, or its mean over examples.
        num_dims: D.
        num_levels: n; 256 of 8-bit pixels.
    """
    return -log_likelihood / (num_dims * math.log(2)) + math.log2(num_levels)
