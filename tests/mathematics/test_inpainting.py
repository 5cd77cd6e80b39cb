"""p(x_missing | x_observed) of a linear-Gaussian model, which is known: what each method must reach, and where it must not."""

import math
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from linear_gaussian import LinearGaussian, orthogonal
from standard_errors import assert_mean, errors_off
from torch import Tensor
from torch.distributions import MultivariateNormal

from vaelab.applications import assess, importance_resampling, inpaint, metropolis_within_gibbs, pseudo_gibbs, summarized
from vaelab.applications.importance_resampling import evidence_of_observed
from vaelab.likelihoods import Bernoulli
from vaelab.models import VAE
from vaelab.networks import MLP
from vaelab.posteriors import VectorQuantized
from vaelab.priors import UniformCodes

REPETITIONS = 200
HIDDEN = torch.tensor([False, True, False, False, True, True])
# what makes q(z | x) another than p(z | x): with variances of more than half of those of p(z), importance weights have a finite one
WRONG = {"shift": 0.3, "widen": 2.5}


@dataclass
class Case:
    """The same x, over and over: independent repetitions, side by side in the batch."""

    exact: LinearGaussian
    x: Tensor
    hidden: Tensor

    @property
    def observed(self) -> Tensor:
        return (~self.hidden).expand(self.x.shape)

    def conditional(self) -> MultivariateNormal:
        """p(x_m | x_o) of x = N(b, C): N(b_m + C_mo C_oo^-1 (x_o - b_o), C_mm - C_mo C_oo^-1 C_om)."""
        m, o, weight, b = self.hidden, ~self.hidden, self.exact.weight, self.exact.bias
        covariance = weight @ weight.T + self.exact.sigma**2 * torch.eye(len(b))
        gain = covariance[m][:, o] @ torch.linalg.inv(covariance[o][:, o])
        return MultivariateNormal(b[m] + gain @ (self.x[0, o] - b[o]), covariance[m][:, m] - gain @ covariance[o][:, m])

    def log_p_observed(self) -> float:
        o, weight = ~self.hidden, self.exact.weight
        covariance = weight[o] @ weight[o].T + self.exact.sigma**2 * torch.eye(int(o.sum()))
        return MultivariateNormal(self.exact.bias[o], covariance).log_prob(self.x[0, o]).item()


def case(hidden: Tensor = HIDDEN) -> Case:
    exact = orthogonal()
    return Case(exact, exact.sample(1).repeat(REPETITIONS, 1), hidden)


@pytest.fixture(autouse=True)
def in_double_precision(double):
    torch.manual_seed(0)


METHODS = {
    "metropolis_within_gibbs": partial(metropolis_within_gibbs, num_completions=4, num_steps=400, num_pseudo_gibbs=20),
    "importance_resampling": partial(importance_resampling, num_completions=4, num_samples=4000),
}
correct = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
every_method = pytest.mark.parametrize("method", ["pseudo_gibbs", *METHODS])
SHORT = {"num_completions": 3, "num_steps": 4, "num_pseudo_gibbs": 3, "num_samples": 40}


def assert_conditional(given: Case, completion, expected: MultivariateNormal) -> None:
    """mean, std, and the first two moments of the draws and of E[x_m | z], within Monte-Carlo standard errors."""
    m = given.hidden
    assert_mean(completion.mean[:, m], expected.mean)
    assert_mean(completion.std[:, m], expected.stddev)
    draws, means = completion.x[..., m].flatten(0, 1), completion.expected[..., m].flatten(0, 1)
    assert_mean(draws, expected.mean)
    assert_mean((draws - expected.mean).square(), expected.variance)
    assert_mean(means, expected.mean)
    assert_mean((means - expected.mean).square(), expected.variance - given.exact.sigma**2)


@correct
def test_a_wrong_q_reaches_the_exact_conditional(method):
    given = case()
    completion = method(given.exact.vae((6,), **WRONG), given.x, given.observed)
    assert_conditional(given, completion, given.conditional())


def test_pseudo_gibbs_is_exact_where_q_is_the_posterior():
    given = case()
    assert_conditional(given, pseudo_gibbs(given.exact.vae((6,)), given.x, given.observed, None, 4, 200), given.conditional())


def test_pseudo_gibbs_reaches_the_stationary_distribution_of_its_chain():
    """With a q that is wrong, z = G (x - b) + shift + S e and x_m = W_m z + b_m + sigma e': another mean and covariance than the exact."""
    given = case()
    model, m = given.exact.vae((6,), **WRONG), given.hidden
    with torch.no_grad():
        offset = model.encode(given.x[:1].where(~m, 0.0)).mean[0]  # of x_m = 0
        scale = model.encode(given.x[:1]).stddev[0]
        gain = model.encode(torch.eye(6)).mean - model.encode(torch.zeros(1, 6)).mean
    weight, identity = given.exact.weight[m], torch.eye(int(m.sum()))
    step = weight @ gain[m].T
    noise = weight @ scale.square().diag() @ weight.T + given.exact.sigma**2 * identity
    mean = torch.linalg.solve(identity - step, weight @ offset + given.exact.bias[m])
    covariance = torch.zeros_like(noise)
    for _ in range(500):
        covariance = step @ covariance @ step.T + noise
    completion = pseudo_gibbs(model, given.x, given.observed, None, 4, 400)
    draws = completion.x[..., m].flatten(0, 1)
    assert_mean(draws, mean)
    assert_mean((draws - mean).square(), covariance.diagonal())
    assert_mean(completion.mean[:, m], mean)
    assert bool((errors_off(completion.mean[:, m], given.conditional().mean) > 20).any())


def test_all_proposals_of_the_true_posterior_are_accepted():
    given = case()
    right, wrong = (metropolis_within_gibbs(given.exact.vae((6,), **q), given.x, given.observed, None, 2, 50) for q in ({}, WRONG))
    assert right.acceptance_rate.tolist() == pytest.approx([1.0] * REPETITIONS, abs=1e-9)
    assert 0.1 < wrong.acceptance_rate.mean().item() < 0.9


@correct
def test_with_all_hidden_the_prior_is_left(method):
    given = case(torch.ones(6, dtype=torch.bool))
    expected = MultivariateNormal(given.exact.bias, given.exact.weight @ given.exact.weight.T + given.exact.sigma**2 * torch.eye(6))
    wider = given.exact.vae((6,), shift=0.3, widen=5)  # of zeros in place of x, q is far from p(z)
    assert_conditional(given, method(wider, given.x, given.observed), expected)


@every_method
def test_with_nothing_hidden_x_is_left(method):
    given = case(torch.zeros(6, dtype=torch.bool))
    completion = inpaint(given.exact.vae((6,), **WRONG), given.x, given.observed, None, method, **SHORT)
    assert torch.equal(completion.mean, given.x)
    assert torch.equal(completion.x, given.x.expand(3, -1, -1))
    assert not completion.std.any()


@every_method
def test_observed_values_are_untouched_and_hidden_ones_unseen(method):
    """Bit for bit, whatever a hidden value is, NaN too."""
    given, found = case(), []
    given.x[:, ~given.hidden] = torch.tensor([1 / 3, -0.0, 1e-300])
    for hidden_value in (0.0, torch.nan):
        torch.manual_seed(1)
        x = given.x.masked_fill(given.hidden, hidden_value)
        found.append(inpaint(given.exact.vae((6,), **WRONG), x, given.observed, None, method, **SHORT))
    for completion in found:
        for values in (*completion.x, *completion.expected, completion.mean):
            assert torch.equal(values[given.observed].view(torch.int64), given.x[given.observed].view(torch.int64))
            assert bool(values.isfinite().all())
        assert not completion.std[given.observed].any()
        assert bool((completion.std[~given.observed] > 0).all())
    assert torch.equal(found[0].x, found[1].x)


@pytest.mark.parametrize("method", ["metropolis_within_gibbs", "importance_resampling"])
def test_a_model_of_missing_values_is_exact_too(method):
    """It is shown zero in place of what is missing, so that its q is wrong, and not the completions of the chain."""
    given = case()
    model = given.exact.vae((6,), **WRONG)
    model.missing = True
    x = given.x.masked_fill(given.hidden, torch.nan)
    assert_conditional(given, METHODS[method](model, x, given.observed), given.conditional())


@pytest.mark.parametrize("num_guesses", [0, 1, 8])
def test_the_evidence_of_what_was_observed(num_guesses):
    """log p^(x_o) is log p(x_o) within its standard error, for proposals from zeros, from one guess and from a mixture of wild ones."""
    given = case()
    guesses = given.x + torch.randn(num_guesses, *given.x.shape) if num_guesses else None
    evidence = evidence_of_observed(given.exact.vae((6,), **WRONG), given.x, given.observed, None, 2000, guesses=guesses)
    assert_mean((evidence.log_likelihood - given.log_p_observed()).exp(), 1.0)
    deviation = evidence.log_likelihood.std() / evidence.std_error(2000).mean()
    assert 0.75 < deviation.item() < 1.35


def test_chunks_change_neither_the_weights_nor_the_odds_of_a_draw():
    """Draws of a stream of one, seven or all samples at a time are in proportion to the weights."""
    given = case()
    for chunk_size in (7, 1000):
        completion = importance_resampling(given.exact.vae((6,), **WRONG), given.x, given.observed, None, 4, 1000, chunk_size)
        assert_conditional(given, completion, given.conditional())
        assert_mean((completion.evidence.log_likelihood - given.log_p_observed()).exp(), 1.0)


@every_method
def test_what_is_said_of_completions(method):
    """log p(x_m | x_o) is exact, whatever the method, and the square error is that of E[x_m | x_o], and what is left of noise."""
    given = case()
    truth, x, exact = given.x[0, given.hidden], given.x, given.conditional()
    model = given.exact.vae((6,))
    options = {"num_pseudo_gibbs": 10, "num_samples": 1000}
    completion = inpaint(model, x, given.observed, None, method, num_completions=2, num_steps=200, **options)
    scores = assess(model, x, given.observed, None, completion, **options)
    assert_mean(scores["mse"], (exact.mean - truth).square().mean() + completion.mean[:, given.hidden].var(0).mean())
    assert_mean((scores["log_p_observed"] - given.log_p_observed()).exp(), 1.0)
    torch.testing.assert_close(scores["log_p_whole"], given.exact.log_prob(x))  # of the true posterior, without any noise
    off = scores["log_p_missing"] - exact.log_prob(truth)
    assert_mean((-off).exp(), 1.0)
    assert bool((scores["effective_sample_size_whole"] > 999.9).all())


def test_means_and_standard_errors():
    """The root of the mean of (1, 3, 8) is 2, and its standard error that of the mean over 2 x 2; NaN is no number."""
    scores = {
        "mse": torch.tensor([1.0, torch.nan, 3, 8]),
        "log_p_missing": torch.tensor([-2.0, -4]),
        "effective_sample_size_whole": torch.ones(1),
    }
    scores |= {"variance": torch.tensor([9.0]), "mse_of_completions": torch.zeros(2)}
    error = torch.tensor([1.0, 3, 8]).std().item() / math.sqrt(3)
    assert summarized(scores) == pytest.approx(
        {
            "rmse": 2.0,
            "rmse_std_error": error / 4,
            "log_p_missing": -3.0,
            "log_p_missing_std_error": 1.0,
            "effective_sample_size_whole": 1.0,
            "std": 3.0,
            "std_std_error": None,
            "rmse_of_completions": 0.0,
            "rmse_of_completions_std_error": None,
        }
    )


def test_only_hidden_values_that_are_known_are_compared():
    given = case()
    x = given.x.clone()
    x[:, 1] = torch.nan  # hidden, and unknown
    x[0] = x[0].masked_fill(given.hidden, torch.nan)
    completion = pseudo_gibbs(given.exact.vae((6,)), x, given.observed, None, 2, 4)
    scores = assess(given.exact.vae((6,)), x.nan_to_num(), given.observed, None, completion, 2, 100)
    assert not scores["mse"].isnan().any()
    model = given.exact.vae((6,))
    model.missing = True
    scores = assess(model, x, given.observed, None, completion, 2, 100)
    assert scores["mse"].isnan().nonzero().tolist() == [[0]]
    expected = (completion.mean - x).square()[:, [4, 5]].mean(1)
    torch.testing.assert_close(scores["mse"][1:], expected[1:])


def a_point() -> VAE:
    """Whose q(z | x) is a code."""
    network = partial(MLP, hidden=(8,))
    posterior = VectorQuantized(network, (6,), (2, 3), num_codes=4)
    return VAE(posterior, Bernoulli(network, (2, 3), (6,)), UniformCodes(posterior))


REFUSED = [
    (
        {"observed": torch.ones(4, 5, dtype=torch.bool)},
        r"observed has shape \(4, 5\), but x has \(4, 6\): every value is observed or is not",
    ),
    ({"num_completions": 0}, "num_completions=0 must be at least 1"),
    ({"num_steps": 0, "method": "pseudo_gibbs"}, "num_steps=0 must be at least 1"),
    ({"num_pseudo_gibbs": 0, "method": "metropolis_within_gibbs"}, "num_pseudo_gibbs=0 must be at least 1"),
    ({"num_samples": 0, "method": "importance_resampling"}, "num_samples=0 must be at least 1"),
    ({"method": "gibbs"}, "method=gibbs must be pseudo_gibbs, metropolis_within_gibbs or importance_resampling"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_cannot_be_completed_is_refused(options, message):
    given = case()
    with pytest.raises(ValueError, match=message):
        inpaint(given.exact.vae((6,)), given.x[:4], **{"observed": given.observed[:4], **SHORT, **options})


@pytest.mark.parametrize("method", METHODS)
def test_a_q_that_is_a_point_has_pseudo_gibbs_alone(method):
    x, observed = torch.rand(4, 6).round(), (~HIDDEN).expand(4, -1)
    with pytest.raises(ValueError, match=r"this q\(z \| x\) is a point: set method=pseudo_gibbs"):
        inpaint(a_point(), x, observed, None, method, **SHORT)
    completion = inpaint(a_point(), x, observed, None, "pseudo_gibbs", **SHORT)
    assert completion.x[:, observed].equal(x[observed].expand(3, -1))
    assert assess(a_point(), x, observed, None, completion).keys() == {"mse", "mse_of_completions", "variance"}
