"""Every objective: a Draw becomes {"loss", ...}. A new objective is one new line below; its yaml is found by itself."""

from functools import partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from vaelab import objectives
from vaelab.likelihoods import Bernoulli
from vaelab.models import VAE
from vaelab.networks import MLP
from vaelab.objectives import ELBO
from vaelab.posteriors import Gaussian
from vaelab.priors import StandardNormal
from vaelab.schedules import Cyclical, Linear, Sigmoid

CONF = Path(__file__).parents[2] / "conf"
X_SHAPE, Z_SHAPE = (1, 4, 4), (3,)


def of_config(name):
    """The objective that `objective=name` composes."""
    with initialize_config_dir(version_base=None, config_dir=str(CONF)):
        return instantiate(compose("config", overrides=[f"objective={name}"]).objective)


OBJECTIVES = {
    "elbo": ELBO,
    "elbo_samples": partial(ELBO, num_samples=5),
    "elbo_k1": partial(ELBO, kl="k1", num_samples=3),
    "elbo_k2": partial(ELBO, kl="k2", num_samples=3),
    "elbo_k3": partial(ELBO, kl="k3", num_samples=3),
    "beta_vae": partial(ELBO, beta=4),
    "auto_encoder": partial(ELBO, beta=0.0),
    "annealed": partial(ELBO, beta=Linear(steps=10)),
    "annealed_sigmoid": partial(ELBO, beta=Sigmoid(center=10, width=2)),
    "annealed_cyclical": partial(ELBO, beta=Cyclical(period=10)),
    "capacity": partial(ELBO, beta=100.0, capacity=5.0),
    "capacity_k1": partial(ELBO, beta=100.0, capacity=5.0, kl="k1"),
    "capacity_annealed": partial(ELBO, beta=100.0, capacity=Linear(end=25.0)),
    "free_bits": partial(ELBO, free_bits=0.01),
    "free_bits_k1": partial(ELBO, free_bits=0.01, kl="k1", num_samples=3),
    "free_bits_annealed": partial(ELBO, beta=Linear(start=0.5), free_bits=2.0),
    **{f"objective={path.stem}": partial(of_config, path.stem) for path in sorted((CONF / "objective").glob("*.yaml"))},
}

every_objective = pytest.mark.parametrize("build", OBJECTIVES.values(), ids=OBJECTIVES.keys())
steps = pytest.mark.parametrize("step", [0, 3, 10_000])


@pytest.fixture
def model():
    network = partial(MLP, hidden=(8,))
    return VAE(Gaussian(network, X_SHAPE, Z_SHAPE), Bernoulli(network, Z_SHAPE, X_SHAPE), StandardNormal(Z_SHAPE))


@pytest.fixture
def x():
    return torch.rand(16, *X_SHAPE).round()


def test_every_objective_is_tested():
    tested = {type(build()) for build in OBJECTIVES.values()}
    assert tested == {getattr(objectives, name) for name in objectives.__all__} - {objectives.Objective}


@steps
@every_objective
def test_loss_is_a_finite_scalar_that_trains_encoder_and_decoder(build, step, model, x):
    objective = build()
    terms = objective(model(x, num_samples=objective.num_samples), step)
    assert terms["loss"].shape == ()
    assert terms["loss"].isfinite()
    terms["loss"].backward()
    for part in (model.posterior, model.likelihood):
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in part.parameters())
        assert any(parameter.grad.any() for parameter in part.parameters())


@steps
@every_objective
def test_other_terms_are_detached_scalars(build, step, model, x):
    objective = build()
    terms = objective(model(x, num_samples=objective.num_samples), step)
    for name, value in terms.items():
        assert isinstance(value, torch.Tensor), name
        assert value.shape == (), name
        assert value.isfinite(), name
        assert value.requires_grad == (name == "loss"), name


@every_objective
def test_a_few_steps_make_the_loss_smaller(build, model, x):
    objective = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        terms = objective(model(x, num_samples=objective.num_samples), 0)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
    assert sum(losses[-5:]) < sum(losses[:5])


@steps
@pytest.mark.parametrize("kl", ["analytic", "k1", "k2", "k3"])
@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0, Linear(steps=10)], ids=["0", "1", "4", "linear"])
def test_terms_of_the_elbo(beta, kl, step, model, x):
    """elbo is a bound at beta = 1 whatever the loss is, and has its sign."""
    terms = ELBO(beta=beta, kl=kl, num_samples=2)(model(x, num_samples=2), step)
    assert set(terms) == {"loss", "elbo", "distortion", "rate"} | ({"beta"} if callable(beta) else set())
    assert terms["elbo"] < 0 < terms["distortion"]  # binary x
    torch.testing.assert_close(terms["elbo"], -(terms["distortion"] + terms["rate"]), rtol=0, atol=0)
    value = beta(step) if callable(beta) else beta
    torch.testing.assert_close(terms["loss"].detach(), terms["distortion"] + value * terms["rate"])
    if callable(beta):
        assert terms["beta"].item() == pytest.approx(value)


def test_terms_of_the_elbo_are_those_of_the_draw(model, x):
    draw = model(x, num_samples=4)
    terms = ELBO(kl="k1", num_samples=4)(draw, 0)
    torch.testing.assert_close(terms["elbo"], draw.log_w.mean().detach())
    torch.testing.assert_close(terms["distortion"], -draw.log_px.mean().detach())
    torch.testing.assert_close(terms["rate"], (draw.latent.log_q - draw.latent.log_p).mean().detach())


@pytest.mark.parametrize("capacity", [0.0, 0.1, 25.0])
def test_terms_with_a_capacity(capacity, model, x):
    draw = model(x)
    terms, plain = ELBO(beta=10.0, capacity=capacity)(draw, 0), ELBO()(draw, 0)
    assert set(terms) == {"loss", "elbo", "distortion", "rate", "capacity"}
    assert all(terms[name] == plain[name] for name in ("elbo", "distortion", "rate"))
    assert terms["capacity"].item() == pytest.approx(capacity)
    torch.testing.assert_close(terms["loss"], plain["distortion"] + 10 * (plain["rate"] - capacity).abs())


def test_capacity_follows_its_schedule(model, x):
    draw, objective = model(x), ELBO(capacity=Linear(start=0.0, end=8.0, steps=4))
    assert [objective(draw, step)["capacity"].item() for step in (0, 1, 2, 4, 9)] == pytest.approx([0, 2, 4, 8, 8])


def test_free_bits_report_the_rate_itself(model, x):
    """Dimensions below lambda pay lambda; the elbo that is reported knows nothing of it."""
    draw = model(x)
    terms, plain = ELBO(free_bits=50.0)(draw, 0), ELBO()(draw, 0)
    assert all(terms[name] == plain[name] for name in ("elbo", "distortion", "rate"))
    torch.testing.assert_close(terms["loss"], plain["distortion"] + 3 * 50.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl": "k4"}, "objective.kl=k4 is unknown: choose analytic, k1, k2, k3"),
        ({"kl": ""}, "choose analytic, k1, k2, k3"),
        ({"beta": -1.0}, "objective.beta=-1.0 would reward a large KL"),
        ({"num_samples": 0}, "objective.num_samples=0 must be at least 1"),
        ({"free_bits": -0.1}, "objective.free_bits=-0.1 must not be negative"),
        ({"capacity": 5.0, "free_bits": 0.5}, "objective.capacity=5.0 and objective.free_bits=0.5 both .*: choose one"),
        ({"capacity": 0.0, "free_bits": 0.5}, "objective.capacity=0.0 and objective.free_bits=0.5 both .*: choose one"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ELBO(**options)
