"""p(x | z)."""

from vaelab.likelihoods.bernoulli import Bernoulli
from vaelab.likelihoods.beta import Beta
from vaelab.likelihoods.categorical import Categorical
from vaelab.likelihoods.continuous_bernoulli import ContinuousBernoulli
from vaelab.likelihoods.gaussian import Gaussian
from vaelab.likelihoods.laplace import Laplace
from vaelab.likelihoods.logistic import DiscretizedLogistic, MixtureOfLogistics
from vaelab.likelihoods.mixed import Mixed
from vaelab.likelihoods.negative_binomial import NegativeBinomial
from vaelab.likelihoods.poisson import Poisson
from vaelab.likelihoods.student_t import StudentT

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "Gaussian",
    "Laplace",
    "Mixed",
    "MixtureOfLogistics",
    "NegativeBinomial",
    "Poisson",
    "StudentT",
]
