"""Every objective: a Draw becomes {"loss", ...}. A new objective is one new line below; its yaml is found by itself."""

from functools import cache, partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.distributions import MultivariateNormal

from vaelab import objectives
from vaelab.conditional import Conditional
from vaelab.likelihoods import Bernoulli
from vaelab.models import VAE, SemiSupervisedVAE
from vaelab.networks import MLP
from vaelab.objectives import (
    CIWAE,
    DIP,
    ELBO,
    GECO,
    IWAE,
    M2,
    MIWAE,
    MMD,
    PIWAE,
    STL,
    VIMCO,
    VQ,
    BetaTC,
    DReG,
    FactorTC,
    ImportanceWeighted,
    Objective,
    PriorFit,
    Renyi,
    Sum,
)
from vaelab.posteriors import Categorical, Gaussian, GumbelSoftmax, VectorQuantized
from vaelab.priors import Mixture, StandardNormal, UniformCategorical, UniformCodes
from vaelab.schedules import Cyclical, Linear, Sigmoid

CONF = Path(__file__).parents[2] / "conf"
X_SHAPE, Z_SHAPE, NUM_CLASSES = (1, 4, 4), (3,), 3
NETWORK = partial(MLP, hidden=(8,))

# what a config leaves open, and what is too large for a test
OVERRIDES = {
    "beta_tc": ["objective.num_examples=100"],
    "factor_tc": ["objective.tc.discriminator.hidden=[8]"],
    "geco": ["objective.target=8"],
}


@cache
def config_of(name):
    """What `objective=name` composes."""
    with initialize_config_dir(version_base=None, config_dir=str(CONF)):
        config = compose("config", overrides=[f"objective={name}", "latent_dim=3", *OVERRIDES.get(name, [])])
        OmegaConf.resolve(config.objective)
        return config.objective


def of_config(name):
    """The objective that it builds."""
    return instantiate(config_of(name), _convert_="all")


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
    "free_bits_of_latents": partial(ELBO, free_bits=0.1, free_bits_of="latent"),
    "free_bits_annealed": partial(ELBO, beta=Linear(start=0.5), free_bits=2.0),
    "geco": partial(GECO, target=8.0),
    "geco_k1": partial(GECO, target=8.0, kl="k1", num_samples=3),
    "iwae": IWAE,
    "iwae_of_one": partial(IWAE, num_samples=1),
    "miwae": partial(MIWAE, num_bounds=2, samples_per_bound=3),
    "piwae": partial(PIWAE, num_bounds=2, samples_per_bound=3),
    "ciwae": partial(CIWAE, beta=0.3, num_samples=5),
    "stl": STL,
    "stl_samples": partial(STL, num_samples=5),
    "dreg": DReG,
    "renyi": partial(Renyi, alpha=0.5, num_samples=5),
    "renyi_negative": partial(Renyi, alpha=-1.0, num_samples=5),
    "vimco": partial(VIMCO, num_samples=5),
    "beta_tc": partial(BetaTC, num_examples=100),
    "beta_tc_weighted": partial(BetaTC, num_examples=100, estimator="mws"),
    "factor_tc": partial(FactorTC, Z_SHAPE, NETWORK),
    "dip_i": partial(DIP, covariance="i"),
    "dip_ii": partial(DIP, covariance="ii"),
    "mmd": MMD,
    "mmd_rbf": partial(MMD, kernel="rbf", scales=[1.0]),
    "m2": M2,
    "m2_k1": partial(M2, kl="k1", alpha=1.0),
    "prior_fit": PriorFit,
    "prior_fit_samples": partial(PriorFit, num_samples=5),
    "vq": VQ,
    "vq_uncommitted": partial(VQ, commitment=0.0),
    "sum": lambda: Sum(weights={"mmd": Linear(end=10.0)}, bound=DReG(4), mmd=MMD(), dip=DIP("ii")),
    **{f"objective={path.stem}": partial(of_config, path.stem) for path in sorted((CONF / "objective").glob("*.yaml"))},
}

every_objective = pytest.mark.parametrize("build", OBJECTIVES.values(), ids=OBJECTIVES.keys())
steps = pytest.mark.parametrize("step", [0, 3, 10_000])


def vae(posterior=Gaussian, prior=None, likelihood=Bernoulli):
    """Its posterior starts away from the prior, so that there is something to learn for those who compare the two alone."""
    q = posterior(NETWORK, X_SHAPE, Z_SHAPE)
    nn.init.ones_(q.network.layers[-2].bias[:3])
    return VAE(q, likelihood(NETWORK, Z_SHAPE, X_SHAPE), StandardNormal(Z_SHAPE) if prior is None else prior)


def with_learned_prior():
    return vae(prior=Mixture(Z_SHAPE, num_components=2))


def categorical():
    return vae(Categorical, UniformCategorical(Z_SHAPE))


def of_a_codebook():
    return vae(partial(VectorQuantized, num_codes=5), partial(UniformCodes))


def with_learned_codes():
    return vae(partial(VectorQuantized, num_codes=5, update="gradient"), partial(UniformCodes))


def relaxed():
    return vae(GumbelSoftmax, UniformCategorical(Z_SHAPE))


def semi_supervised(family=Gaussian, prior=StandardNormal):
    posterior, likelihood = family(NETWORK, X_SHAPE, Z_SHAPE, NUM_CLASSES), Bernoulli(NETWORK, Z_SHAPE, X_SHAPE, NUM_CLASSES)
    return SemiSupervisedVAE(Categorical(NETWORK, X_SHAPE, (NUM_CLASSES,)), posterior, likelihood, prior(Z_SHAPE), NUM_CLASSES)


# The model that an objective is for, if not any VAE, and the parts of it that it trains, if not encoder and decoder.
MODELS = {VIMCO: categorical, M2: semi_supervised, PriorFit: with_learned_prior, VQ: of_a_codebook}
TRAINS = {
    M2: ("classifier", "posterior", "likelihood"),
    PriorFit: ("prior",),
    FactorTC: ("posterior",),
    DIP: ("posterior",),
    MMD: ("posterior",),
}


def model_for(objective):
    return MODELS.get(type(objective), vae)()


@pytest.fixture
def model():
    return VAE(Gaussian(NETWORK, X_SHAPE, Z_SHAPE), Bernoulli(NETWORK, Z_SHAPE, X_SHAPE), StandardNormal(Z_SHAPE))


@pytest.fixture
def x():
    return torch.rand(16, *X_SHAPE).round()


@pytest.fixture
def y():
    """Of some examples the label is not known."""
    return torch.arange(16) % (NUM_CLASSES + 1) - 1


def test_every_objective_is_tested():
    tested = {type(part) for build in OBJECTIVES.values() for part in build().modules() if isinstance(part, Objective)}
    assert tested == {getattr(objectives, name) for name in objectives.__all__} - {Objective, ImportanceWeighted}


@steps
@every_objective
def test_loss_is_a_finite_scalar_that_trains_its_parts(build, step, x, y):
    objective = build()
    model = model_for(objective)
    terms = objective(objective.draw(model, x, y), step)
    assert terms["loss"].shape == ()
    assert terms["loss"].dtype == torch.float32
    assert terms["loss"].isfinite()
    terms["loss"].backward()
    for name in TRAINS.get(type(objective), ("posterior", "likelihood")):
        part = getattr(model, name)
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in part.parameters())
        assert any(parameter.grad.any() for parameter in part.parameters())
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in objective.parameters())


@steps
@every_objective
def test_other_terms_are_detached_scalars(build, step, x, y):
    objective = build()
    terms = objective(objective.draw(model_for(objective), x, y), step)
    assert len(terms) > 1
    for name, value in terms.items():
        assert isinstance(value, torch.Tensor), name
        assert value.shape == (), name
        assert value.isfinite(), name
        assert value.requires_grad == (name == "loss"), name
    if "elbo" in terms:
        torch.testing.assert_close(terms["elbo"], -(terms["distortion"] + terms["rate"]))


@every_objective
def test_without_gradients_it_has_the_same_value(build, x, y):
    objective = build().eval()
    model = model_for(objective).eval()
    torch.manual_seed(1)
    expected = objective(objective.draw(model, x, y), 5)
    torch.manual_seed(1)
    with torch.no_grad():
        found = objective(objective.draw(model, x, y), 5)
    torch.testing.assert_close(found, {name: value.detach() for name, value in expected.items()})


# The total correlation of FactorTC alone is what two players play for: it need not fall.
MINIMISED = {name: build for name, build in OBJECTIVES.items() if name != "factor_tc"}


@pytest.mark.parametrize("build", MINIMISED.values(), ids=MINIMISED.keys())
def test_a_few_steps_make_the_loss_smaller(build, x, y):
    objective = build()
    model = model_for(objective)
    optimizer = torch.optim.Adam([{"params": list(model.parameters())}, *objective.parameter_groups()], lr=0.01)
    losses = []
    for _ in range(60):
        terms = objective(objective.draw(model, x, y), 0)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
    assert sum(losses[-5:]) < sum(losses[:5])


@every_objective
def test_the_model_is_drawn_as_often_as_asked(build, x, y):
    objective = build()
    draw = objective.draw(model_for(objective), x, y)
    num_samples = NUM_CLASSES if isinstance(objective, M2) else objective.num_samples
    assert draw.log_w.shape == (num_samples, 16)
    assert draw.x is x
    assert draw.y is y


@every_objective
def test_samples_that_are_not_reparameterised_are_refused(build, x):
    """By all but those whose gradient comes another way; and without a gradient nobody minds."""
    objective = build()
    if isinstance(objective, VIMCO | M2 | PriorFit):
        assert isinstance(objective, PriorFit | M2) or not objective.reparameterised
        return
    with pytest.raises(ValueError, match=r"not reparameterised, so the gradient would miss how q chooses them: set objective=vimco"):
        objective.draw(categorical(), x)
    with torch.no_grad():
        assert objective.draw(categorical(), x).log_w.isfinite().all()


@pytest.mark.parametrize(
    ("objective", "model", "message"),
    [
        (VIMCO(3), vae, "VIMCO is for posteriors without reparameterised samples: set posterior=categorical"),
        (VIMCO(3), semi_supervised, "VIMCO is for posteriors without reparameterised samples: set posterior=categorical"),
        (Sum(bound=VIMCO(3), mmd=MMD()), categorical, "not reparameterised"),
        (M2(), vae, "set model=m2 num_classes="),
        (M2(), categorical, "set model=m2 num_classes="),
        (ELBO(), semi_supervised, r"not reparameterised.*for model=m2, objective=m2"),
        (PriorFit(), vae, "this prior has no parameters. Set prior=flow or prior=mixture"),
        (PriorFit(), categorical, "this prior has no parameters. Set prior=flow or prior=mixture"),
        (ELBO(), with_learned_prior, "no closed-form KL .*: set objective.kl=k1"),
        (ELBO(kl="k1", free_bits=0.1), with_learned_prior, "does not factorise over z; .*: set objective.free_bits_of=latent"),
        (GECO(8.0), with_learned_prior, "no closed-form KL .*: set objective.kl=k1"),
        (BetaTC(num_examples=100), with_learned_prior, "needs q and p that factorise .*: use posterior=gaussian prior=standard_normal"),
        (VQ(), vae, "needs codes of a codebook: set posterior=vector_quantized prior=uniform_codes, or objective=elbo"),
        (BetaTC(), vae, "needs the size of the training data: set objective.num_examples"),
        (M2(), partial(semi_supervised, Categorical, UniformCategorical), "not reparameterised"),
        (PriorFit(), semi_supervised, "not for semi-supervised models"),
        (ELBO(kl="k1"), with_learned_codes, "no gradient for the codebook: set objective=vq [(]or posterior.update=ema for"),
        (
            FactorTC(Z_SHAPE, NETWORK),
            relaxed,
            "the numbers that z is made of, which must not be relaxed codes: use posterior=gaussian",
        ),
        (MMD(), relaxed, "choose a prior of the same kind"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Objective) else getattr(value, "__name__", ""),
)
def test_models_of_another_kind_are_refused_in_words(objective, model, message, x):
    with pytest.raises(ValueError, match=message):
        objective(objective.draw(model(), x), 0)


@pytest.mark.parametrize("build", [partial(DIP, "i"), partial(DIP, "ii"), partial(FactorTC, Z_SHAPE, NETWORK), MMD])
def test_penalties_of_a_batch_need_two_examples(build, x):
    with pytest.raises(ValueError, match=r"set data.batch_size to at least 2"):
        build()(vae()(x[:1]), 0)


BOUNDS = {name: build for name, build in OBJECTIVES.items() if build().not_a_bound is None and not isinstance(build(), PriorFit)}


@steps
@pytest.mark.parametrize("build", BOUNDS.values(), ids=BOUNDS.keys())
def test_of_what_is_a_bound_the_loss_is_minus_the_bound(build, step, x):
    """The bound by which its checkpoints are chosen, and at every step."""
    objective = build()
    draw = objective.draw(model_for(objective), x)
    terms = objective(draw, step)
    bound = objective.bound(draw).mean() if isinstance(objective, ImportanceWeighted) else terms["elbo"]
    torch.testing.assert_close(terms["loss"], -bound)


REASONS = {
    "annealed": "a schedule changes a weight of the rate",
    "beta_tc": "beta=6 weigh parts of the rate",
    "beta_vae": "beta=4 weighs the rate",
    "capacity": "the rate is held to capacity=5",
    "capacity_annealed": "a schedule changes a weight of the rate",
    "factor_tc": "it has an adversary",
    "free_bits": "free_bits=0.01 leave a part of the rate out",
    "geco": "the distortion is held to target=8",
    "m2": "labels weigh alpha=1",
    "mmd": "it is a penalty alone",
    "objective=dip_i": "it is a sum of elbo and dip",
    "objective=wae": "it is a sum of elbo and mmd",
    "renyi_negative": "alpha=-1 gives no lower bound",
    "vq": "the distance to the codes is added (commitment=0.25)",
    **dict.fromkeys(
        [f"objective={name}" for name in ("elbo", "iwae", "miwae", "piwae", "ciwae", "stl", "dreg", "renyi", "vimco", "prior_fit")]
    ),
}


@pytest.mark.parametrize(("name", "reason"), REASONS.items())
def test_an_objective_says_why_it_is_no_bound(name, reason):
    assert OBJECTIVES[name]().not_a_bound == reason


def test_a_sum_is_a_bound_if_one_bound_is_all_that_weighs(x):
    assert Sum(weights={"mmd": 0}, bound=IWAE(3), mmd=MMD()).not_a_bound is None
    assert Sum(weights={"bound": 2}, bound=IWAE(3)).not_a_bound == "it is a sum of bound"
    assert BetaTC(beta=1).not_a_bound is None
    assert M2(alpha=0).not_a_bound is None

    class Own(Objective):
        def forward(self, draw, step):
            return {"loss": -draw.log_px.mean()}

    assert Own().not_a_bound == "Own does not say that it is one (not_a_bound = None)"


def test_labels_must_be_classes_of_the_model(x):
    with pytest.raises(ValueError, match=rf"num_classes={NUM_CLASSES}, but the data have a label y=7: set num_classes"):
        M2()(M2().draw(semi_supervised(), x, torch.full((len(x),), 7)), 0)


def test_the_weights_of_beta_tc_may_be_schedules(x):
    """At step 0 of a warm-up from 0, the total correlation weighs nothing."""
    draw = vae()(x)
    late, early = (BetaTC(beta=Linear(start=0.0, end=4.0, steps=10), num_examples=100)(draw, step)["loss"] for step in (10, 0))
    tc = BetaTC(num_examples=100)(draw, 0)["total_correlation"]
    torch.testing.assert_close(late - early, 4 * tc)


class Whole(Conditional):
    """A full-covariance Gaussian, which is no product over its dimensions."""

    num_params = 1

    def distribution(self, loc):
        return MultivariateNormal(loc, scale_tril=torch.eye(3), validate_args=False)


def test_posteriors_that_are_no_product(x):
    """Are refused by those who need one; the others take them."""
    model = vae(Whole)
    for objective in (DIP("i"), DIP("ii"), BetaTC(num_examples=100)):
        with pytest.raises(ValueError, match=r"use posterior=gaussian"):
            objective(objective.draw(model, x), 0)
    for objective in (ELBO(kl="k1"), IWAE(), STL(), DReG(), PIWAE(2, 2), MMD(), FactorTC(Z_SHAPE, NETWORK)):
        assert objective(objective.draw(model, x), 0)["loss"].isfinite()


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
        ({"kl": "k4"}, "kl=k4 is unknown: choose analytic, k1, k2 or k3"),
        ({"kl": ""}, "choose analytic, k1, k2 or k3"),
        ({"beta": -1.0}, "beta=-1.0 would reward a large KL"),
        ({"num_samples": 0}, "num_samples=0 must be a whole number of at least 1"),
        ({"free_bits": -0.1}, "free_bits=-0.1 must be at least 0"),
        ({"capacity": 5.0, "free_bits": 0.5}, "capacity=5.0 and free_bits=0.5 both .*: choose one"),
        ({"capacity": 0.0, "free_bits": 0.5}, "capacity=0.0 and free_bits=0.5 both .*: choose one"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ELBO(**options)
