"""Every model: x, y, num_samples -> Draw, and what can be asked of it. A new model is one new line below."""

import ast
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.distributions import Independent, Normal

import vaelab
from vaelab import Draw, Latent, models
from vaelab.likelihoods import Bernoulli
from vaelab.models import VAE, HierarchicalVAE, Model, SemiSupervisedVAE
from vaelab.networks import MLP, ConvDecoder, ConvEncoder, ConvLadder, DenseLadder, ResNetDecoder
from vaelab.posteriors import Gaussian
from vaelab.priors import StandardNormal

X_SHAPE, Z_SHAPE = (1, 6, 5), (4,)
SOURCE = Path(vaelab.__file__).parent


def vae(num_classes=0, prior=None, z_shape=Z_SHAPE):
    q = Gaussian(partial(ConvEncoder, channels=(8, 8)), X_SHAPE, z_shape, num_classes)
    p = Bernoulli(partial(ConvDecoder, channels=(8, 8)), z_shape, X_SHAPE, num_classes)
    return VAE(q, p, StandardNormal(z_shape) if prior is None else prior, num_classes)


def vae_of_feature_maps(num_classes=0):
    z_shape = (2, 3, 2)
    q = Gaussian(partial(MLP, hidden=(8,)), X_SHAPE, z_shape, num_classes)
    return VAE(q, Bernoulli(partial(MLP, hidden=(8,)), z_shape, X_SHAPE, num_classes), StandardNormal(z_shape), num_classes)


def ladder():
    networks = DenseLadder(X_SHAPE, (5, *Z_SHAPE), partial(ConvEncoder, channels=(8, 8)), hidden=16)
    likelihood = partial(Bernoulli, network=partial(ConvDecoder, channels=(8, 8)), event_shape=X_SHAPE)
    return HierarchicalVAE(networks, likelihood, StandardNormal(Z_SHAPE))


def top_down():
    networks = ConvLadder(X_SHAPE, Z_SHAPE, num_layers=(1, 2), z_channels=2, channels=8)
    likelihood = partial(Bernoulli, network=partial(ResNetDecoder, channels=(8,)), event_shape=X_SHAPE)
    return HierarchicalVAE(networks, likelihood, StandardNormal(Z_SHAPE))


class ClassMeans(nn.Module):
    """p(z | y) = N(mu_y, I); y is (B,)."""

    def __init__(self):
        super().__init__()
        self.means = nn.Parameter(torch.randn(3, *Z_SHAPE))

    def forward(self, y=None):
        return Independent(Normal(self.means[y], 1.0, validate_args=False), len(Z_SHAPE), validate_args=False)


# A function of num_classes that builds one.
MODELS = {
    "vae": vae,
    "vae_of_feature_maps": vae_of_feature_maps,
}
# Those of several latents.
HIERARCHIES = {
    "ladder": ladder,
    "top_down": top_down,
}
# Those that must have labels.
CONDITIONAL = {
    **{name: partial(build, num_classes=3) for name, build in MODELS.items()},
    "vae_with_class_means": lambda: vae(num_classes=3, prior=ClassMeans()),
}

every_model = pytest.mark.parametrize("build", (MODELS | HIERARCHIES).values(), ids=(MODELS | HIERARCHIES).keys())
every_model_of_one_latent = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS.keys())
every_conditional = pytest.mark.parametrize("build", CONDITIONAL.values(), ids=CONDITIONAL.keys())


@pytest.fixture
def x():
    return torch.rand(5, *X_SHAPE).round()


@pytest.fixture
def y():
    return torch.tensor([0, 2, 1, 0, 2])


def test_every_model_is_tested():
    """But for the semi-supervised one, which needs labels to be trained: see mathematics/test_semi_supervised.py."""
    exported = {getattr(models, name) for name in models.__all__}
    assert {type(build()) for build in (MODELS | HIERARCHIES).values()} == exported - {Model, SemiSupervisedVAE}
    assert all(issubclass(model, Model) for model in exported)


def test_the_base_is_abstract():
    with pytest.raises(TypeError, match=r"abstract methods '?decode'?, '?encode'?, '?forward'?, '?reconstruct'?, '?sample'?"):
        Model()


def test_a_model_loads_no_metric():
    """In a fresh process, because this one has loaded them all."""
    code = "import sys; from vaelab import VAE; print(*(name for name in sys.modules if name.startswith('vaelab.')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "vaelab.models.vae" in loaded
    assert not [name for name in loaded if name.startswith("vaelab.metrics")]


def probes(path: Path) -> list[str]:
    """Calls in a file that ask whether a model has an attribute, instead of the class `Model` saying so."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    asking = (call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("getattr", "hasattr"))
    return [ast.unparse(call) for call in asking if ast.unparse(call.args[0]).split(".")[-1] in ("model", "background")]


def test_no_model_is_probed_for_what_it_has(tmp_path):
    example = tmp_path / "example.py"
    example.write_text("getattr(run.model, 'missing', False) or hasattr(model, 'classify') or hasattr(q, 'mode') or self.model.missing")
    assert probes(example) == ["getattr(run.model, 'missing', False)", "hasattr(model, 'classify')"]
    assert not [probe for path in SOURCE.rglob("*.py") for probe in probes(path)]


@every_model
def test_device(build):
    model = build()
    assert model.device == torch.device("cpu")
    assert model.to("meta").device == torch.device("meta")


def test_a_model_without_parameters_is_on_the_cpu():
    assert VAE(nn.Identity(), nn.Identity(), StandardNormal(Z_SHAPE)).device == torch.device("cpu")


def test_only_a_conditional_model_shows_its_prior_the_label(y):
    prior, shown = StandardNormal(Z_SHAPE), []
    prior.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    for model in (vae(prior=prior), vae(num_classes=3, prior=prior)):
        assert model.p_z(y).event_shape == Z_SHAPE
    assert shown[0] is None
    assert shown[1] is y


def test_a_config_of_something_else_is_refused():
    from vaelab.build import build_model

    with pytest.raises(ValueError, match=r"torch\.nn\.Identity is no model: derive it from vaelab\.models\.Model"):
        build_model(OmegaConf.create({"model": {"_target_": "torch.nn.Identity"}, "speed": {}}))


@pytest.mark.parametrize("num_samples", [1, 3])
@every_model
def test_draw(build, num_samples, x, y):
    draw = build()(x, y, num_samples=num_samples)
    assert draw.x is x
    assert draw.y is y
    assert (draw.p_x.batch_shape, draw.p_x.event_shape) == ((num_samples, 5), X_SHAPE)
    for latent in draw.latents:
        assert latent.z.shape == (num_samples, 5, *latent.p.event_shape)
        assert latent.q.event_shape == latent.p.event_shape
        assert latent.log_q.shape == latent.log_p.shape == (num_samples, 5)
        assert len(latent.z.flatten(0, 1).unique(dim=0)) == num_samples * 5
    assert draw.log_px.shape == draw.log_w.shape == (num_samples, 5)


@every_model
def test_log_w_is_log_p_of_x_and_z_minus_log_q(build, x, double):
    draw = build()(x.double(), num_samples=3)
    log_w = draw.p_x.log_prob(draw.x)
    for latent in draw.latents:
        log_w = log_w + latent.p.log_prob(latent.z) - latent.q.log_prob(latent.z)
    torch.testing.assert_close(draw.log_w, log_w, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(draw.log_px, draw.p_x.log_prob(draw.x), rtol=0, atol=0)


@every_model
def test_gradients_reach_every_parameter(build, x):
    model = build()
    (-model(x, num_samples=3).log_w.mean()).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@every_model
def test_encode_and_decode(build, x):
    model = build()
    q = model.encode(x)
    assert q.batch_shape == (5,)
    for leading in ((), (3,), (2, 3)):
        p_x = model.decode(q.sample()[0].expand(*leading, *q.event_shape))
        assert (p_x.batch_shape, p_x.event_shape) == (leading, X_SHAPE)


@pytest.mark.parametrize("num_samples", [1, 6])
@every_model
def test_sample(build, num_samples):
    model = build()
    x = model.sample(num_samples)
    assert x.shape == (num_samples, *X_SHAPE)
    assert ((x == 0) | (x == 1)).all()
    assert not x.requires_grad


@every_model_of_one_latent
def test_sample_with_mean_is_what_samples_of_x_average_to(build):
    model = build()
    torch.manual_seed(1)
    mean = model.sample(6, mean=True)
    assert mean.shape == (6, *X_SHAPE)
    assert ((mean > 0) & (mean < 1)).all()
    assert not mean.requires_grad
    torch.manual_seed(1)  # the same z; x is drawn after it
    z = model.prior().sample((6,))
    torch.testing.assert_close(mean, model.decode(z).mean.detach())


@every_model
def test_reconstruct(build, x):
    model = build()
    if isinstance(model, VAE):  # of several latents, the lower ones are recognised as well
        torch.testing.assert_close(model.reconstruct(x), model.decode(model.encode(x).mean).mean.detach())
    assert torch.equal(model.reconstruct(x), model.reconstruct(x))  # no noise
    assert model.reconstruct(x).shape == x.shape


@every_model
def test_log_likelihood(build, x):
    model = build()
    log_px = model.log_likelihood(x, num_samples=7, chunk_size=3)
    assert log_px.shape == (5,)
    assert log_px.isfinite().all()
    assert not log_px.requires_grad


@every_model
def test_seed_fixes_a_draw(build, x):
    model = build()

    def log_w(seed):
        torch.manual_seed(seed)
        return model(x, num_samples=2).log_w

    assert torch.equal(log_w(0), log_w(0))
    assert not torch.equal(log_w(0), log_w(1))


@every_model
def test_state_dict_round_trip_keeps_log_p(build, x):
    one, other = build(), build()

    def log_p(model):
        torch.manual_seed(2)
        return model.log_likelihood(x, num_samples=10)

    assert not torch.equal(log_p(one), log_p(other))
    other.load_state_dict(one.state_dict())
    assert torch.equal(log_p(one), log_p(other))


@every_model
def test_labels_are_ignored_without_classes(build, x, y):
    """Every dataset has a y: -1, a label, or factors."""
    model = build()
    for given in (None, y, torch.full((5,), -1), torch.zeros(5, 4)):
        assert torch.equal(model.reconstruct(x, given), model.reconstruct(x))
        assert model(x, given).log_w.shape == (1, 5)
    assert model.sample(5, y).shape == (5, *X_SHAPE)


@every_model
def test_another_shape_is_refused(build):
    with pytest.raises(ValueError, match=r"inputs of shape \(1, 6, 5\), but got \(5, 1, 5, 6\)"):
        build()(torch.rand(5, 1, 5, 6))


@every_conditional
def test_conditional_draw(build, x, y):
    model = build()
    draw = model(x, y, num_samples=3)
    assert draw.log_w.shape == draw.log_px.shape == (3, 5)
    assert all(latent.log_p.shape == (3, 5) for latent in draw.latents)
    (-draw.log_w.mean()).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@every_conditional
def test_conditional_calls(build, x, y):
    model = build()
    assert model.encode(x, y).batch_shape == (5,)
    assert model.decode(model.encode(x, y).sample((3,)), y).batch_shape == (3, 5)
    assert model.reconstruct(x, y).shape == x.shape
    assert model.log_likelihood(x, y, num_samples=7).shape == (5,)
    for mean in (False, True):
        assert model.sample(5, y, mean=mean).shape == (5, *X_SHAPE)


@every_conditional
def test_conditional_learns_from_the_label(build):
    """x is all black for class 0, all white for class 2 and half black for class 1: after training, samples of a class look like it."""
    model = build()
    y = torch.arange(60) % 3
    x = (y[:, None, None, None] / 2 > (torch.arange(5) + 0.5) / 5).float().expand(60, *X_SHAPE)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        (-model(x, y).log_w.mean()).backward()
        optimizer.step()
    means = model.sample(60, y, mean=True)
    torch.testing.assert_close(means, x, rtol=0, atol=0.1)


@every_conditional
def test_conditional_needs_its_labels(build, x):
    model = build()
    if isinstance(model.prior, StandardNormal):  # a prior of one's own words its own message
        with pytest.raises(ValueError, match="num_classes=3, so it needs y"):
            model.sample(5)
    for call in (model, model.encode, model.reconstruct, model.log_likelihood):
        with pytest.raises(ValueError, match="num_classes=3, so it needs y"):
            call(x)


@pytest.mark.parametrize("mean", [False, True])
@every_conditional
def test_samples_need_as_many_labels(build, mean, y):
    with pytest.raises(ValueError, match="num_samples=4 samples need as many labels, but y has 5"):
        build().sample(4, y, mean=mean)


class OfPosterior(nn.Module):
    """A prior made of q, as a VampPrior is: the mean over two pseudo-inputs."""

    def __init__(self, posterior, scale):
        super().__init__()
        self.received, self.scale = [posterior], scale  # in a list: its parameters are not the prior's
        self.pseudo_inputs = nn.Parameter(torch.rand(2, *X_SHAPE))

    def forward(self, y=None):
        q = self.received[0](self.pseudo_inputs)
        return Independent(Normal(q.mean.mean(0), self.scale), len(Z_SHAPE))


def test_partial_prior_receives_the_posterior(x):
    model = vae(prior=partial(OfPosterior, scale=2.0))
    assert model.prior.received[0] is model.posterior
    assert model.prior.scale == 2.0
    assert set(model.prior.state_dict()) == {"pseudo_inputs"}
    draw = model(x, num_samples=3)
    expected = Independent(Normal(model.encode(model.prior.pseudo_inputs).mean.mean(0), 2.0), 1).log_prob(draw.latent.z)
    torch.testing.assert_close(draw.latent.log_p, expected)
    assert model.sample(6).shape == (6, *X_SHAPE)


@pytest.mark.parametrize("num_latents", [0, 2, 3])
def test_the_latent_of_several_is_refused(num_latents, x):
    draw = vae()(x)
    several = Draw(x=x, y=None, p_x=draw.p_x, latents=draw.latents * num_latents)
    with pytest.raises(ValueError, match=f"defined for one latent variable, but the model has {num_latents}: use objective=elbo"):
        several.latent  # noqa: B018


def test_the_latent_of_one(x):
    draw = vae()(x)
    assert draw.latent is draw.latents[0]


def test_log_w_of_several_latents_is_the_sum(x):
    """As in a ladder: z of two layers, each with its q and p."""
    shape, p_x = (3, 5), vae()(x, num_samples=3).p_x

    def layer(dim):
        q = Independent(Normal(torch.randn(5, dim), 0.5), 1)
        z = q.sample((3,))
        return Latent(z=z, q=q, p=Independent(Normal(torch.zeros(dim), 1.0), 1), log_q=q.log_prob(z))

    one, two = layer(2), layer(7)
    draw = Draw(x=x, y=None, p_x=p_x, latents=(one, two))
    expected = p_x.log_prob(x) + one.log_p - one.log_q + two.log_p - two.log_q
    assert draw.log_w.shape == shape
    torch.testing.assert_close(draw.log_w, expected)


@every_model
def test_one_label_stands_for_all_samples(build):
    """model.sample(4, 1) is four of class 1; a model that looks at no label draws what it draws."""
    model = build()
    drawn = []
    for y in (1, torch.ones(4, dtype=torch.long)):
        torch.manual_seed(0)
        drawn.append(model.sample(4, y))
    assert torch.equal(*drawn)


@pytest.mark.parametrize("build", HIERARCHIES.values(), ids=HIERARCHIES.keys())
def test_pictures_in_8_bits_are_refused_in_a_sentence(build):
    """By hierarchies as by other models, whose posteriors do."""
    with pytest.raises(ValueError, match=r"takes numbers of type float, but got torch\.uint8: pictures are divided by 255 before"):
        build()._bottom_up(torch.zeros(2, *X_SHAPE, dtype=torch.uint8))
