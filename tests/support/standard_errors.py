"""What a mean over independent repetitions may differ from its expectation by."""

import math

from torch import Tensor


def errors_off(samples: Tensor, expected: Tensor | float) -> Tensor:
    """By how many of its standard errors the mean over the first dimension differs from what is expected, entry by entry."""
    samples = samples.detach()
    error = samples.std(0) / math.sqrt(len(samples))
    assert bool((error > 0).all()), "what does not vary can be compared exactly"
    return ((samples.mean(0) - expected) / error).abs()


def assert_mean(samples: Tensor, expected: Tensor | float) -> None:
    """Every entry's mean is within 5 standard errors."""
    assert bool((errors_off(samples, expected) < 5).all())
