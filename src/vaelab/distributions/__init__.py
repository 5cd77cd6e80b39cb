"""Distributions and supports that torch.distributions lacks."""

from vaelab.distributions.autoregressive import Autoregressive
from vaelab.distributions.autoregressive_gaussians import AutoregressiveGaussians
from vaelab.distributions.bernoulli import Bernoulli
from vaelab.distributions.beta import Beta
from vaelab.distributions.bits import entropy_of_codes
from vaelab.distributions.categorical import ExpConcrete, OneHot, StraightThrough
from vaelab.distributions.code import Digits, Embedded, Quantized, UniformIndices
from vaelab.distributions.codebooks import Codebook, Lattice, Sums, Table, TwoMaps, VectorCodebook, halved, nearest_codes
from vaelab.distributions.columns import Codes, PositiveLogNormal, ZeroOrLogNormal, ordinal_logits
from vaelab.distributions.continuous_bernoulli import ContinuousBernoulli
from vaelab.distributions.counts import NegativeBinomial, Poisson
from vaelab.distributions.estimators import ESTIMATORS
from vaelab.distributions.flow import FlowDistribution
from vaelab.distributions.gaussian_mixture import GaussianMixture
from vaelab.distributions.grid_categorical import GridCategorical
from vaelab.distributions.logistic import DiscretizedLogistic, MixtureOfLogistics
from vaelab.distributions.mixed import Mixed, MixedSupport
from vaelab.distributions.ops import (
    centre,
    code_of,
    constant,
    detach,
    is_discrete,
    is_euclidean,
    log_mean_exp,
    rsample,
    rsample_and_log_prob,
    soft_limit,
    space_of,
)
from vaelab.distributions.optimal_normal import OptimalSigmaNormal, running_sigma
from vaelab.distributions.standard_normal import StandardNormal
from vaelab.distributions.supports import Grid, open_unit_interval
from vaelab.distributions.von_mises_fisher import HypersphericalUniform, VonMisesFisher

__all__ = [
    "ESTIMATORS",
    "Autoregressive",
    "AutoregressiveGaussians",
    "Bernoulli",
    "Beta",
    "Codebook",
    "Codes",
    "ContinuousBernoulli",
    "Digits",
    "DiscretizedLogistic",
    "Embedded",
    "ExpConcrete",
    "FlowDistribution",
    "GaussianMixture",
    "Grid",
    "GridCategorical",
    "HypersphericalUniform",
    "Lattice",
    "Mixed",
    "MixedSupport",
    "MixtureOfLogistics",
    "NegativeBinomial",
    "OneHot",
    "OptimalSigmaNormal",
    "Poisson",
    "PositiveLogNormal",
    "Quantized",
    "StandardNormal",
    "StraightThrough",
    "Sums",
    "Table",
    "TwoMaps",
    "UniformIndices",
    "VectorCodebook",
    "VonMisesFisher",
    "ZeroOrLogNormal",
    "centre",
    "code_of",
    "constant",
    "detach",
    "entropy_of_codes",
    "halved",
    "is_discrete",
    "is_euclidean",
    "log_mean_exp",
    "nearest_codes",
    "open_unit_interval",
    "ordinal_logits",
    "rsample",
    "rsample_and_log_prob",
    "running_sigma",
    "soft_limit",
    "space_of",
]
