"""p(x | z): that it is a probability, that its formula is the one in the book, and what the best sigma is."""

import math
from dataclasses import replace
from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal
from torch.nn.functional import binary_cross_entropy_with_logits

from vaelab.draw import Draw
from vaelab.likelihoods import Bernoulli, Gaussian
from vaelab.models import VAE, SemiSupervisedVAE
from vaelab.networks import MLP
from vaelab.objectives import CIWAE, ELBO, IWAE, M2, MIWAE, PIWAE, STL, DReG, Renyi, Sum
from vaelab.posteriors import Categorical
from vaelab.posteriors import Gaussian as GaussianPosterior
from vaelab.priors import Mixture, StandardNormal

pytestmark = pytest.mark.usefixtures("double")

LINEAR = partial(MLP, hidden=())


def formula(x: Tensor, mu: Tensor, sigma: Tensor | float, event_ndim: int) -> Tensor:
    """-1/2 sum_i ((x_i - mu_i)^2 / sigma_i^2 + log 2 pi sigma_i^2)."""
    variance = torch.as_tensor(sigma) ** 2
    each = -0.5 * ((x - mu).square() / variance + (2 * math.pi * variance).log())
    return each.flatten(-event_ndim).sum(-1)


@pytest.mark.parametrize("event_shape", [(4,), (1, 2, 3)])
def test_bernoulli_sums_to_one(event_shape):
    """Over every binary image of the event."""
    size = math.prod(event_shape)
    images = torch.tensor(list(product((0.0, 1.0), repeat=size))).reshape(2**size, 1, *event_shape)
    p = Bernoulli(LINEAR, (2,), event_shape)(3 * torch.randn(5, 2))
    torch.testing.assert_close(p.log_prob(images).exp().sum(0), torch.ones(5))


def test_bernoulli_is_the_binary_cross_entropy():
    """log p(x | z) = -BCE(f(z), x), summed over the event, for each of K samples of B examples."""
    likelihood, z, x = Bernoulli(LINEAR, (2,), (1, 2, 3)), 3 * torch.randn(4, 5, 2), torch.randint(2, (5, 1, 2, 3)).double()
    logits = likelihood.network(z.flatten(0, 1)).reshape(4, 5, 1, 2, 3)
    expected = -binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum((2, 3, 4))
    torch.testing.assert_close(likelihood(z).log_prob(x), expected)
    torch.testing.assert_close(likelihood(z).mean, logits.sigmoid())


def test_bernoulli_of_sure_logits_is_finite():
    """log sigmoid(-1000) = -1000 where sigmoid has long been 0."""
    likelihood = Bernoulli(LINEAR, (1,), (2,))
    with torch.no_grad():
        likelihood.network.layers[1].weight.fill_(1000.0)
        likelihood.network.layers[1].bias.zero_()
    assert likelihood(torch.ones(1, 1)).log_prob(torch.tensor([[1.0, 0.0]])).item() == -1000


@pytest.mark.parametrize("sigma", [0.3, 1, "learned", "per_pixel", "optimal"])
def test_gaussian_integrates_to_one(sigma):
    """By the rectangle rule on 8 sigma, in steps of sigma / 2: exact to rounding for a Gaussian. The optimal sigma is as in evaluation."""
    likelihood = Gaussian(LINEAR, (2,), (2,), sigma=sigma)
    z = torch.randn(3, 2)
    if sigma == "optimal":
        likelihood(z).log_prob(0.4 * torch.randn(3, 2))
    p = likelihood.eval()(z)
    reach, step = (p.mean.abs() + 8 * p.stddev).max().item(), p.stddev.min().item() / 2
    line = torch.arange(-reach, reach, step)
    grid = torch.cartesian_prod(line, line)[:, None]
    torch.testing.assert_close(p.log_prob(grid).exp().sum(0) * step**2, torch.ones(3), rtol=0, atol=1e-10)


@pytest.mark.parametrize("sigma", [0.3, 1, 2.5])
def test_gaussian_with_a_fixed_sigma(sigma):
    """Squared error in disguise: ||x - mu||^2 / (2 sigma^2) + D log sigma + D/2 log 2 pi."""
    likelihood, z, x = Gaussian(LINEAR, (2,), (1, 2, 3), sigma=sigma), torch.randn(4, 5, 2), torch.randn(5, 1, 2, 3)
    mu = likelihood.network(z.flatten(0, 1)).reshape(4, 5, 1, 2, 3)
    torch.testing.assert_close(likelihood(z).log_prob(x), formula(x, mu, sigma, 3))
    assert not {"log_sigma", "variance"} & set(likelihood.state_dict())


def test_gaussian_with_a_learned_sigma():
    """One sigma for all pixels, exp(log_sigma) + min_sigma; its gradient vanishes where sigma^2 is the mean squared error."""
    likelihood = Gaussian(LINEAR, (2,), (1, 2, 3), sigma="learned", min_sigma=0.01)
    z, x = torch.randn(4, 5, 2), torch.randn(5, 1, 2, 3)
    mu = likelihood.network(z.flatten(0, 1)).reshape(4, 5, 1, 2, 3).detach()
    for log_sigma in (0.0, -1.5, 0.7):
        likelihood.log_sigma.data.fill_(log_sigma)
        torch.testing.assert_close(likelihood(z).log_prob(x), formula(x, mu, math.exp(log_sigma) + 0.01, 3))
    best = (x - mu).square().mean().sqrt()
    likelihood.log_sigma.data.copy_((best - 0.01).log())
    likelihood(z).log_prob(x).sum().backward()
    assert abs(likelihood.log_sigma.grad.item()) < 1e-10


def test_gaussian_with_a_sigma_for_each_pixel():
    """The network gives mu and log sigma, in this order; sigma = exp(log sigma) + min_sigma."""
    likelihood = Gaussian(LINEAR, (2,), (1, 2, 3), sigma="per_pixel", min_sigma=0.01)
    z, x = torch.randn(4, 5, 2), torch.randn(5, 1, 2, 3)
    mu, log_sigma = likelihood.network(z.flatten(0, 1)).reshape(4, 5, 2, 1, 2, 3).unbind(2)
    torch.testing.assert_close(likelihood(z).log_prob(x), formula(x, mu, log_sigma.exp() + 0.01, 3))


@pytest.mark.parametrize("sigma", [0, -1.0, "fixed", float("nan")])
def test_gaussian_refuses_other_sigmas(sigma):
    """The message says what sigma may be and what it was."""
    with pytest.raises(ValueError, match=f"sigma={sigma} must be a positive number, learned, per_pixel or optimal"):
        Gaussian(LINEAR, (2,), (2,), sigma=sigma)


def optimal() -> tuple[Gaussian, Tensor, Tensor, Tensor]:
    """A likelihood in training mode, K = 4 samples of z for B = 5 examples of D = 6 pixels, and mu."""
    likelihood, z, x = Gaussian(LINEAR, (2,), (1, 2, 3), sigma="optimal"), torch.randn(4, 5, 2), torch.randn(5, 1, 2, 3)
    return likelihood, z, x, likelihood.network(z.flatten(0, 1)).reshape(4, 5, 1, 2, 3)


def test_optimal_sigma_is_the_mean_squared_error():
    """sigma^2 = mean (x - mu)^2 over samples, batch and event (Rybkin et al., 2021), so log p is -D/2 (log 2 pi sigma^2 + 1) on average."""
    likelihood, z, x, mu = optimal()
    variance = (x - mu).square().mean()
    log_px = likelihood(z).log_prob(x)
    torch.testing.assert_close(log_px, formula(x, mu, variance.sqrt(), 3))
    torch.testing.assert_close(log_px.mean(), -3 * ((2 * math.pi * variance).log() + 1))


def test_optimal_sigma_maximises_the_likelihood():
    """No other sigma scores the same data higher, and the derivative by sigma is zero there."""
    likelihood, z, x, mu = optimal()
    best = likelihood(z).log_prob(x).sum()
    sigma = (x - mu).square().mean().sqrt().detach().requires_grad_()
    at_best = formula(x, mu, sigma, 3).sum()
    torch.testing.assert_close(best, at_best)
    assert abs(torch.autograd.grad(at_best, sigma)[0].item()) < 1e-9
    for factor in (0.5, 0.99, 1.01, 2.0):
        assert formula(x, mu, factor * sigma, 3).sum() < best


def test_optimal_sigma_is_a_constant_to_the_gradient():
    """By mu, each log p has the gradient of a Gaussian fixed at that sigma, (x - mu) / sigma^2; their sum has that of -KBD/2 log MSE."""
    likelihood, z, x, mu = optimal()
    parameters = list(likelihood.network.parameters())
    given = likelihood(z).log_prob(x)
    variance = (x - mu).square().mean()
    fixed = formula(x, mu, variance.detach().sqrt(), 3)
    for weights in (torch.ones(4, 5), torch.randn(4, 5)):
        of_given = torch.autograd.grad((weights * given).sum(), parameters, retain_graph=True)
        of_fixed = torch.autograd.grad((weights * fixed).sum(), parameters, retain_graph=True)
        torch.testing.assert_close(of_given, of_fixed)
    of_given = torch.autograd.grad(given.sum(), parameters)
    torch.testing.assert_close(of_given, torch.autograd.grad(-0.5 * mu.numel() * variance.log(), parameters))
    assert not likelihood.variance.requires_grad


IMPORTANCE_WEIGHTED = {
    "iwae": IWAE(4),
    "miwae": MIWAE(2, 2),
    "piwae": PIWAE(2, 2),
    "ciwae": CIWAE(0.3, 4),
    "stl": STL(4),
    "dreg": DReG(4),
    "renyi": Renyi(0.5, 4),
    "elbo": ELBO(num_samples=4, kl="k1"),
    "sum": Sum(iwae=IWAE(4)),
}


def at_sigma(draw: Draw, sigma: Tensor) -> Draw:
    """The same draw, whose likelihood has this sigma."""
    return replace(draw, p_x=Independent(Normal(draw.p_x.mean.detach(), sigma), 1))


@pytest.mark.parametrize("objective", IMPORTANCE_WEIGHTED.values(), ids=IMPORTANCE_WEIGHTED.keys())
def test_optimal_sigma_weighs_as_the_bound_does(objective):
    """Its derivative by sigma is zero at the chosen one; the mean over all samples is another. The gradient for the prior is kept."""
    likelihood = Gaussian(LINEAR, (2,), (6,), sigma="optimal")
    model = VAE(GaussianPosterior(LINEAR, (6,), (2,)), likelihood, Mixture((2,), 3))
    x = torch.randn(5, 6)
    draw = objective.draw(model, x)
    loss = objective(draw, 0)["loss"]
    sigma = likelihood.variance.sqrt().clone().requires_grad_()
    at_best = objective(at_sigma(draw, sigma), 0)["loss"]
    torch.testing.assert_close(loss, at_best)
    (slope,) = torch.autograd.grad(at_best, sigma, retain_graph=True)
    assert abs(slope.item()) < 1e-6
    if not isinstance(objective, ELBO):
        alike = (x - draw.p_x.mean).square().mean().sqrt().detach().requires_grad_()
        (slope,) = torch.autograd.grad(objective(at_sigma(draw, alike), 0)["loss"], alike)
        assert abs(slope.item()) > 0.1
    loss.backward()
    assert model.prior.loc.grad.any()


def test_optimal_sigma_weighs_classes_as_the_bound_does():
    """The label that was observed counts alone, and else each as probable as q(y | x) says."""
    likelihood = Gaussian(LINEAR, (2,), (6,), num_classes=3, sigma="optimal")
    model = SemiSupervisedVAE(
        Categorical(LINEAR, (6,), (3,)), GaussianPosterior(LINEAR, (6,), (2,), num_classes=3), likelihood, StandardNormal((2,)), 3
    )
    objective, x, y = M2(alpha=2.0), torch.randn(5, 6), torch.tensor([0, -1, 2, -1, -1])
    draw = objective.draw(model, x, y)
    loss = objective(draw, 0)["loss"]
    sigma = likelihood.variance.sqrt().clone().requires_grad_()
    at_best = objective(at_sigma(draw, sigma), 0)["loss"]
    torch.testing.assert_close(loss, at_best)
    assert abs(torch.autograd.grad(at_best, sigma)[0].item()) < 1e-9


def test_optimal_sigma_has_a_floor():
    """Perfect reconstructions do not drive the density to infinity: -D/2 log 2 pi - D log min_sigma."""
    likelihood = Gaussian(LINEAR, (2,), (6,), sigma="optimal", min_sigma=0.01)
    z = torch.randn(3, 2)
    x = likelihood(z).mean.detach()
    expected = torch.full((3,), -3 * math.log(2 * math.pi) - 6 * math.log(0.01))
    torch.testing.assert_close(likelihood(z).log_prob(x), expected)
    torch.testing.assert_close(likelihood.eval()(z).log_prob(x), expected)


def test_optimal_sigma_is_remembered_for_evaluation():
    """The first mean squared error, then steps of `momentum` towards each next one; sigma = 1 where nothing has been seen."""
    likelihood, z, x, mu = optimal()
    likelihood.momentum = 0.25
    torch.testing.assert_close(likelihood.eval()(z).log_prob(x), formula(x, mu, 1.0, 3))
    likelihood.train()
    expected = None
    for scale in (1.0, 3.0, 0.5):
        likelihood(z).log_prob(scale * x)
        seen = (scale * x - mu).square().mean()
        expected = seen if expected is None else expected + 0.25 * (seen - expected)
        torch.testing.assert_close(likelihood.variance, expected)
    torch.testing.assert_close(likelihood.eval()(z).log_prob(x), formula(x, mu, expected.sqrt(), 3))
    assert "variance" in likelihood.state_dict()


def test_evaluation_does_not_look_at_what_it_scores():
    """With the optimal sigma: a datum has the same score alone and in company, and scoring moves nothing."""
    likelihood, z, x, _ = optimal()
    likelihood(z).log_prob(x)
    remembered = likelihood.variance.clone()
    likelihood.eval()
    together = likelihood(z).log_prob(100 * x)
    alone = torch.cat([likelihood(z[:, i : i + 1]).log_prob(100 * x[i : i + 1]) for i in range(5)], dim=1)
    torch.testing.assert_close(together, alone)
    assert likelihood.variance.equal(remembered)
    assert isinstance(likelihood(z).base_dist, Normal)
