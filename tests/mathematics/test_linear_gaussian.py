"""The VAE against a model whose evidence, posterior and best ELBO are known: linear and Gaussian."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from linear_gaussian import LinearGaussian, at_sigma_points, orthogonal, set_affine
from torch.distributions import Distribution, MultivariateNormal, kl_divergence

from vaelab import VAE, likelihoods, posteriors, priors
from vaelab.evidence import importance_weighted
from vaelab.metrics import bound
from vaelab.networks import MLP
from vaelab.objectives import ELBO

pytestmark = pytest.mark.usefixtures("double")

SHAPES = [(6,), (1, 2, 3)]  # six numbers are six numbers, whatever their shape


@pytest.mark.parametrize("x_shape", SHAPES)
def test_the_exact_posterior_makes_every_weight_the_evidence(x_shape):
    """p(x, z) / p(z | x) = p(x) for every z: one sample is enough, and the ELBO is log p(x)."""
    theory = orthogonal()
    model, x = theory.vae(x_shape), theory.sample(5).reshape(5, *x_shape)
    log_p = theory.log_prob(x)
    torch.testing.assert_close(model(x, num_samples=3).log_w, log_p.expand(3, 5), rtol=0, atol=1e-10)
    torch.testing.assert_close(bound(at_sigma_points(model, x))["elbo"], log_p, rtol=0, atol=1e-10)


@pytest.mark.parametrize("x_shape", SHAPES)
@pytest.mark.parametrize(("shift", "widen"), [(0.0, 1.0), (0.3, 1.0), (0.0, 2.0), (-0.5, 0.4)])
def test_the_elbo_is_the_evidence_minus_the_kl_to_the_posterior(x_shape, shift, widen):
    """log p(x) - ELBO = KL(q || p(z | x)), for any q, also where no diagonal q can close the gap; as log-weights, parts and loss."""
    theory = LinearGaussian(torch.randn(6, 3), torch.randn(6), sigma=0.7)
    model, x = theory.vae(x_shape, shift, widen), theory.sample(5).reshape(5, *x_shape)
    draw = at_sigma_points(model, x)
    q = draw.latent.q
    gap = kl_divergence(MultivariateNormal(q.mean, torch.diag_embed(q.variance)), theory.posterior(x))
    expected = theory.log_prob(x) - gap
    assert (gap > 1e-3).all()
    torch.testing.assert_close(draw.log_w.mean(0), expected, rtol=0, atol=1e-10)
    terms = bound(draw)
    torch.testing.assert_close(terms["elbo"], expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(terms["elbo"], -terms["distortion"] - terms["rate"], rtol=0, atol=1e-12)
    for kl in ("analytic", "k1"):
        loss = ELBO(kl=kl)(draw, step=0)
        torch.testing.assert_close(loss["loss"], -expected.mean(), rtol=0, atol=1e-10)
        torch.testing.assert_close(loss["elbo"], expected.mean(), rtol=0, atol=1e-10)


def test_sampled_elbo_has_the_mean_of_the_exact_one():
    """The Monte-Carlo ELBO of model(x) is unbiased: its mean over 100,000 samples is within 5 standard errors of log p(x) - gap."""
    theory = orthogonal()
    model, x = theory.vae((6,), shift=0.4, widen=1.5), theory.sample(3)
    log_w = model(x, num_samples=100_000).log_w.detach()
    exact = bound(at_sigma_points(model, x))["elbo"]
    error = log_w.std(0) / math.sqrt(len(log_w))
    assert ((log_w.mean(0) - exact).abs() < 5 * error).all()
    assert (exact + 5 * error < theory.log_prob(x)).all()  # and that is below the evidence


def weight_moment(p: MultivariateNormal, q: Distribution, power: int) -> float:
    """E_q[(p / q)^n] of two diagonal Gaussians, finite where n sigma_q^2 > (n - 1) sigma_p^2."""
    variance_p, variance_q = p.covariance_matrix.diagonal(dim1=-2, dim2=-1), q.variance
    wide = power * variance_q - (power - 1) * variance_p
    log_each = power * variance_q.log() - (power - 1) * variance_p.log() - wide.log()
    shift = power * (power - 1) * (p.mean - q.mean).square() / wide
    return (0.5 * (log_each + shift)).sum().exp().item()


def mean_and_error(samples: torch.Tensor) -> tuple[float, float]:
    """The mean of independent samples, and its standard error."""
    return samples.mean().item(), samples.std().item() / math.sqrt(len(samples))


def test_importance_weighting_rises_to_the_evidence():
    """L_1 = ELBO < L_2 < ... < log p(x), and E[w] = p(x), Var(w) known, for the w that L_S takes the logarithm of (Burda et al., 2016).

    With mu_n the central moments of w / p(x), known in closed form, L_S - log p(x) = -mu_2 / 2S + (mu_3 / 3 - 3 mu_2^2 / 4) / S^2 + ...
    """
    theory = orthogonal()
    model, x = theory.vae((6,), shift=0.3, widen=1.4), theory.sample(1)
    log_p, elbo = theory.log_prob(x), bound(at_sigma_points(model, x))["elbo"]
    p, q = theory.posterior(x), model.encode(x)
    second, third = weight_moment(p, q, 2), weight_moment(p, q, 3)
    mu_2, mu_3 = second - 1, third - 3 * second + 2
    steps = []
    for num_samples in (1, 2, 8, 64):
        runs = importance_weighted(model, x.expand(20_000, -1), num_samples=num_samples).log_likelihood - log_p
        weight, error = mean_and_error(runs.exp())
        assert abs(weight - 1) < 5 * error
        variance, error = mean_and_error((runs.exp() - 1).square())
        assert abs(variance - mu_2 / num_samples) < 5 * error
        steps.append(mean_and_error(runs))
    assert abs(steps[0][0] - (elbo - log_p).item()) < 5 * steps[0][1]
    for (below, error_below), (above, error_above) in pairwise(steps):
        assert above - below > 5 * math.hypot(error_below, error_above)
    last, error = steps[-1]
    assert last + 5 * error < 0
    assert abs(last - (-mu_2 / 128 + (mu_3 / 3 - 3 * mu_2**2 / 4) / 64**2)) < 5 * error


@pytest.mark.parametrize("x_shape", SHAPES)
def test_the_scale_of_the_elbo(x_shape):
    """Summed over the event, averaged over the batch, in nats: with sigma = 1, x at mu and q = p(z) the loss is D/2 log 2 pi."""
    theory = LinearGaussian(torch.zeros(6, 2), torch.randn(6), sigma=1.0)
    model = theory.vae(x_shape)
    x = theory.bias.reshape(1, *x_shape)
    for batch in (1, 4):
        draw = model(x.expand(batch, *x_shape), num_samples=2)
        torch.testing.assert_close(draw.log_px, torch.full((2, batch), -3 * math.log(2 * math.pi)), rtol=0, atol=1e-12)
        assert ELBO()(draw, step=0)["loss"].item() == pytest.approx(3 * math.log(2 * math.pi), abs=1e-12)
    off = model((x + 2).expand(4, *x_shape))  # half of the squared error joins it: 6 * 2^2 / 2
    assert ELBO()(off, step=0)["loss"].item() == pytest.approx(3 * math.log(2 * math.pi) + 12, abs=1e-12)


def test_training_reaches_the_maximum_likelihood_of_probabilistic_pca():
    """sigma^2 = mean of the discarded eigenvalues, W W^T + sigma^2 I keeps the others (Tipping & Bishop, 1999, eqs. 7 and 8).

    The ELBO of a linear VAE has that optimum: adam comes near it on samples of z, and L-BFGS meets it where the noise is taken out.
    """
    dims, latent_dims = 5, 2
    x = torch.randn(200, dims) * torch.tensor([2.0, 1.4, 0.6, 0.5, 0.4]) @ torch.linalg.qr(torch.randn(dims, dims))[0] + 1
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    noise = values[:-latent_dims].mean()
    kept = torch.cat([noise.expand(dims - latent_dims), values[-latent_dims:]])
    covariance = vectors @ kept.diag() @ vectors.T
    best = MultivariateNormal(x.mean(0), covariance).log_prob(x).mean().item()
    without = torch.cat([values[:-1].mean().expand(dims - 1), values[-1:]])
    next_best = -0.5 * (dims * math.log(2 * math.pi) + without.log().sum().item() + dims)  # with one component fewer

    model = VAE(
        posteriors.Gaussian(partial(MLP, hidden=()), (dims,), (latent_dims,)),
        likelihoods.Gaussian(partial(MLP, hidden=()), (latent_dims,), (dims,), sigma="learned"),
        priors.StandardNormal((latent_dims,)),
    )
    objective, steps = ELBO(num_samples=4), 1500
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05, betas=(0.9, 0.99))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        objective(model(x, num_samples=objective.num_samples), step)["loss"].backward()
        optimizer.step()
        scheduler.step()
    assert next_best < best - 0.1
    assert best - 0.002 < bound(at_sigma_points(model, x))["elbo"].mean().item() <= best

    polish = torch.optim.LBFGS(model.parameters(), max_iter=200, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe")

    def noiseless() -> torch.Tensor:
        polish.zero_grad()
        loss = objective(at_sigma_points(model, x), steps)["loss"]
        loss.backward()
        return loss

    polish.step(noiseless)
    assert bound(at_sigma_points(model, x))["elbo"].mean().item() == pytest.approx(best, abs=1e-10)
    linear = model.likelihood.network.layers[1]
    sigma = model.decode(torch.zeros(1, latent_dims)).stddev[0, 0].detach()
    torch.testing.assert_close(linear.weight @ linear.weight.T + sigma**2 * torch.eye(dims), covariance, rtol=0, atol=1e-5)
    torch.testing.assert_close(linear.bias, x.mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(sigma**2, noise, rtol=0, atol=1e-5)


def test_set_affine_sets_what_the_network_computes():
    """The parts above are what they claim to be: the decoder's mean is W z + b, the encoder's the posterior mean."""
    theory = orthogonal()
    model, x, z = theory.vae((6,)), theory.sample(4), torch.randn(3, 2)
    torch.testing.assert_close(model.decode(z).mean, z @ theory.weight.T + theory.bias)
    torch.testing.assert_close(model.encode(x).mean, theory.posterior(x).mean)
    torch.testing.assert_close(model.encode(x).variance, theory.posterior(x).variance)
    set_affine(model.likelihood, 0 * theory.weight, theory.bias)
    torch.testing.assert_close(model.decode(z).mean, theory.bias.expand(3, 6))
