"""Missing values: what was observed is scored by its marginal, against slicing and a linear-Gaussian model (Mattei & Frellsen, 2019)."""

import itertools
import math
from functools import partial

import pytest
import torch
from linear_gaussian import LinearGaussian, at_sigma_points, orthogonal, set_affine
from torch import Tensor
from torch.distributions import MultivariateNormal

from vaelab import VAE, likelihoods, posteriors, priors
from vaelab.applications import importance_resampling
from vaelab.draw import split_missing
from vaelab.evidence import importance_weighted
from vaelab.metrics import bound, evaluate
from vaelab.models import missingness
from vaelab.networks import MLP
from vaelab.objectives import ELBO, IWAE

pytestmark = pytest.mark.usefixtures("double")

X_SHAPE = (2, 2, 2)
EACH_BY_ITSELF = {
    "bernoulli": likelihoods.Bernoulli,
    "beta": likelihoods.Beta,
    "categorical": partial(likelihoods.Categorical, num_bins=4),
    "continuous_bernoulli": likelihoods.ContinuousBernoulli,
    "discretized_logistic": likelihoods.DiscretizedLogistic,
    "gaussian": likelihoods.Gaussian,
    "gaussian_learned": partial(likelihoods.Gaussian, sigma="learned"),
    "gaussian_per_pixel": partial(likelihoods.Gaussian, sigma="per_pixel"),
    "laplace": likelihoods.Laplace,
    "mixed": partial(
        likelihoods.Mixed, columns=["real", "positive", "nonnegative", "count", ["ordinal", 3], ["categorical", 4], "binary", "real"]
    ),
    "negative_binomial": likelihoods.NegativeBinomial,
    "poisson": likelihoods.Poisson,
    "student_t": likelihoods.StudentT,
}
TOGETHER = {
    "gaussian_optimal": partial(likelihoods.Gaussian, sigma="optimal"),
    "mixture_of_logistics": partial(likelihoods.MixtureOfLogistics, num_mixtures=2),
}


def vae(likelihood, x_shape: tuple[int, ...] = X_SHAPE) -> VAE:
    network = partial(MLP, hidden=(5,))
    return VAE(posteriors.Gaussian(network, x_shape, (2,)), likelihood(network, (2,), x_shape), priors.StandardNormal((2,)), missing=True)


def with_holes(num: int, binary: bool = True) -> Tensor:
    """Half of the values are missing; of the first example none is, of the second every one."""
    x = torch.rand(num, *X_SHAPE).round() if binary else 0.1 + 0.8 * torch.rand(num, *X_SHAPE)
    holes = torch.rand(num, *X_SHAPE) < 0.5
    holes[0], holes[1] = False, True
    return x.masked_fill(holes, torch.nan)


every_likelihood = pytest.mark.parametrize(("name", "likelihood"), EACH_BY_ITSELF.items(), ids=EACH_BY_ITSELF.keys())


@every_likelihood
def test_what_was_observed_is_scored_by_its_marginal(name, likelihood):
    """The sum over the observed values of their own densities; nothing where all is missing, and the whole density where nothing is."""
    model, x = vae(likelihood), with_holes(6, binary=name != "beta")
    draw = model(x, num_samples=3)
    assert torch.equal(draw.observed, ~x.isnan())
    each = draw.p_x.base_dist
    for k in range(3):
        for b in range(6):
            seen = ~x[b].isnan()
            expected = each.log_prob(x.nan_to_num(0.5))[k, b][seen].sum()
            torch.testing.assert_close(draw.log_px[k, b], expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(draw.log_px[:, 0], draw.p_x.log_prob(x.nan_to_num(0.5))[:, 0])
    assert (draw.log_px[:, 1] == 0).all()


@every_likelihood
def test_gradients_are_finite(name, likelihood):
    """Also where the density of the number that stands in for a missing one is 0 or infinite; and they reach every parameter."""
    model, x = vae(likelihood), with_holes(6, binary=name != "beta")
    IWAE(3)(model(x, num_samples=3), 0)["loss"].backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in model.parameters())


def test_missing_values_do_not_matter():
    """What is in the way of a NaN has no influence: the network sees zero there, and the likelihood does not look."""
    model, x = vae(likelihoods.Gaussian), with_holes(6, binary=False)
    filled, observed = split_missing(x)
    assert (filled[~observed] == 0).all()
    assert torch.equal(filled[observed], x[~x.isnan()])
    torch.manual_seed(1)
    draw = model(x)
    torch.testing.assert_close(draw.latent.q.mean, model.posterior(filled).mean, rtol=0, atol=0)
    torch.testing.assert_close(model.encode(x).mean, model.posterior(filled).mean, rtol=0, atol=0)
    assert model.reconstruct(x).isfinite().all()
    complete = torch.rand(4, *X_SHAPE)
    torch.manual_seed(1)
    with_mask = model(complete).log_w
    model.missing = False
    torch.manual_seed(1)
    torch.testing.assert_close(with_mask, model(complete).log_w)


def marginal(theory: LinearGaussian, x: Tensor) -> Tensor:
    """log p(x_observed) of each example: rows and columns of a Gaussian."""
    covariance = theory.weight @ theory.weight.T + theory.sigma**2 * torch.eye(len(theory.bias))
    found = []
    for one in x:
        seen = ~one.isnan()
        found.append(MultivariateNormal(theory.bias[seen], covariance[seen][:, seen]).log_prob(one[seen]))
    return torch.stack(found)


def test_bounds_are_below_the_evidence_of_what_was_observed_and_reach_it():
    """E[w] = p(x_observed) for every pattern of missing values, though q(z | x) was made for complete ones; and log p with many samples."""
    theory = orthogonal()
    model, x = theory.vae((6,), widen=1.6), theory.sample(5)
    model.missing = True
    x[torch.arange(5), torch.tensor([0, 1, 2, 3, 5])] = torch.nan
    x[0, 3], x[1, 4] = torch.nan, torch.nan
    log_p = marginal(theory, x)
    with torch.no_grad():
        log_w = model(x, num_samples=200_000).log_w
    weights = (log_w - log_p).exp()
    error = weights.std(0) / math.sqrt(len(weights))
    assert (error < 0.05).all()
    assert ((weights.mean(0) - 1).abs() < 5 * error).all()
    assert (log_w.mean(0) < log_p).all()
    found = importance_weighted(model, x, num_samples=200_000, chunk_size=50_000).log_likelihood
    assert ((found - log_p).abs() < 6 * error).all()


def test_with_one_pattern_the_posterior_can_be_exact():
    """One latent dimension, and every x missing the same values: q = p(z | x_observed) makes every bound log p(x_observed).

    The reconstruction is then E[x | x_observed], which is how missing values are imputed.
    """
    theory = orthogonal(dims=4, latent_dims=1)
    seen = torch.tensor([True, False, True, True])
    part = LinearGaussian(theory.weight[seen], theory.bias[seen], theory.sigma)
    model, x = theory.vae((4,)), theory.sample(7)
    model.missing = True
    gain = torch.zeros(1, 4)
    covariance = part.posterior(x[:1, seen]).covariance_matrix[0]
    gain[:, seen] = covariance @ part.weight.T / theory.sigma**2  # zero where zero was put in
    set_affine(model.posterior, torch.cat([gain, 0 * gain]), torch.cat([-gain @ theory.bias, covariance[0].sqrt().log()]))
    holes = x.masked_fill(~seen, torch.nan)
    log_p = part.log_prob(x[:, seen])
    torch.testing.assert_close(marginal(theory, holes), log_p)
    draw = model(holes, num_samples=3)
    torch.testing.assert_close(draw.log_w, log_p.expand(3, 7), rtol=0, atol=1e-10)
    assert ELBO(kl="k1")(draw, 0)["loss"].item() == pytest.approx(-log_p.mean().item(), abs=1e-10)
    assert IWAE(3)(draw, 0)["bound"].item() == pytest.approx(log_p.mean().item(), abs=1e-10)
    between = (theory.weight @ part.weight.T)[~seen]
    within = part.weight @ part.weight.T + theory.sigma**2 * torch.eye(3)
    expected = theory.bias[~seen] + (x[:, seen] - part.bias) @ torch.linalg.solve(within, between.T)
    torch.testing.assert_close(model.reconstruct(holes)[:, ~seen], expected, rtol=0, atol=1e-10)
    report = evaluate(model, [(holes, torch.zeros(7))], num_samples=2, chunk_size=2)
    assert report["log_likelihood"] == pytest.approx(log_p.mean().item(), abs=1e-10)
    assert torch.allclose(bound(at_sigma_points(model, torch.where(seen, x, 0.0)))["rate"], bound(draw)["rate"])


@pytest.mark.parametrize("likelihood", TOGETHER.values(), ids=TOGETHER.keys())
def test_likelihoods_that_score_values_together_are_refused(likelihood):
    """A sigma that is pooled over the pixels of a batch, and colours that are conditioned on one another."""
    x_shape = (3, 2, 2)
    model = vae(likelihood, x_shape)
    x = torch.rand(4, *x_shape)
    x[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"missing values need a likelihood that scores each value by itself: set likelihood=bernoulli"):
        ELBO()(model(x), 0)


def masking(kind: str) -> torch.nn.Module:
    """A mask that depends on x, with parameters that are not those it begins with."""
    module = missingness.Agnostic((6,)) if kind == "agnostic" else missingness.SelfMasking((6,), known=kind == "known")
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape)
    return module


@pytest.mark.parametrize("kind", ["self_masking", "known", "agnostic"])
def test_masks_sum_to_one(kind):
    x, masks = torch.randn(3, 6), torch.tensor(list(itertools.product([False, True], repeat=6)))
    module = masking(kind)
    total = sum(module(x, mask.expand(3, 6)).exp() for mask in masks)
    torch.testing.assert_close(total, torch.ones(3))


@pytest.mark.parametrize("kind", ["self_masking", "known", "agnostic"])
def test_weights_are_unbiased_for_what_was_observed_and_which_values_were(kind):
    """E[w] = p(x_o, s), against the mean of p(s | x_o, x_m) over x_m ~ p(x_m | x_o), which is Gaussian (Ipsen et al., 2021, eq. 8)."""
    theory = orthogonal()
    model, x = theory.vae((6,), widen=1.6), theory.sample(1)
    model.missing, model.missingness = True, masking(kind)
    x[0, [1, 4]] = torch.nan
    seen = ~x[0].isnan()
    covariance = theory.weight @ theory.weight.T + theory.sigma**2 * torch.eye(6)
    gain = torch.linalg.solve(covariance[seen][:, seen], covariance[seen][:, ~seen]).T
    given = MultivariateNormal(
        theory.bias[~seen] + gain @ (x[0, seen] - theory.bias[seen]), covariance[~seen][:, ~seen] - gain @ covariance[seen][:, ~seen]
    )
    completed = x.expand(400_000, 6).clone()
    completed[:, ~seen] = given.sample((400_000,))
    of_mask = model.missingness(completed, seen.expand(400_000, 6)).exp()
    expected = marginal(theory, x).exp()[0] * of_mask.mean()
    with torch.no_grad():
        weights = torch.cat([model(x, num_samples=100_000).log_w for _ in range(4)]).exp()
    error = ((weights.std() / weights.mean()).square() + (of_mask.std() / of_mask.mean()).square()).sqrt() / math.sqrt(len(weights))
    assert error < 0.02
    assert abs(weights.mean() / expected - 1) < 5 * error
    found = importance_resampling(model, x, ~x.isnan(), num_completions=2, num_samples=200_000, chunk_size=50_000)
    mean = (of_mask.unsqueeze(-1) * completed).mean(0) / of_mask.mean()
    torch.testing.assert_close(found.mean[0], mean, rtol=0, atol=0.01)
    # s says nothing more of z once x is complete, so that E[x | z] has the mean of its regression on x
    regression = torch.linalg.solve(covariance, theory.weight @ theory.weight.T)
    of_expected = torch.where(seen, x[0], theory.bias + (mean - theory.bias) @ regression)
    torch.testing.assert_close(found.mean_of_expected[0], of_expected, rtol=0, atol=0.01)
    assert (mean - of_expected).abs().max() > 0.05


def test_gradients_pass_through_missing_values():
    theory = orthogonal()
    model, x = theory.vae((6,), widen=1.6), theory.sample(4)
    model.missing, model.missingness = True, missingness.SelfMasking((6,))
    x[:, :2] = torch.nan
    IWAE(3)(model(x, num_samples=3), 0)["loss"].backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in model.parameters())


def test_a_mask_of_discrete_values_is_refused_in_words():
    model = vae(likelihoods.Bernoulli)
    model.missingness = missingness.SelfMasking(X_SHAPE)
    with pytest.raises(ValueError, match=r"Bernoulli is not a likelihood of real values alone: set missingness=ignorable"):
        ELBO()(model(with_holes(6)), 0)
    with pytest.raises(ValueError, match=r"set missing=true, or missingness=ignorable"):
        VAE(model.posterior, model.likelihood, model.prior, missingness=model.missingness)
