"""Annealed importance sampling: what HMC leaves alone, what weights mean, and between which bounds an evidence lies that is known."""

import inspect
import math
from functools import partial

import pytest
import torch
import yaml
from forked_scripts import ROOT
from linear_gaussian import LinearGaussian, orthogonal
from standard_errors import assert_mean, errors_off
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal

from vaelab import VAE, flows, likelihoods, posteriors, priors
from vaelab.data import InMemory
from vaelab.distributions import log_mean_exp
from vaelab.metrics.ais import Path, Sampler, ais, anneal, hmc_step, leapfrog, temperatures, tuned_step_sizes
from vaelab.metrics.target import simulate, target
from vaelab.models import HierarchicalVAE
from vaelab.networks import MLP, DenseLadder

pytestmark = pytest.mark.usefixtures("double")

COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
STEP = torch.tensor([0.2], dtype=torch.float64)


def between_gaussians() -> tuple[Path, MultivariateNormal]:
    """From N(0, I) to a correlated Gaussian that is not at the origin."""
    p, f = Independent(Normal(torch.zeros(2), torch.ones(2)), 1), MultivariateNormal(torch.tensor([1.0, -0.5]), COVARIANCE)
    return Path(p.log_prob, lambda z: f.log_prob(z) - p.log_prob(z)), f


class Rows:
    """Test data that are given."""

    def __init__(self, x: Tensor, y: Tensor | None = None) -> None:
        self.splits = {"test": InMemory(x, torch.zeros(len(x), dtype=torch.long) if y is None else y)}

    def setup(self, stage: str) -> None: ...

    def batches(self, split: str, device: torch.device | str = "cpu"):
        data = self.splits[split]
        yield from zip(data.x.split(3), data.y.split(3), strict=True)


class Counting(nn.Module):
    """A likelihood that counts the z that it decodes."""

    def __init__(self, likelihood: nn.Module) -> None:
        super().__init__()
        self.likelihood, self.count = likelihood, 0

    def forward(self, z: Tensor, y: Tensor | None = None):
        self.count += z.shape[:-1].numel()
        return self.likelihood(z, y)


def correlated(dims: int = 4, latent_dims: int = 2, sigma: float = 0.5) -> LinearGaussian:
    """W with columns that are not orthogonal, so that p(z | x) is not diagonal."""
    return LinearGaussian(torch.randn(dims, latent_dims) + 0.7, torch.randn(dims), sigma)


def test_leapfrog_is_reversible():
    """From the end with the momentum turned round, it leads back to the start."""
    path, _ = between_gaussians()
    start, momentum = path.at(torch.randn(3, 4, 2)), torch.randn(3, 4, 2)
    step = torch.tensor([0.1, 0.2, 0.3, 0.4])
    end, end_momentum = leapfrog(path, start, momentum, 0.7, step, 9)
    back, back_momentum = leapfrog(path, end, -end_momentum, 0.7, step, 9)
    assert (end.z - start.z).abs().max() > 0.5
    torch.testing.assert_close(back.z, start.z)
    torch.testing.assert_close(back_momentum, -momentum)


def test_leapfrog_preserves_volume():
    """The Jacobian of (z, momentum) has determinant 1, here where the force is not linear."""
    path = Path(lambda z: -z.pow(4).sum(-1), lambda z: z.sin().sum(-1))

    def flow(state: Tensor) -> Tensor:
        z, momentum = state.view(2, 1, 1, 2)
        end, end_momentum = leapfrog(path, path.at(z), momentum, 0.5, STEP, 5)
        return torch.cat([end.z.flatten(), end_momentum.flatten()])

    state, h = torch.tensor([0.3, -0.8, 0.5, 1.1]), 1e-5
    jacobian = torch.stack([(flow(state + h * e) - flow(state - h * e)) / (2 * h) for e in torch.eye(4)], dim=1)
    assert (jacobian - torch.eye(4)).abs().max() > 0.3
    assert torch.linalg.det(jacobian).item() == pytest.approx(1, abs=1e-8)


def test_leapfrog_of_a_harmonic_oscillator():
    """One step for log f = -z^2 / 2 from z = 1 at rest: z = 1 - e^2 / 2, momentum -e (1 - e^2 / 4)."""
    path = Path(lambda z: -z.square().sum(-1) / 2, lambda z: 0 * z.sum(-1))
    end, momentum = leapfrog(path, path.at(torch.ones(1, 1, 1)), torch.zeros(1, 1, 1), 1.0, STEP, 1)
    assert end.z.item() == pytest.approx(1 - 0.02, abs=1e-14)
    assert momentum.item() == pytest.approx(-0.2 * (1 - 0.01), abs=1e-14)


@pytest.mark.parametrize("step_size", [0.1, 0.6])
def test_hmc_leaves_its_density_invariant(step_size):
    """Samples of f are samples of f after moves too, however coarse the steps are: mean and covariance stay."""
    path, f = between_gaussians()
    point = path.at(f.sample((20_000, 1)))
    for _ in range(4):
        before = point.z
        point, probability = hmc_step(path, point, 1.0, torch.tensor([step_size]), 4)
        assert (point.z != before).any()
    assert (probability < 1).any()
    z = point.z[:, 0]
    assert_mean(z, f.mean)
    assert_mean((z - f.mean)[:, :, None] * (z - f.mean)[:, None], COVARIANCE)


def test_hmc_finds_its_density():
    """Chains that start elsewhere end up as samples of f_beta, at beta = 0.5 of the Gaussian with the mean of the two precisions."""
    path, f = between_gaussians()
    precision = (torch.eye(2) + f.precision_matrix) / 2
    covariance = torch.linalg.inv(precision)
    mean = covariance @ f.precision_matrix @ f.mean / 2
    point = path.at(3 + torch.randn(5000, 1, 2))
    for _ in range(25):
        point, _ = hmc_step(path, point, 0.5, torch.tensor([0.3]), 5)
    z = point.z[:, 0]
    assert_mean(z, mean)
    assert_mean((z - mean)[:, :, None] * (z - mean)[:, None], covariance)


def test_a_trajectory_that_diverges_is_rejected():
    """Far too large steps lead to infinity, and the chain stays where it is."""
    path = Path(lambda z: -z.pow(4).sum(-1), lambda z: z.sum(-1))
    start = path.at(torch.randn(5, 2, 1))
    end, probability = hmc_step(path, start, 1.0, torch.tensor([100.0, 100.0]), 10)
    assert torch.equal(end.z, start.z)
    assert torch.equal(end.log_r, start.log_r)
    assert torch.equal(probability, torch.zeros(5, 2))


def test_temperatures():
    """t / T; or the paper's sigmoid(4 (2 t / T - 1)), from 0 to 1, symmetric, and slowest at the ends."""
    assert temperatures(4, "linear") == [0, 0.25, 0.5, 0.75, 1]
    ends = [1 / (1 + math.exp(-4 * (2 * t / 4 - 1))) for t in range(5)]
    expected = [(value - ends[0]) / (ends[-1] - ends[0]) for value in ends]
    assert temperatures(4) == pytest.approx(expected, abs=1e-14)
    assert temperatures(1) == [0, 1]


def test_weights_without_moves_that_matter():
    """Where log w = 3 everywhere, every chain has log W = 3, and in reverse -3, at any schedule."""
    path = Path(lambda z: -z.square().sum(-1) / 2, lambda z: 3 + 0 * z.sum(-1))
    z, steps = torch.randn(2, 5, 2), torch.full((6, 5), 0.3)
    for betas, expected in ((temperatures(7), 3.0), (temperatures(7)[::-1], -3.0)):
        torch.testing.assert_close(anneal(path, z, betas, steps, 2).log_weight, torch.full((2, 5), expected))


@pytest.mark.parametrize("start", ["prior", "encoder"])
def test_one_temperature_is_importance_sampling(start):
    """log (1/K) sum_k p(x, z_k) / r(z_k) for the same z_k, exactly."""
    theory = correlated()
    here = target(theory.vae((4,), shift=0.2, widen=1.3), theory.sample(3), torch.zeros(3))
    sampler = Sampler(num_chains=6, num_temperatures=1, start=start)
    torch.manual_seed(3)
    found = sampler.forward(here)
    torch.manual_seed(3)
    sampler.initial(here)  # of the chains that tune nothing here
    z = sampler.initial(here)
    r = here.prior if start == "prior" else here.posterior
    expected = log_mean_exp(here.log_joint(z) - r.log_prob(z))
    torch.testing.assert_close(found.log_likelihood, expected, rtol=0, atol=1e-12)
    assert found.acceptance.isnan().all()


@pytest.mark.parametrize(("start", "schedule", "num_temperatures"), [("prior", "sigmoid", 1000), ("encoder", "linear", 100)])
def test_exact_evidence_lies_between_the_bounds(start, schedule, num_temperatures):
    """A thousand temperatures from p(z), or a hundred from a spoiled q: both within 0.05 nats of log p(x), and in the mean on its two
    sides."""
    theory = correlated(dims=3)
    model = theory.vae((3,), shift=0.1, widen=1.2)
    x, z = simulate(target(model, torch.zeros(100, 3), torch.zeros(100)))
    here, exact = target(model, x, torch.zeros(100)), theory.log_prob(x)
    sampler = Sampler(num_chains=20, num_temperatures=num_temperatures, num_leapfrog_steps=1, start=start, schedule=schedule)
    forward, reverse = sampler.forward(here).log_likelihood, sampler.reverse(here, z).log_likelihood
    assert forward.mean().item() == pytest.approx(exact.mean().item(), abs=0.05)
    assert reverse.mean().item() == pytest.approx(exact.mean().item(), abs=0.05)
    for bound, side in ((forward, 1), (reverse, -1)):
        below = side * (exact - bound)
        assert below.mean() > -5 * below.std() / 10


def test_few_temperatures_leave_a_gap():
    """With ten from the prior, the bounds are several of their standard errors off, each on its side, and weights are unbiased still."""
    theory = correlated()
    model = theory.vae((4,))
    x = theory.sample(1).expand(4000, 4)
    here, z = target(model, x, torch.zeros(4000)), theory.posterior(x[:1]).sample((4000,)).transpose(0, 1)
    sampler, exact = Sampler(num_chains=1, num_temperatures=10, num_leapfrog_steps=2, start="prior"), theory.log_prob(x[:1])
    forward, reverse = sampler.forward(here).log_likelihood, sampler.reverse(here, z).log_likelihood
    assert errors_off(forward, exact) > 10
    assert forward.mean() < exact < reverse.mean()
    assert_mean((forward - exact).exp(), 1.0)
    assert_mean((exact - reverse).exp(), 1.0)


def test_step_sizes_are_tuned_for_each_example():
    """The acceptance is near its target on densities a hundred times as narrow as others, with steps that are so too."""
    widths = torch.tensor([1.0, 0.1, 0.01])
    path = Path(lambda z: -(z / widths[:, None]).square().sum(-1) / 2, lambda z: 0 * z.sum(-1))
    z = torch.randn(20, 3, 5) * widths[:, None]
    steps = tuned_step_sizes(path, z, 300, "linear", 5, 0.65)
    assert steps.shape == (299, 3)
    acceptance = anneal(path, z, temperatures(300, "linear"), steps, 5).acceptance[100:].mean(0)
    torch.testing.assert_close(acceptance, torch.full((3,), 0.65), rtol=0, atol=0.08)
    torch.testing.assert_close(steps[-100:].mean(0) / steps[-100:].mean(), widths / widths.mean(), rtol=0.2, atol=0)


@pytest.mark.parametrize("num_temperatures", [1, 2, 7, 102])
def test_the_cost_is_what_is_reported(num_temperatures):
    """As many z are decoded as num_decodings says, besides the one of the model's own draw."""
    theory = correlated()
    model = theory.vae((4,))
    model.likelihood = counting = Counting(model.likelihood)
    report = ais(model, Rows(theory.sample(5)), num_images=5, num_simulated=0, num_temperatures=num_temperatures, num_leapfrog_steps=1)
    assert counting.count == 5 * (report["ais_decodings"] + 1)


def test_the_report():
    """Of the first images; the standard errors are of means over them, and the gap is that of pairs."""
    theory = correlated()
    model, data = theory.vae((4,), widen=1.1).train(), Rows(theory.sample(20))
    exact = theory.log_prob(data.splits["test"].x[:10])
    report = ais(model, data, num_images=10, num_simulated=7, num_temperatures=50, num_chains=5, num_leapfrog_steps=2)
    assert report["ais_log_likelihood"] == pytest.approx(exact.mean().item(), abs=0.1)
    assert report["ais_log_likelihood_std_error"] == pytest.approx(exact.std().item() / math.sqrt(10), rel=0.1)
    assert report["bdmc_gap"] == pytest.approx(report["ais_reverse"] - report["ais_forward"], abs=1e-12)
    assert report["bdmc_gap_std_error"] < 0.1 < report["ais_forward_std_error"]
    assert 1 <= report["ais_effective_sample_size"] <= 5
    assert report["ais_acceptance"] == pytest.approx(0.65, abs=0.1)
    assert (report["ais_num_images"], report["ais_num_simulated"]) == (10, 7)
    assert model.training
    assert ais(model, data, num_images=50, num_simulated=50, num_temperatures=2)["ais_num_simulated"] == 20
    alone = ais(model, data, num_images=1, num_simulated=0, num_temperatures=1)
    assert (alone["ais_log_likelihood_std_error"], alone["ais_acceptance"], alone["ais_num_simulated"]) == (None, None, 0)
    assert "bdmc_gap" not in alone


def test_a_conditional_model_is_shown_y():
    """p(z | y) = N(3 y, I) and x = z + noise: log p(x | y) is that of N(3 y, 1 + sigma^2)."""
    likelihood, prior = likelihoods.Gaussian(partial(MLP, hidden=()), (1,), (1,), sigma=0.5), priors.ConditionalGaussian((1,), 2)
    (linear,) = (module for module in likelihood.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        linear.weight.fill_(1.0)
        linear.bias.zero_()
        prior.loc.copy_(torch.tensor([[0.0], [3.0]]))
    model = VAE(posteriors.Gaussian(partial(MLP, hidden=()), (1,), (1,), num_classes=2), likelihood, prior, num_classes=2)
    y = torch.arange(12) % 2
    x = 3.0 * y[:, None] + torch.randn(12, 1)
    report = ais(
        model, Rows(x, y), num_images=12, num_simulated=12, start="prior", num_temperatures=100, num_leapfrog_steps=3, num_chains=100
    )
    exact = Normal(3.0 * y[:, None], math.sqrt(1.25)).log_prob(x).mean()
    assert report["ais_log_likelihood"] == pytest.approx(exact.item(), abs=0.05)
    assert abs(report["bdmc_gap"]) < 0.05


def test_missing_values_are_not_scored():
    """log p of what was observed: x_2 of (x_1, x_2) alone."""
    theory = orthogonal(dims=2, latent_dims=1)
    model = theory.vae((2,))
    model.missing = True
    x = torch.tensor([[math.nan, 0.4]])
    report = ais(model, Rows(x), num_simulated=0, num_temperatures=50, num_chains=200, num_leapfrog_steps=2)
    scale = (theory.weight[1].square().sum() + theory.sigma**2).sqrt()
    assert report["ais_log_likelihood"] == pytest.approx(Normal(theory.bias[1], scale).log_prob(x[0, 1]).item(), abs=0.05)


@pytest.mark.parametrize("prior", ["vamp", "mixture"])
def test_other_priors(prior):
    """Bounds of simulated data meet for a prior that is no Gaussian."""
    theory = correlated()
    model = theory.vae((4,))
    model.prior = priors.Mixture((2,), 3) if prior == "mixture" else priors.VampPrior(model.posterior, (4,), 3)
    report = ais(model, Rows(theory.sample(40)), num_images=1, num_simulated=40, num_temperatures=30, num_chains=40, num_leapfrog_steps=2)
    assert abs(report["bdmc_gap"]) < 0.05
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_images": 0}, "num_images=0"),
        ({"num_simulated": -1}, "num_simulated=-1"),
        ({"num_temperatures": 0}, "num_temperatures=0 must be at least 1"),
        ({"num_chains": 0}, "num_chains=0"),
        ({"num_leapfrog_steps": 0}, "num_leapfrog_steps=0"),
        ({"start": "posterior"}, "start=posterior is unknown: choose prior or encoder"),
        ({"schedule": "cosine"}, "schedule=cosine is unknown: choose linear or sigmoid"),
        ({"target_acceptance": 1.0}, "target_acceptance=1.0 must be between"),
    ],
)
def test_options_out_of_range(wrong, message):
    theory = orthogonal()
    with pytest.raises(ValueError, match=message):
        ais(theory.vae((6,)), Rows(theory.sample(2)), **wrong)


def several() -> HierarchicalVAE:
    ladder = DenseLadder((6,), (4, 3), MLP, hidden=8)
    return HierarchicalVAE(ladder, partial(likelihoods.Bernoulli, network=MLP, event_shape=(6,)), priors.StandardNormal((3,)))


def codes() -> VAE:
    likelihood = likelihoods.Gaussian(MLP, (2, 3), (6,))
    return VAE(posteriors.Categorical(MLP, (6,), (2, 3)), likelihood, priors.UniformCategorical((2, 3)))


@pytest.mark.parametrize(("model", "message"), [(several, "it has 2: use metrics"), (codes, "z is of one-hot codes: use metrics")])
def test_models_that_it_is_not_for(model, message):
    """Several latent variables, or a z that is a code: refused in one line that says what to do."""
    with pytest.raises(ValueError, match=message):
        ais(model(), Rows(torch.rand(2, 6)), num_temperatures=2)


def test_a_flow_posterior_is_no_start():
    """It has no density at any z; but from the prior, log p(x) is found without it."""
    theory, posterior = orthogonal(), posteriors.Flow(MLP, (6,), (2,), flows.Planar)
    model, data = VAE(posterior, theory.vae((6,)).likelihood, priors.StandardNormal((2,))), Rows(theory.sample(2))
    with pytest.raises(ValueError, match="set start=prior"):
        ais(model, data, start="encoder", num_temperatures=2)
    assert ais(model, data, start="prior", num_temperatures=2)["ais_num_images"] == 2


def test_the_configuration_names_every_option():
    """conf/metrics/ais.yaml has the options of the function with their defaults, and no other."""
    (options,) = yaml.safe_load((ROOT / "conf" / "metrics" / "ais.yaml").read_text()).values()
    defaults = {name: parameter.default for name, parameter in list(inspect.signature(ais).parameters.items())[2:]}
    assert options == {"_target_": "vaelab.metrics.ais.ais", "_partial_": True, **defaults}
