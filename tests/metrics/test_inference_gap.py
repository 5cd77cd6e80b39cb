"""The inference gap and its parts, where p(z | x) is Gaussian and everything is known."""

import inspect
import math

import pytest
import torch
import yaml
from forked_scripts import ROOT
from linear_gaussian import LinearGaussian, orthogonal
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from vaelab import VAE, posteriors, priors
from vaelab.data import InMemory
from vaelab.metrics.inference_gap import gaps, inference_gap
from vaelab.metrics.local_gaussian import LocalGaussian, fit, lower_bound
from vaelab.metrics.target import target
from vaelab.networks import MLP

pytestmark = pytest.mark.usefixtures("double")


class Rows:
    """Test data that are given."""

    def __init__(self, x: Tensor) -> None:
        self.splits = {"test": InMemory(x, torch.zeros(len(x), dtype=torch.long))}

    def setup(self, stage: str) -> None: ...

    def batches(self, split: str, device: torch.device | str = "cpu"):
        yield from zip(self.splits[split].x.split(3), self.splits[split].y.split(3), strict=True)


def correlated() -> LinearGaussian:
    """p(z | x) with the correlation -0.48 and the variances 0.61 and 0.27."""
    return LinearGaussian(torch.tensor([[1.0, 0.6], [0.0, 1.0], [0.3, 0.7]]), torch.tensor([0.2, -0.1, 0.0]), 0.8)


def approximation_gap(posterior: MultivariateNormal) -> float:
    """min KL(q || p) over q with a diagonal covariance, which has that of the precision: (sum log P_ii - log det P) / 2."""
    precision = posterior.precision_matrix.reshape(-1, 2, 2)[0]  # the same for every x
    return ((precision.diagonal().log().sum() - torch.logdet(precision)) / 2).item()


def amortisation_gap(model: VAE, posterior: MultivariateNormal, x: Tensor) -> float:
    """KL(q || p) - min KL(q || p), the mean over x."""
    q = model.encode(x)
    own = MultivariateNormal(q.mean, scale_tril=q.stddev.diag_embed())
    return kl_divergence(own, posterior).mean().item() - approximation_gap(posterior)


def test_the_best_factorised_gaussian():
    """mu = E[z | x] and sigma_i^2 = 1 / P_ii, from a start elsewhere."""
    theory = correlated()
    x = theory.sample(5)
    here, posterior = target(theory.vae((3,), shift=0.4, widen=2.0), x, torch.zeros(5)), theory.posterior(x)
    found = fit(here.log_joint, LocalGaussian.of(here.posterior), num_samples=10)
    torch.testing.assert_close(found.q.loc, posterior.mean, rtol=0, atol=0.03)
    expected = theory.posterior(x[:1]).precision_matrix[0].diagonal().rsqrt().expand(5, 2)
    torch.testing.assert_close(found.q.log_scale.exp(), expected, rtol=0.03, atol=0)
    assert found.last_improvement <= 0.01
    assert 200 <= found.num_steps < 2000


def test_a_full_covariance_finds_the_posterior():
    """q = p(z | x), where log p(x, z) - log q(z) = log p(x) at every z, so that the bound has no noise and no gap."""
    theory = correlated()
    x = theory.sample(4)
    here = target(theory.vae((3,), shift=0.4), x, torch.zeros(4))
    q = fit(here.log_joint, LocalGaussian.of(here.posterior).with_covariance()).q.distribution()
    torch.testing.assert_close(q.covariance_matrix, theory.posterior(x).covariance_matrix.expand(4, 2, 2), rtol=0, atol=0.005)
    torch.testing.assert_close(lower_bound(here.log_joint, q, 7, 3), theory.log_prob(x), rtol=0, atol=0.005)


def test_the_bound_of_a_given_q():
    """L[q] = log p(x) - KL(q || p(z | x)), within 5 standard errors; in chunks that do not divide the number of samples."""
    theory = correlated()
    x = theory.sample(3)
    here, q = target(theory.vae((3,)), x, torch.zeros(3)), Independent(Normal(torch.zeros(3, 2), torch.ones(3, 2)), 1)
    own = MultivariateNormal(torch.zeros(3, 2), torch.eye(2))
    exact = theory.log_prob(x) - kl_divergence(own, theory.posterior(x))
    z = q.sample((20_000,))
    spread = (here.log_joint(z) - q.log_prob(z)).std(0) / math.sqrt(20_000)
    found = lower_bound(here.log_joint, q, 20_000, 9_999)
    assert ((found - exact).abs() < 5 * spread).all()
    assert (spread < 0.1).all()


def test_a_family_keeps_its_gaussian():
    """What starts a search is q itself, with a diagonal covariance or any."""
    loc, scale = torch.randn(3, 2), torch.rand(3, 2) + 0.5
    diagonal = Independent(Normal(loc, scale), 1)
    tril = torch.tensor([[1.0, 0.0], [0.7, 0.5]]).expand(3, 2, 2)
    z = torch.randn(5, 3, 2)
    for q in (diagonal, MultivariateNormal(loc, scale_tril=tril)):
        own = LocalGaussian.of(q)
        assert type(own.distribution()) is type(q)
        for same in (own, own.with_covariance()):
            torch.testing.assert_close(same.distribution().log_prob(z), q.log_prob(z))


def test_a_posterior_that_is_no_gaussian():
    theory = orthogonal()
    model = VAE(posteriors.Laplace(MLP, (6,), (2,)), theory.vae((6,)).likelihood, priors.StandardNormal((2,)))
    with pytest.raises(ValueError, match=r"q\(z \| x\) is a Laplace: .* metrics=\[likelihood\]"):
        inference_gap(model, Rows(theory.sample(2)), num_temperatures=2)


def test_both_gaps_in_closed_form():
    """The approximation gap is that of the best factorised Gaussian, the amortisation gap what a spoiled encoder adds, and any covariance
    leaves none."""
    theory = correlated()
    model, x = theory.vae((3,), shift=0.3, widen=1.4), theory.sample(30)
    posterior = theory.posterior(x[:1])
    report = inference_gap(
        model,
        Rows(x),
        num_images=30,
        num_samples=20_000,
        num_importance_samples=2000,
        num_chains=100,
        num_temperatures=20,
        max_steps=600,
        full_covariance=True,
    )
    exact = theory.log_prob(x).mean().item()
    known = approximation_gap(posterior), amortisation_gap(model, theory.posterior(x), x)
    assert min(known) > 0.05
    assert max(report["log_likelihood_iwae"], report["log_likelihood_ais"]) == pytest.approx(exact, abs=0.02)
    assert report["approximation_gap"] == pytest.approx(known[0], abs=0.02)
    assert report["amortisation_gap"] == pytest.approx(known[1], abs=0.02)
    assert report["inference_gap"] == pytest.approx(report["approximation_gap"] + report["amortisation_gap"], abs=1e-10)
    assert report["approximation_gap_full_covariance"] == pytest.approx(0, abs=0.02)
    assert report["inference_gap_num_images"] == 30


def test_an_exact_encoder_has_no_gap():
    """q = p(z | x): all three are 0, up to what the search loses."""
    theory = orthogonal()
    report = inference_gap(theory.vae((6,)), Rows(theory.sample(4)), num_samples=50, num_importance_samples=5, num_temperatures=3)
    for name in ("inference_gap", "approximation_gap", "amortisation_gap"):
        assert report[name] == pytest.approx(0, abs=1e-3)
    assert report["elbo_local_last_improvement"] == pytest.approx(0, abs=1e-3)


def test_standard_errors_are_those_of_differences():
    """(1, 2, 4) - (0, 2, 1): mean 4/3, standard error sqrt(7/9)."""
    report = gaps(torch.tensor([1.0, 2.0, 4.0]), {"elbo_amortised": torch.tensor([0.0, 2.0, 1.0]), "elbo_local": torch.ones(3)})
    assert report["inference_gap"] == pytest.approx(4 / 3, abs=1e-12)
    assert report["inference_gap_std_error"] == pytest.approx(math.sqrt(7 / 9), abs=1e-12)
    assert (report["approximation_gap"], report["amortisation_gap"]) == (pytest.approx(4 / 3), pytest.approx(0))


@pytest.mark.parametrize("wrong", [{"num_images": 0}, {"num_samples": 0}, {"max_steps": 100}])
def test_options_out_of_range(wrong):
    """The message gives the number."""
    ((name, value),) = wrong.items()
    theory = orthogonal()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        inference_gap(theory.vae((6,)), Rows(theory.sample(2)), num_temperatures=2, num_importance_samples=2, **wrong)


def test_the_configuration_names_every_option():
    """conf/metrics/inference_gap.yaml has the options of the function with their defaults, and no other."""
    (options,) = yaml.safe_load((ROOT / "conf" / "metrics" / "inference_gap.yaml").read_text()).values()
    defaults = {name: parameter.default for name, parameter in list(inspect.signature(inference_gap).parameters.items())[2:]}
    assert options == {"_target_": "vaelab.metrics.inference_gap.inference_gap", "_partial_": True, **defaults}
