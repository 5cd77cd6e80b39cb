"""p(z)."""

from vaelab.priors.autoregressive import AutoregressiveMixture
from vaelab.priors.categorical import RelaxedCategorical, UniformCategorical
from vaelab.priors.codes import AutoregressiveCodes, UniformCodes
from vaelab.priors.conditional_gaussian import ConditionalGaussian
from vaelab.priors.flow import Flow
from vaelab.priors.mixture import Mixture
from vaelab.priors.standard_laplace import StandardLaplace
from vaelab.priors.standard_normal import StandardNormal
from vaelab.priors.uniform_sphere import UniformSphere
from vaelab.priors.vamp import VampPrior

__all__ = [
    "AutoregressiveCodes",
    "AutoregressiveMixture",
    "ConditionalGaussian",
    "Flow",
    "Mixture",
    "RelaxedCategorical",
    "StandardLaplace",
    "StandardNormal",
    "UniformCategorical",
    "UniformCodes",
    "UniformSphere",
    "VampPrior",
]
