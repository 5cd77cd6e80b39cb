"""Scores of anomalies, of models of which everything is known."""

import math
import zlib
from functools import partial

import pytest
import torch
from linear_gaussian import LinearGaussian, orthogonal
from standard_errors import assert_mean
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from vaelab import VAE, likelihoods, posteriors, priors
from vaelab.applications.anomaly import Detector, complexity, fit_detector, kl_to_aggregate
from vaelab.flows import Planar
from vaelab.networks import MLP

pytestmark = pytest.mark.usefixtures("double")

DIMS = 6


@pytest.fixture
def truth() -> LinearGaussian:
    return orthogonal(DIMS)


def detector_of(truth: LinearGaussian, background: VAE | None = None, num_draws: int = 10, **how: float) -> Detector:
    return fit_detector(truth.vae((DIMS,), **how), [truth.sample(40), truth.sample(60)], background, 7, num_draws)


def gaussians(loc: Tensor, scale: float = 1.0) -> Independent:
    return Independent(Normal(loc, torch.full_like(loc, scale)), 1)


def test_surprisal_typicality_and_ratio_are_those_of_the_known_density(truth: LinearGaussian) -> None:
    """With the true posterior all importance weights are p(x), and nothing is left to chance; for more examples than are scored at once."""
    other = LinearGaussian(0.5 * truth.weight, truth.bias + 1, 0.8)
    training, x = [truth.sample(40), truth.sample(60)], truth.sample(230)
    scores = fit_detector(truth.vae((DIMS,)), training, other.vae((DIMS,)), 7)(x)
    surprisal = -truth.log_prob(x)
    torch.testing.assert_close(scores["negative_log_likelihood"], surprisal)
    torch.testing.assert_close(scores["likelihood_ratio"], surprisal + other.log_prob(x))
    entropy = -truth.log_prob(torch.cat(training)).mean()
    torch.testing.assert_close(scores["typicality"], (surprisal - entropy).abs())
    torch.testing.assert_close(scores["rate"], kl_divergence(truth.posterior(x), priors_of(truth)))
    torch.testing.assert_close(scores["negative_elbo"], scores["distortion"] + scores["rate"])


def priors_of(truth: LinearGaussian) -> torch.distributions.MultivariateNormal:
    dims = truth.weight.shape[1]
    return torch.distributions.MultivariateNormal(torch.zeros(dims), torch.eye(dims))


def test_distortion_has_the_mean_that_it_should(truth: LinearGaussian) -> None:
    """E_q|x - W z - b|^2 = |x - W m - b|^2 + tr(W S W^T)."""
    x = truth.sample(1)
    q = truth.posterior(x)
    squares = (x - q.mean @ truth.weight.T - truth.bias).square().sum() + torch.trace(
        truth.weight @ q.covariance_matrix[0] @ truth.weight.T
    )
    expected = squares / (2 * truth.sigma**2) + DIMS / 2 * math.log(2 * math.pi * truth.sigma**2)
    assert_mean(detector_of(truth, num_draws=3)(x.expand(4_000, -1))["distortion"], expected)


def test_kl_to_the_aggregate_of_few_posteriors() -> None:
    """0 to the aggregate of itself, log N if it is one of N that are far apart, and the closed form to a single Gaussian."""
    q = gaussians(torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]]))
    torch.testing.assert_close(kl_to_aggregate(gaussians(torch.zeros(1, 2)), [gaussians(torch.zeros(4, 2))], 5), torch.zeros(1))
    torch.testing.assert_close(kl_to_aggregate(q, [q], 5), torch.full((3,), math.log(3)))
    single = gaussians(torch.tensor([[1.0, -2.0]]), 1.5)
    found = kl_to_aggregate(gaussians(torch.zeros(1, 2).expand(5_000, 2)), [single], 2)
    assert_mean(found, kl_divergence(gaussians(torch.zeros(1, 2)), single))


def test_every_score_is_larger_for_what_is_far_away(truth: LinearGaussian) -> None:
    """x moved both within the space that W spans and out of it, against each of 200 examples of the model's own."""
    background = LinearGaussian(truth.weight, truth.bias, 5.0).vae((DIMS,))
    far = truth.bias + 40 * truth.weight.sum(1) + 10 * torch.linalg.svd(truth.weight.T).Vh[-1]
    scores = detector_of(truth, background)(torch.cat([far[None], truth.sample(200)]))
    assert scores.keys() == {
        "negative_log_likelihood",
        "negative_elbo",
        "distortion",
        "rate",
        "kl_to_aggregate",
        "typicality",
        "likelihood_ratio",
    }
    for name, values in scores.items():
        assert values[0] > values[1:].max(), name


def test_the_most_likely_example_is_not_typical(truth: LinearGaussian) -> None:
    """The mean of p(x) has the smallest -log p(x), and a typicality above that of most examples."""
    scores = detector_of(truth)(torch.cat([truth.bias[None], truth.sample(400)]))
    assert scores["negative_log_likelihood"].argmin() == 0
    assert scores["typicality"][0] > scores["typicality"][1:].median()


def test_a_model_is_no_background_of_itself(truth: LinearGaussian) -> None:
    detector = detector_of(truth, truth.vae((DIMS,)))
    torch.testing.assert_close(detector(truth.sample(5))["likelihood_ratio"], torch.zeros(5))


def test_batches_of_training_data_change_nothing(truth: LinearGaussian) -> None:
    vae, x = truth.vae((DIMS,)), truth.sample(60)
    entropies = [fit_detector(vae, x.split(size), num_samples=3).entropy for size in (7, 60)]
    assert entropies[0] == pytest.approx(entropies[1], rel=1e-12)
    assert entropies[0] == pytest.approx(-truth.log_prob(x).mean().item(), rel=1e-12)


def picture_vae(likelihood: type[nn.Module] = likelihoods.Bernoulli, shape: tuple[int, ...] = (1, 8, 8), **options: int) -> VAE:
    return VAE(
        posteriors.Gaussian(partial(MLP, hidden=()), shape, (2,), **options),
        likelihood(partial(MLP, hidden=()), (2,), shape, **options),
        priors.StandardNormal((2,)),
        **options,
    )


def test_complexity_is_the_length_of_a_png() -> None:
    """Noise of 8 bits cannot be compressed: 64 x 64 bytes, a filter byte for each row, and the 68 bytes of a PNG and its zlib stream."""
    noise, flat = torch.randint(256, (3, 1, 64, 64)) / 255, torch.full((1, 1, 64, 64), 0.4)
    bytes_of_noise = complexity(noise) / (8 * math.log(2))
    assert bool((bytes_of_noise > 64 * 64).all())
    assert bool((bytes_of_noise < 64 * 65 + 100).all())
    bytes_of_flat = complexity(flat).item() / (8 * math.log(2))
    assert bytes_of_flat < 57 + len(zlib.compress(bytes(64 * 65))) + 40
    assert complexity(noise.expand(-1, 3, -1, -1))[0] > complexity(noise)[0]


def test_complexity_is_that_of_the_eight_bits() -> None:
    """k / 255, and (k + u) / 256 whatever the u, are the k that they were, and so a picture of one k is flat."""
    k = torch.arange(256)[:, None, None, None].expand(-1, 3, 16, 16)
    flat = complexity(k / 255)
    torch.testing.assert_close(flat, complexity((k + torch.rand(k.shape)) / 256))
    assert flat.max() < complexity(torch.rand(1, 3, 16, 16)).item() / 4


def test_the_complexity_ratio_is_the_surprisal_less_the_complexity() -> None:
    x = (torch.rand(5, 1, 8, 8) < 0.5).double()
    scores = fit_detector(picture_vae(), [x], compressor=complexity)(x)
    torch.testing.assert_close(scores["complexity_ratio"], scores["negative_log_likelihood"] - complexity(x))
    assert "complexity_ratio" not in fit_detector(picture_vae(), [x])(x)


def test_a_posterior_that_knows_its_density_at_its_samples_alone_has_no_kl_to_the_aggregate() -> None:
    vae = picture_vae()
    vae.posterior = posteriors.Flow(partial(MLP, hidden=()), (1, 8, 8), (2,), partial(Planar, num_flows=2))
    x = (torch.rand(5, 1, 8, 8) < 0.5).double()
    assert fit_detector(vae, [x])(x).keys() == fit_detector(picture_vae(), [x])(x).keys() - {"kl_to_aggregate"}


def test_models_score_in_evaluation_mode_and_are_left_as_they_were(truth: LinearGaussian) -> None:
    """Dropout would make the surprisal and the rate random."""
    vae = truth.vae((DIMS,))
    for part in (vae.posterior, vae.likelihood):
        part.network = nn.Sequential(part.network, nn.Dropout(0.9))
    vae.train()
    x = truth.sample(30)
    scores = fit_detector(vae, [x])(x)
    torch.testing.assert_close(scores["negative_log_likelihood"], -truth.log_prob(x))
    torch.testing.assert_close(scores["rate"], kl_divergence(truth.posterior(x), priors_of(truth)))
    assert vae.training


@pytest.mark.parametrize(
    ("background", "message"),
    [
        (picture_vae(num_classes=10), r"is shown y \(num_classes=10\)"),
        (picture_vae(likelihoods.Gaussian), "the model's p.* is a probability, but the background model's is a density"),
        (None, "there is no training example"),
    ],
)
def test_what_cannot_be_scored_is_refused(background: VAE | None, message: str) -> None:
    batches = [torch.zeros(3, 1, 8, 8)] if background else []
    with pytest.raises(ValueError, match=message):
        fit_detector(picture_vae(), batches, background and background.double())
    with pytest.raises(ValueError, match=r"is shown y \(num_classes=10\): anomalies are found by a model with num_classes=0"):
        fit_detector(picture_vae(num_classes=10), [])
