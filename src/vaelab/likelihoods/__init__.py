"""p(x | z)."""

from vaelab.likelihoods.bernoulli import Bernoulli
from vaelab.likelihoods.gaussian import Gaussian

__all__ = ["Bernoulli", "Gaussian"]
