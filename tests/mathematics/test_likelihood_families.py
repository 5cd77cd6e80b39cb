"""Every likelihood but the two of test_likelihoods.py: that it sums or integrates to one, its formula, its mean and its samples."""

import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent
from torch.nn.functional import softplus

from vaelab import distributions, likelihoods
from vaelab.data import Binarize, Dequantize
from vaelab.distributions.counts import log_rising
from vaelab.distributions.logistic import DiscretizedLogistic, MixtureOfLogistics
from vaelab.networks import MLP
from vaelab.training.callbacks.first_batch import check_support

LINEAR = partial(MLP, hidden=())
LEVELS = torch.arange(256)
LEGENDRE = tuple(torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(60))
# (mu, s) of a logistic: ordinary ones, beyond the ends, as sharp as a step, as flat as nothing
EXTREMES = [(0.05, 0.05), (0.5, 0.1), (0.0, 0.3), (-3.0, 0.1), (2.0, 0.01), (100.0, 1.0), (0.5, 1e-4), (0.3, 1e-3), (128 / 255, 1e-7)]
EXTREMES += [(0.3, 4e-3), (0.9, 0.02), (0.3, 1e3), (-1e4, 1e-4), (0.5 / 255, 1e-4), (1.0, 1e-7)]


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def precision(request):
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


# --- integrals and sums


def nodes(low: float, high: float) -> tuple[Tensor, Tensor]:
    """Where to take a function, and with which weights, to integrate it from low to high (Gauss and Legendre)."""
    x, w = LEGENDRE
    return (low + high) / 2 + (high - low) / 2 * x, (high - low) / 2 * w


def half_line(smallest: int = -60, largest: int = 120) -> tuple[Tensor, Tensor]:
    """The same from 0 to infinity, in panels from 2^k to 2^(k+1)."""
    panels = [nodes(2.0**k, 2.0 ** (k + 1)) for k in range(smallest, largest)]
    return torch.cat([x for x, _ in panels]), torch.cat([w for _, w in panels])


def real_line(loc: float, scale: float) -> tuple[Tensor, Tensor]:
    """The same from -infinity to infinity, finest at loc, where a density may have a kink."""
    x, w = half_line()
    return torch.cat([loc - scale * x, loc + scale * x]), scale * torch.cat([w, w])


def ends() -> tuple[Tensor, Tensor]:
    """The same from 0 to 1/2, finest at 0."""
    return half_line(-600, -1)


def chi_square(counts: Tensor, probabilities: Tensor) -> None:
    """The counts are those of independent draws; with one degree of freedom, one in 40,000 of those would fail."""
    expected = counts.sum() * probabilities
    frequent = expected > 5
    assert frequent.any()  # or nothing is tested
    counts = torch.cat([counts[frequent], counts[~frequent].sum()[None]])
    expected = torch.cat([expected[frequent], expected[~frequent].sum()[None]])
    statistic = ((counts - expected).square() / expected.clamp(min=1)).sum()
    freedom = len(counts) - 1
    assert statistic < freedom + 5 * math.sqrt(2 * freedom) + 10


# --- grey levels


def categorical() -> Distribution:
    return distributions.GridCategorical(3 * torch.randn(20, 256))


def logistics(num_bins: int = 256) -> DiscretizedLogistic:
    mu, s = torch.tensor(EXTREMES).unbind(-1)
    mu, s = torch.cat([mu, 0.5 + torch.randn(200)]), torch.cat([s, torch.empty(200).log_normal_(-3, 2)])
    return DiscretizedLogistic(mu, s, num_bins)


def grey_mixture() -> MixtureOfLogistics:
    """One pixel of one channel for each of 200 examples."""
    loc, scale = 0.5 + 0.5 * torch.randn(200, 5, 1, 1), torch.empty(200, 5, 1, 1).log_normal_(-3, 1.5)
    return MixtureOfLogistics(torch.randn(200, 5, 1), loc, scale, torch.zeros(200, 5, 0, 1), (1,))


def probabilities(p: Distribution, num_bins: int = 256) -> Tensor:
    """Of each value, (num_bins, *batch), in double precision."""
    values = torch.arange(num_bins) / torch.tensor(num_bins - 1.0)
    return p.log_prob(values.reshape(-1, *[1] * (len(p.batch_shape) + len(p.event_shape)))).double().exp()


@pytest.mark.parametrize("family", [categorical, logistics, partial(logistics, 2), partial(logistics, 16), grey_mixture])
def test_probabilities_of_the_grey_levels_sum_to_one(family, precision):
    """For any mu and s, in either precision: the ends have the tails, and neighbours share an edge to the last bit."""
    p = family()
    total = probabilities(p, p.grid.num_bins).sum(0)
    assert (total - 1).abs().max() < (1e-6 if precision == torch.float32 else 1e-12)


def test_the_end_levels_have_the_tails(double):
    """At mu = s = 0.05 the levels of finite width alone would have 0.73 of the mass."""
    half = 0.5 / 255
    mass = probabilities(DiscretizedLogistic(torch.tensor(0.05), torch.tensor(0.05)))
    finite = 1 / (1 + math.exp(-(1 + half - 0.05) / 0.05)) - 1 / (1 + math.exp(-(-half - 0.05) / 0.05))
    assert finite == pytest.approx(0.73, abs=0.01)
    first = 1 / (1 + math.exp(-(half - 0.05) / 0.05))
    assert mass[0].item() == pytest.approx(first, rel=1e-12)
    assert mass[255].item() == pytest.approx(1 / (1 + math.exp((1 - half - 0.05) / 0.05)), rel=1e-12)


def test_discretized_logistic_is_a_difference_of_sigmoids(double):
    """Where that difference can be taken in float64."""
    mu, s, half = torch.rand(100), 0.02 + torch.rand(100), 0.5 / 255
    x = (LEVELS[1:255] / 255)[:, None]
    expected = torch.sigmoid((x + half - mu) / s) - torch.sigmoid((x - half - mu) / s)
    torch.testing.assert_close(probabilities(DiscretizedLogistic(mu, s))[1:255], expected, rtol=1e-9, atol=1e-15)


def test_a_level_far_from_a_sharp_logistic_has_a_finite_logarithm():
    """log(sigmoid(b) - sigmoid(a)) -> -|x - mu| / s: both sigmoids are 0 or 1 in any precision."""
    p = DiscretizedLogistic(torch.tensor([0.2, 0.8]), torch.tensor(1e-5))
    distance = torch.tensor(0.3 - 0.5 / 255) / 1e-5
    log_prob = p.log_prob(torch.tensor([128.0, 127.0]) / 255)
    shift = 0.5 / 255 / 1e-5  # 128 and 127 lie half a level beyond 0.5
    torch.testing.assert_close(log_prob, -(distance + shift).expand(2), rtol=1e-4, atol=0)


@pytest.mark.parametrize("num_bins", [2, 5, 256])
def test_mode_of_the_discretized_logistic(num_bins, double):
    """The end with its tail wins over the level nearest to mu where s is large."""
    p = logistics(num_bins)
    best = probabilities(p, num_bins)
    at_mode = best.gather(0, (p.mode * (num_bins - 1)).round().long()[None])[0]
    torch.testing.assert_close(at_mode, best.max(0).values, rtol=1e-12, atol=0)
    torch.testing.assert_close(p.mode * (num_bins - 1), (p.mode * (num_bins - 1)).round(), rtol=0, atol=1e-12)
    assert num_bins < 256 or 0 < (best.argmax(0) != (p.loc.clamp(0, 1) * 255).round()).sum() < len(p.loc)


@pytest.mark.parametrize("family", [categorical, logistics, grey_mixture])
def test_mean_of_the_grey_levels(family, double):
    p = family()
    mass = probabilities(p).reshape(256, -1)
    torch.testing.assert_close(p.mean.flatten(), (mass * (LEVELS / 255)[:, None]).sum(0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", [categorical, logistics, grey_mixture])
def test_samples_of_the_grey_levels(family, double):
    p = family()
    x = p.sample((2000,)).reshape(2000, -1)
    levels = x * 255
    assert p.support.check(p.sample()).all()
    mass = probabilities(p).reshape(256, -1)
    for column in range(20):
        chi_square(torch.bincount(levels[:, column].round().long(), minlength=256).double(), mass[:, column])


def test_categorical_is_a_softmax(double):
    """Each value of x has its own 256 logits; they come first in what the network gives."""
    likelihood, z = likelihoods.Categorical(LINEAR, (2,), (3, 1, 2), num_bins=5), torch.randn(4, 7, 2)
    logits = likelihood.network(z.flatten(0, 1)).reshape(4, 7, 5, 3, 1, 2)
    level = torch.randint(5, (7, 3, 1, 2))
    expected = logits.log_softmax(2).gather(2, level.expand(4, 7, 3, 1, 2).unsqueeze(2)).squeeze(2).sum((2, 3, 4))
    p = likelihood(z)
    torch.testing.assert_close(p.log_prob(level / 4), expected)
    torch.testing.assert_close(p.mode, logits.argmax(2) / 4)
    grid = torch.arange(5)[:, None, None, None] / 4
    torch.testing.assert_close(p.mean, (logits.softmax(2) * grid).sum(2))
    torch.testing.assert_close(p.variance, (logits.softmax(2) * grid**2).sum(2) - p.mean**2)


# --- colour


def colour_mixture(num_pixels: int = 1, num_bins: int = 4) -> MixtureOfLogistics:
    loc, scale = 0.5 + 0.5 * torch.randn(2, 3, num_pixels), torch.empty(2, 3, num_pixels).log_normal_(-2, 1)
    return MixtureOfLogistics(torch.randn(2, num_pixels), loc, scale, torch.randn(2, 3, num_pixels), (3, 1, num_pixels), num_bins)


def images(num_pixels: int, num_bins: int = 4) -> Tensor:
    """Every colour image of this many pixels."""
    values = torch.arange(num_bins) / torch.tensor(num_bins - 1.0)
    return torch.cartesian_prod(*[values] * (3 * num_pixels)).reshape(-1, 3, 1, num_pixels)


@pytest.mark.parametrize("num_pixels", [1, 2])
def test_colours_sum_to_one(num_pixels, precision):
    """Over all 64 triples of levels, and over all 4,096 pairs of triples."""
    total = colour_mixture(num_pixels).log_prob(images(num_pixels)).double().exp().sum()
    assert abs(total - 1) < 1e-6


def logistic(x: Tensor, mu: Tensor, s: Tensor, num_bins: int) -> Tensor:
    """The probability of one level, from the distribution function."""
    half, grid_end = 0.5 / (num_bins - 1), 1 - 0.25 / (num_bins - 1)
    above = torch.where(x > grid_end, 1.0, torch.sigmoid((x + half - mu) / s))
    return above - torch.where(x < 1 - grid_end, 0.0, torch.sigmoid((x - half - mu) / s))


def test_channels_are_conditioned_on_those_before_them(double):
    """sum_m pi_m p(r) p(g | r) p(b | r, g) with the means mu_g + a r and mu_b + b r + c g (Salimans et al., 2017, eq. 3)."""
    p, x = colour_mixture(), images(1)
    pi, mu, s, (a, b, c) = p.logits[:, 0].softmax(0), p.loc[..., 0].T, p.scale[..., 0].T, p.coefficients[..., 0].T
    r, g, blue = x.reshape(-1, 3, 1).unbind(1)
    of_red = logistic(r, mu[0], s[0], 4)
    of_green = logistic(g, mu[1] + a * r, s[1], 4)
    of_blue = logistic(blue, mu[2] + b * r + c * g, s[2], 4)
    torch.testing.assert_close(p.log_prob(x).exp(), (pi * of_red * of_green * of_blue).sum(-1))
    table = p.log_prob(x).exp().reshape(4, 4, 4)  # r, g, b
    torch.testing.assert_close(table.sum((1, 2)), (pi * of_red).sum(-1)[::16])
    torch.testing.assert_close(table.sum(2).flatten(), (pi * of_red * of_green).sum(-1)[::4])
    assert not torch.allclose(table.sum(2), table.sum((1, 2))[:, None] * table.sum((0, 2)), atol=1e-3)


def test_without_coefficients_and_with_one_component_channels_are_independent(double):
    loc, scale = 0.5 + 0.3 * torch.randn(7, 1, 3, 6), torch.empty(7, 1, 3, 6).log_normal_(-2, 1)
    p = MixtureOfLogistics(torch.randn(7, 1, 6), loc, scale, torch.zeros(7, 1, 3, 6), (3, 2, 3))
    independent = Independent(DiscretizedLogistic(loc.reshape(7, 3, 2, 3), scale.reshape(7, 3, 2, 3)), 3)
    x = independent.sample()
    torch.testing.assert_close(p.log_prob(x), independent.log_prob(x))
    torch.testing.assert_close(p.mean, independent.mean)


def test_samples_of_colours(double):
    """Drawn channel by channel, they have the joint probabilities of all 64 triples."""
    p = colour_mixture()
    x = (3 * p.sample((100_000,)).reshape(-1, 3)).round().long()
    counts = torch.bincount(16 * x[:, 0] + 4 * x[:, 1] + x[:, 2], minlength=64).double()
    chi_square(counts, p.log_prob(images(1)).exp())


def test_mean_of_colours(double):
    """Exact for red; for green and blue exact where no mean comes near an end, and else within what the means of the ends allow."""

    def enumerated(p: MixtureOfLogistics) -> Tensor:
        x = images(1, 8)
        return (p.log_prob(x).exp() @ x.flatten(1)).reshape(3, 1, 1)

    red_only = colour_mixture(num_bins=8)
    torch.testing.assert_close(red_only.mean[0], enumerated(red_only)[0])
    loc, scale = torch.tensor([[0.4, 0.45, 0.3], [0.6, 0.35, 0.4]])[..., None], torch.full((2, 3, 1), 0.03)
    coefficients = torch.tensor([[0.2, 0.1, 0.3], [0.1, -0.2, 0.3]])[..., None]
    inside = MixtureOfLogistics(torch.tensor([[0.3], [-0.2]]), loc, scale, coefficients, (3, 1, 1), 8)
    torch.testing.assert_close(inside.mean, enumerated(inside), rtol=0, atol=5e-3)
    pi = torch.tensor([0.3, -0.2]).softmax(0)
    linear = torch.stack([loc[:, 0], loc[:, 1] + coefficients[:, 0] * loc[:, 0]])
    torch.testing.assert_close(inside.mean[:2, 0], (pi[:, None] * linear).sum(1), rtol=0, atol=2e-2)


@pytest.mark.parametrize(("shape", "num_params"), [((3, 2, 2), 34), ((1, 2, 2), 30), ((2, 2, 2), 30), ((5,), 30)])
def test_each_pixel_has_its_own_numbers(shape, num_params, double):
    """An image scores as its pixels do; with 3 channels a mixture of 10 takes 100 numbers, 34 rows of 3."""
    likelihood = likelihoods.MixtureOfLogistics(LINEAR, (2,), shape)
    assert likelihood.num_params == num_params
    params, x = torch.randn(num_params, *shape), torch.rand(shape).mul(255).round() / 255
    whole = likelihood.distribution(*params).log_prob(x)
    assert likelihood.distribution(*params).mean.shape == shape
    parts = []
    for place in product(*[range(n) for n in shape[1:]]) if len(shape) > 1 else [(i,) for i in range(5)]:
        index = (..., *[slice(i, i + 1) for i in place])
        pixel = likelihoods.MixtureOfLogistics(LINEAR, (2,), x[index].shape)
        parts.append(pixel.distribution(*params[index]).log_prob(x[index]))
    torch.testing.assert_close(whole, torch.stack(parts).sum())


def test_numbers_of_a_mixture():
    """Logits, locations, logarithms of scales, coefficients of each component, in this order."""
    likelihood = likelihoods.MixtureOfLogistics(LINEAR, (2,), (3, 1, 1), num_mixtures=2, min_scale=0.01)
    numbers = torch.randn(21)  # 20 are needed
    p = likelihood.distribution(*numbers.reshape(7, 3, 1, 1))
    one = numbers[:20].reshape(2, 10)
    torch.testing.assert_close(p.logits, one[:, :1])
    torch.testing.assert_close(p.loc, one[:, 1:4, None])
    torch.testing.assert_close(p.scale, one[:, 4:7, None].exp() + 0.01)
    torch.testing.assert_close(p.coefficients, one[:, 7:, None].tanh())


# --- densities


def log_normaliser(logits: Tensor) -> Tensor:
    """log int_0^1 exp(l x) dx."""
    panels = [nodes(k / 8, (k + 1) / 8) for k in range(8)]
    x, w = torch.cat([x for x, _ in panels]), torch.cat([w for _, w in panels])
    return torch.logsumexp(logits.double() * x[:, None] + w.log()[:, None], 0)


LOGITS = torch.cat([torch.linspace(-3, 3, 601), torch.linspace(-300, 300, 301), torch.tensor([1e-7, -1e-4, 0.49999, 0.50001, -0.5])])


def test_continuous_bernoulli_integrates_to_one(precision):
    """Its normaliser, mean and variance against quadrature, near lambda = 1/2 and where float32 has lambda = 0 or 1."""
    tight = 1e-6 if precision == torch.float32 else 1e-10
    p = distributions.ContinuousBernoulli(LOGITS.to(precision))
    logits = p.logits.double()
    expected = log_normaliser(logits)
    torch.testing.assert_close(p.log_normaliser.double(), expected, rtol=tight, atol=tight)
    panels = [nodes(k / 8, (k + 1) / 8) for k in range(8)]
    x, w = torch.cat([x for x, _ in panels])[:, None], torch.cat([w for _, w in panels])[:, None]
    density = w * (logits * x - expected).exp()
    torch.testing.assert_close(p.mean.double(), (x * density).sum(0), rtol=0, atol=tight)
    torch.testing.assert_close(p.variance.double(), ((x - p.mean.double()) ** 2 * density).sum(0), rtol=0, atol=tight)


def test_gradient_of_the_continuous_bernoulli(precision):
    """d log p / dl = x - E[x], without a jump where the series ends."""
    logits, x = LOGITS.to(precision).requires_grad_(), torch.rand(len(LOGITS))
    p = distributions.ContinuousBernoulli(logits)
    (gradient,) = torch.autograd.grad(p.log_prob(x).sum(), logits)
    tight = 2e-6 if precision == torch.float32 else 1e-9
    torch.testing.assert_close(gradient, x - p.mean.detach(), rtol=0, atol=tight)


def test_continuous_bernoulli_of_a_half_is_uniform():
    """log C(1/2) = log 2 and log lambda^x (1 - lambda)^(1 - x) = -log 2."""
    p = distributions.ContinuousBernoulli(torch.zeros(3))
    assert torch.equal(p.log_prob(torch.tensor([0.0, 0.3, 1.0])), torch.zeros(3))
    assert torch.equal(p.mean, torch.full((3,), 0.5))


def test_continuous_bernoulli_by_lambda(double):
    """C(lambda) = 2 artanh(1 - 2 lambda) / (1 - 2 lambda) (Loaiza-Ganem & Cunningham, 2019)."""
    lam, x = torch.rand(100), torch.rand(100)
    constant = 2 * torch.atanh(1 - 2 * lam) / (1 - 2 * lam)
    expected = constant.log() + x * lam.log() + (1 - x) * (1 - lam).log()
    torch.testing.assert_close(distributions.ContinuousBernoulli(lam.logit()).log_prob(x), expected)


@pytest.mark.parametrize("logits", [-200.0, -5.0, -1e-9, 0.0, 0.4, 3.0, 200.0])
def test_samples_of_the_continuous_bernoulli(logits, precision):
    p = distributions.ContinuousBernoulli(torch.tensor(logits))
    x = p.sample((20_000,))
    assert p.support.check(x).all()
    edges = p.sample((11,)).double().sort().values.clamp(1e-6, 1 - 1e-6)
    edges = torch.cat([torch.zeros(1), edges, torch.ones(1)]).double()
    double = distributions.ContinuousBernoulli(torch.tensor(logits).double())
    mass = torch.stack([(w * double.log_prob(at).exp()).sum() for at, w in map(nodes, edges[:-1].tolist(), edges[1:].tolist())])
    chi_square(torch.histogram(x.double(), edges).hist, mass)


LOCATION_SCALE = [(0.0, 1.0), (0.3, 0.05), (-7.0, 1e-3), (2.0, 40.0)]


@pytest.mark.parametrize(("loc", "scale"), LOCATION_SCALE)
@pytest.mark.parametrize("df", [None, 1.2, 2.0, 4.0, 100.0])
def test_laplace_and_student_t_integrate_to_one(df, loc, scale, double):
    if df is None:
        likelihood = likelihoods.Laplace(LINEAR, (2,), (1,), scale=scale)
    else:
        likelihood = likelihoods.StudentT(LINEAR, (2,), (1,), scale=scale, df=df)
    p = likelihood.distribution(torch.tensor([loc])).base_dist
    x, w = real_line(loc, scale)
    density = w * p.log_prob(x).exp()
    assert density.sum().item() == pytest.approx(1, abs=1e-9)
    assert (density * (x - loc)).sum().item() == pytest.approx(0, abs=1e-9 * scale)
    assert p.mean.item() == loc
    edges = loc + scale * torch.tensor([-5.0, -2.0, -1.0, -0.4, -0.1, 0.0, 0.1, 0.4, 1.0, 2.0, 5.0])
    mass = torch.stack([(w * p.log_prob(at).exp()).sum() for at, w in map(nodes, edges[:-1].tolist(), edges[1:].tolist())])
    sample = p.sample((20_000,))
    outside = ((sample < edges[0]) | (sample >= edges[-1])).sum()
    counts = torch.histogram(sample.flatten(), edges).hist
    chi_square(torch.cat([counts, outside[None]]), torch.cat([mass, 1 - mass.sum()[None]]))


def test_laplace_is_the_absolute_error(double):
    """-|x - mu| / b - log 2b, with each of the three scales."""
    z, x = torch.randn(4, 5, 2), torch.randn(5, 1, 2, 3)
    for scale in (0.3, "learned", "per_pixel"):
        likelihood = likelihoods.Laplace(LINEAR, (2,), (1, 2, 3), scale=scale, min_scale=0.01)
        mu, *log_b = likelihood.network(z.flatten(0, 1)).reshape(4, 5, -1, 1, 2, 3).unbind(2)
        if scale == "learned":
            likelihood.log_scale.data.fill_(-0.7)
            log_b = [likelihood.log_scale]
        b = log_b[0].exp() + 0.01 if log_b else torch.tensor(scale)
        expected = (-(x - mu).abs() / b - (2 * b).log()).sum((2, 3, 4))
        torch.testing.assert_close(likelihood(z).log_prob(x), expected)


def test_student_t_is_the_formula_in_the_book(double):
    """With df = 1 + softplus of one parameter, which starts at about 4."""
    likelihood, z, x = likelihoods.StudentT(LINEAR, (2,), (3,), scale=0.7), torch.randn(5, 2), torch.randn(5, 3)
    df = 1 + softplus(likelihood.raw_df).item()
    assert df == pytest.approx(4, abs=0.1)
    y = (x - likelihood.network(z)[:, 0]) / 0.7
    constant = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi) - math.log(0.7)
    torch.testing.assert_close(likelihood(z).log_prob(x), (constant - (df + 1) / 2 * torch.log1p(y**2 / df)).sum(-1))
    likelihood(z).log_prob(x).sum().backward()
    assert likelihood.raw_df.grad.abs() > 1e-3


BETAS = [(0.05, 0.7), (0.5, 0.5), (1.0, 1.0), (2.0, 0.3), (3.0, 5.0), (80.0, 40.0)]


@pytest.mark.parametrize(("a", "b"), BETAS)
def test_beta_integrates_to_one(a, b, double):
    """Each half from its own end, where the density may be infinite."""
    p, mirrored = (distributions.Beta(torch.tensor(one), torch.tensor(other)) for one, other in ((a, b), (b, a)))
    x, w = ends()
    low, high = w * p.log_prob(x).exp(), w * mirrored.log_prob(x).exp()
    assert (low.sum() + high.sum()).item() == pytest.approx(1, abs=1e-8)
    assert ((x * low).sum() + ((1 - x) * high).sum()).item() == pytest.approx(p.mean.item(), abs=1e-8)
    inside = torch.linspace(0.05, 0.95, 19)
    expected = (a - 1) * inside.log() + (b - 1) * (1 - inside).log() + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    torch.testing.assert_close(p.log_prob(inside), expected)


@pytest.mark.parametrize(("a", "b"), [*BETAS, (1e-3, 1e-3)])
def test_samples_of_the_beta_lie_inside_and_are_scored(a, b, precision):
    """Also those that rounding puts on an end."""
    p = distributions.Beta(torch.tensor(a), torch.tensor(b))
    x = p.sample((20_000,))
    assert p.support.check(x).all()
    assert p.log_prob(x).isfinite().all()
    variance = a * b / ((a + b) ** 2 * (a + b + 1))
    assert abs(x.double().mean() - a / (a + b)) < 5 * math.sqrt(variance / 20_000)


def test_likelihood_of_the_beta(double):
    """The network gives a and b before a softplus."""
    likelihood, z, x = likelihoods.Beta(LINEAR, (2,), (3,)), torch.randn(5, 2), 0.1 + 0.8 * torch.rand(5, 3)
    a, b = (softplus(likelihood.network(z)) + 1e-3).unbind(1)
    expected = torch.distributions.Beta(a, b).log_prob(x).sum(-1)
    torch.testing.assert_close(likelihood(z).log_prob(x), expected)


# --- counts


def test_poisson_is_the_formula_in_the_book(double):
    """x f - exp f - log x!, also where exp f has underflown to 0."""
    likelihood, z, x = likelihoods.Poisson(LINEAR, (2,), (1, 2)), torch.randn(4, 5, 2), torch.randint(9, (5, 1, 2)).double()
    f = likelihood.network(z.flatten(0, 1)).reshape(4, 5, 1, 2)
    factorial = torch.tensor([math.log(math.factorial(int(k))) for k in x.flatten()]).reshape(5, 1, 2)
    torch.testing.assert_close(likelihood(z).log_prob(x), (x * f - f.exp() - factorial).sum((2, 3)))
    torch.testing.assert_close(likelihood(z).mean, f.exp())
    f = torch.tensor([-800.0], requires_grad=True)
    log_prob = likelihood.distribution(f.reshape(1, 1)).base_dist.log_prob(torch.tensor(2.0))
    assert log_prob.item() == pytest.approx(-1600 - math.log(2))
    assert torch.autograd.grad(log_prob.sum(), f)[0].item() == 2


def test_negative_binomial_with_a_whole_theta(double):
    """binom(x + theta - 1, x) (theta / (theta + mu))^theta (mu / (theta + mu))^x."""
    for theta, mu in product((1, 2, 7, 9, 10, 11, 30), (0.1, 1.0, 25.0)):
        likelihood = likelihoods.NegativeBinomial(LINEAR, (2,), (1,))
        p = likelihood.distribution(torch.tensor([math.log(mu)]), torch.tensor([math.log(theta - 1e-4)]))
        for x in (0, 1, 2, 5, 40):
            expected = math.log(math.comb(x + theta - 1, x)) + theta * math.log(theta / (theta + mu)) + x * math.log(mu / (theta + mu))
            assert p.log_prob(torch.tensor([float(x)])).item() == pytest.approx(expected, rel=1e-9)
        assert p.mean.item() == pytest.approx(mu)
        assert p.variance.item() == pytest.approx(mu + mu**2 / theta)


def counts() -> list[Distribution]:
    rates = torch.tensor([0.01, 0.5, 3.0, 40.0])
    thetas = torch.tensor([0.3, 1.0, 15.0, 1e5])
    binomials = distributions.NegativeBinomial(thetas[:, None].expand(4, 4), logits=rates.log() - thetas.log()[:, None])
    return [distributions.Poisson(rates.log()), binomials]


@pytest.mark.parametrize("which", [0, 1], ids=["poisson", "negative_binomial"])
def test_counts_sum_to_one(which, double):
    """As far as 6,000, where the heaviest tail of these has ended; mean and variance with them."""
    p = counts()[which]
    k = torch.arange(6000.0).reshape(-1, *[1] * len(p.batch_shape))
    mass = p.log_prob(k).exp()
    torch.testing.assert_close(mass.sum(0), torch.ones(p.batch_shape), rtol=0, atol=1e-9)
    torch.testing.assert_close((k * mass).sum(0), p.mean, rtol=1e-8, atol=0)
    torch.testing.assert_close(((k - p.mean) ** 2 * mass).sum(0), p.variance, rtol=1e-6, atol=0)
    draws = p.sample((20_000,)).reshape(20_000, -1).long()
    for column in range(draws.shape[1]):
        of_one = mass.reshape(6000, -1)[:, column]
        chi_square(torch.bincount(draws[:, column], minlength=6000)[:6000].double(), of_one)


def test_log_rising_factorial(double):
    """theta (theta + 1) ... (theta + x - 1), on both sides of where the series begins."""
    for theta in (1e-4, 0.5, 9.999, 10.001, 300.0, 1e7):
        for x in (0, 1, 3, 50):
            expected = sum(math.log(theta + i) for i in range(x))
            assert log_rising(torch.tensor(theta), torch.tensor(float(x))).item() == pytest.approx(expected, rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("theta", [1e4, 1e6, 1e8])
def test_negative_binomial_becomes_a_poisson_in_float32(theta):
    """The difference of two values of log Gamma would be wrong by 0.01, 1 and 100 nats. What differs is of order x^2 / theta."""
    rate, x = torch.tensor([0.1, 2.0, 30.0]), torch.tensor([0.0, 1.0, 5.0, 30.0])[:, None]
    p = distributions.NegativeBinomial(torch.tensor(theta).expand(3), logits=rate.log() - math.log(theta))
    torch.testing.assert_close(p.log_prob(x), distributions.Poisson(rate.log()).log_prob(x), rtol=1e-5, atol=1000 / theta + 1e-4)


# --- whatever the network says


FAMILIES = {
    "beta": (likelihoods.Beta, [1e-7, 0.5, 1 - 1e-7]),
    "categorical": (likelihoods.Categorical, [0.0, 0.2, 1.0]),
    "continuous_bernoulli": (likelihoods.ContinuousBernoulli, [0.0, 0.5, 1.0]),
    "discretized_logistic": (likelihoods.DiscretizedLogistic, [0.0, 0.2, 1.0]),
    "laplace": (likelihoods.Laplace, [0.0, 0.5, 1.0]),
    "mixture_of_logistics": (likelihoods.MixtureOfLogistics, [0.0, 0.2, 1.0]),
    "negative_binomial": (likelihoods.NegativeBinomial, [0.0, 3.0, 500.0]),
    "poisson": (likelihoods.Poisson, [0.0, 3.0, 500.0]),
    "student_t": (likelihoods.StudentT, [0.0, 0.5, 1.0]),
}


@pytest.mark.parametrize("size", [0.0, 1.0, 10.0, 50.0])
@pytest.mark.parametrize(("family", "values"), FAMILIES.values(), ids=FAMILIES)
def test_extreme_outputs_have_finite_scores_and_gradients(family, values, size):
    """In float32, with every combination of signs over enough draws."""
    likelihood = family(LINEAR, (2,), (3, 1, 1))
    params = (size * torch.randint(-1, 2, (likelihood.num_params, 64, 3, 1, 1)).float()).requires_grad_()
    p = likelihood.distribution(*params)
    x = torch.tensor(values)[torch.randint(3, (64, 3, 1, 1))]
    log_prob = p.log_prob(x)
    assert log_prob.isfinite().all()
    (gradient,) = torch.autograd.grad(log_prob.sum(), params)
    assert gradient.isfinite().all()
    assert p.mean.isfinite().all()
    assert p.sample().isfinite().all()


@pytest.mark.parametrize("family", [likelihoods.Laplace, likelihoods.StudentT, likelihoods.DiscretizedLogistic])
@pytest.mark.parametrize("scale", [0, -1.0, "optimal", float("nan")])
def test_impossible_scales_are_refused(family, scale):
    with pytest.raises(ValueError, match=f"scale={scale} must be a positive number, learned or per_pixel"):
        family(LINEAR, (2,), (2,), scale=scale)


@pytest.mark.parametrize("df", [1, 0.5, "per_pixel", float("nan")])
def test_impossible_degrees_of_freedom_are_refused(df):
    with pytest.raises(ValueError, match=f"df={df} must be a number above 1, so that the mean exists, or learned"):
        likelihoods.StudentT(LINEAR, (2,), (2,), df=df)


@pytest.mark.parametrize("family", [likelihoods.Categorical, likelihoods.DiscretizedLogistic, likelihoods.MixtureOfLogistics])
def test_a_single_grey_level_is_refused(family):
    with pytest.raises(ValueError, match="num_bins=1 must be at least 2"):
        family(LINEAR, (2,), (2,), num_bins=1)


def test_a_mixture_of_nothing_is_refused():
    with pytest.raises(ValueError, match="num_mixtures=0 must be at least 1"):
        likelihoods.MixtureOfLogistics(LINEAR, (2,), (2,), num_mixtures=0)


# --- what the data must be


def test_dequantize_spreads_each_level_over_its_own_share():
    """(255 x + u) / 256: level k lies between k / 256 and (k + 1) / 256, to rounding, with mean (k + 1/2) / 256, and never on 0 or 1."""
    x = (LEVELS / 255).expand(5_000, 256)
    out = Dequantize()(x)
    assert out.min() > 0
    assert out.max() < 1
    share = 256 * out.double() - LEVELS
    assert share.min() > -1e-4
    assert share.max() < 1 + 1e-4
    standard_error = 1 / 256 / math.sqrt(12 * 5_000)
    assert ((out.double().mean(0) - (LEVELS + 0.5) / 256).abs() < 5 * standard_error).all()


def test_dequantize_never_gives_an_end():
    """In float32, 255 + u is 256 for one u in 130,000, and u is 0 for one in 16 million."""
    x = torch.ones(3_000_000)
    assert (torch.rand(3_000_000) + 255 == 256).any()
    assert Dequantize()(x).max() < 1
    assert Dequantize()(torch.zeros(1000)).min() > 0


def test_dequantize_draws_from_the_generator_it_is_given():
    x, before = torch.rand(3, 4), torch.get_rng_state()
    one, two = (Dequantize()(x, generator=torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), before)


GREY = torch.tensor([[0.0, 0.2, 1.0]])
KINDS = {
    "binary": (
        likelihoods.Bernoulli,
        GREY,
        r"Bernoulli expects x in \{0, 1\}, but .* \(e\.g\. 0\.2\).*likelihood=gaussian.*vaelab\.data\.Binarize",
    ),
    "unit": (
        likelihoods.ContinuousBernoulli,
        3 * GREY,
        r"in \[0, 1\], but .* \[0, 3\].*\(e\.g\. 3\): set likelihood=gaussian or laplace or student_t; or divide",
    ),
    "open": (likelihoods.Beta, GREY, r"in \(0, 1\), without 0 and 1, but .*likelihood=.*continuous_bernoulli.*vaelab\.data\.Dequantize"),
    "logistic": (
        likelihoods.DiscretizedLogistic,
        0.7 * GREY + 1e-3,
        r"in \{0, 1/255, \.\.\., 1\}, the values of 256 grey levels, but .*likelihood=.* beta; or leave 8-bit",
    ),
    "mixture": (likelihoods.MixtureOfLogistics, 3 * GREY, r"MixtureOfLogistics expects x in \{0, 1/255, \.\.\., 1\}"),
    "categorical": (
        partial(likelihoods.Categorical, num_bins=4),
        GREY,
        r"in \{0, 1/3, \.\.\., 1\}, .*likelihood=.*categorical; or .*likelihood\.num_bins",
    ),
    "poisson": (likelihoods.Poisson, GREY, r"in \{0, 1, 2, \.\.\.\}, but .*\(e\.g\. 0\.2\).*likelihood=gaussian.*8-bit"),
    "negative_binomial": (likelihoods.NegativeBinomial, -GREY.ceil(), r"NegativeBinomial expects x in \{0, 1, 2, \.\.\.\}"),
}


def of(family) -> Distribution:
    return family(LINEAR, (2,), (3,))(torch.zeros(1, 1, 2))


@pytest.mark.parametrize(("family", "x", "message"), KINDS.values(), ids=KINDS)
def test_data_that_a_likelihood_cannot_give_are_refused_in_words(family, x, message):
    with pytest.raises(ValueError, match=message):
        check_support(of(family), x)


@pytest.mark.parametrize(
    ("family", "x"),
    [
        (likelihoods.Bernoulli, Binarize()(GREY)),
        (likelihoods.Beta, Dequantize()(GREY)),
        (likelihoods.DiscretizedLogistic, (torch.arange(256, dtype=torch.uint8).float() / 255)[None, 7:10]),
        (likelihoods.MixtureOfLogistics, GREY),
        (likelihoods.Categorical, GREY),
        (likelihoods.Poisson, torch.tensor([[0.0, 3.0, 1e6]])),
        (likelihoods.Gaussian, 100 * GREY),
    ],
)
def test_what_the_message_advises_is_accepted(family, x):
    check_support(of(family), x)


def test_every_8_bit_value_is_on_the_grid():
    values = torch.arange(256, dtype=torch.uint8).float() / 255
    assert distributions.Grid(256).check(values).all()
    assert not distributions.Grid(256).check(values + 0.1 / 255).any()
    assert not distributions.Grid(256).check(torch.tensor([-1 / 255, 256 / 255])).any()


def test_missing_values_are_not_asked_about():
    """Nor are they the data's fault if the model was told of them."""
    x = torch.tensor([[0.0, 0.2, torch.nan]])
    with pytest.raises(ValueError, match="NaN: if those are missing values, set missing=true"):
        check_support(of(likelihoods.Gaussian), x)
    check_support(of(likelihoods.Beta), torch.tensor([[0.0, 0.2, 0.3]]), torch.tensor([[False, True, True]]))
    with pytest.raises(ValueError, match=r"\(e\.g\. 0\)"):
        check_support(of(likelihoods.Beta), torch.tensor([[0.0, 0.2, 0.3]]), torch.tensor([[True, True, True]]))
