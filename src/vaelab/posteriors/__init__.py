"""q(z | x)."""

from vaelab.posteriors.gaussian import Gaussian

__all__ = ["Gaussian"]
