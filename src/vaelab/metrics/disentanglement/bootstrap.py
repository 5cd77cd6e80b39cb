"""The bootstrap: how much a score would vary over other samples of the same size (Efron, 1979)."""

import numpy as np
import torch
from jaxtyping import Float, Int


def resamples(num_examples: int, num_resamples: int) -> Int[np.ndarray, "b n"]:
    """The indices of the examples that each resample has, drawn with replacement."""
    return torch.randint(num_examples, (num_resamples, num_examples)).numpy()


def percentile_interval(score: float, resampled: Float[np.ndarray, "b"], largest: float = 1.0) -> list[float]:
    """The 2.5 % and 97.5 % percentiles of the resampled scores, moved to have the score for their mean, and cut to what it may be.

    Moved, because what is biased by the size of the sample, as information that is estimated by counting, is biased once more in a
    resample: the percentiles themselves may lie beside the score.
    """
    low, high = np.percentile(resampled, [2.5, 97.5]) - resampled.mean() + score
    return [float(max(low, 0.0)), float(min(high, largest))]
