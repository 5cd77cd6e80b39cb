"""q(z | x)."""

from vaelab.posteriors.categorical import Categorical, GumbelSoftmax, StraightThrough
from vaelab.posteriors.flow import Flow
from vaelab.posteriors.full_gaussian import FullCovarianceGaussian
from vaelab.posteriors.gaussian import Gaussian
from vaelab.posteriors.hyperspherical import VonMisesFisher
from vaelab.posteriors.laplace import Laplace
from vaelab.posteriors.vector_quantized import VectorQuantized

__all__ = [
    "Categorical",
    "Flow",
    "FullCovarianceGaussian",
    "Gaussian",
    "GumbelSoftmax",
    "Laplace",
    "StraightThrough",
    "VectorQuantized",
    "VonMisesFisher",
]
