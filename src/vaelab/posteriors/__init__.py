"""q(z | x)."""

from vaelab.posteriors.categorical import Categorical, GumbelSoftmax, StraightThrough
from vaelab.posteriors.flow import Flow
from vaelab.posteriors.gaussian import Gaussian
from vaelab.posteriors.laplace import Laplace
from vaelab.posteriors.vector_quantized import VectorQuantized

__all__ = ["Categorical", "Flow", "Gaussian", "GumbelSoftmax", "Laplace", "StraightThrough", "VectorQuantized"]
