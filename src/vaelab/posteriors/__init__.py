"""q(z | x)."""

from vaelab.posteriors.binary_spherical import BinarySpherical
from vaelab.posteriors.categorical import Categorical, GumbelSoftmax, StraightThrough
from vaelab.posteriors.flow import Flow
from vaelab.posteriors.fsq import FSQ
from vaelab.posteriors.full_gaussian import FullCovarianceGaussian
from vaelab.posteriors.gaussian import Gaussian
from vaelab.posteriors.hierarchical import Hierarchical
from vaelab.posteriors.hyperspherical import VonMisesFisher
from vaelab.posteriors.laplace import Laplace
from vaelab.posteriors.lookup_free import LookupFree
from vaelab.posteriors.residual import Residual
from vaelab.posteriors.simvq import SimVQ
from vaelab.posteriors.vector_quantized import VectorQuantized

__all__ = [
    "FSQ",
    "BinarySpherical",
    "Categorical",
    "Flow",
    "FullCovarianceGaussian",
    "Gaussian",
    "GumbelSoftmax",
    "Hierarchical",
    "Laplace",
    "LookupFree",
    "Residual",
    "SimVQ",
    "StraightThrough",
    "VectorQuantized",
    "VonMisesFisher",
]
