"""Every posterior and likelihood: (*batch, *in_shape) -> a distribution. A new family is one new line below."""

from copy import deepcopy
from functools import partial
from math import prod
from typing import NamedTuple

import pytest
import torch
from torch.nn.functional import normalize

from vaelab import likelihoods, posteriors
from vaelab.conditional import NetworkFactory
from vaelab.networks import MLP, ConvDecoder, ConvEncoder
from vaelab.training.speed import accelerate

KINDS = ["real", "count", ["categorical", 3], "positive", "nonnegative", ["ordinal", 4], "binary"]


def mixed(event_shape, kinds=KINDS, **options):
    """A likelihood of columns of these kinds in turn."""
    return likelihoods.Mixed(event_shape=event_shape, columns=(kinds * prod(event_shape))[: prod(event_shape)], **options)


FAMILIES = {
    "posterior_gaussian": posteriors.Gaussian,
    "posterior_full_gaussian": posteriors.FullCovarianceGaussian,
    "posterior_laplace": posteriors.Laplace,
    "posterior_hyperspherical": posteriors.VonMisesFisher,
    "posterior_categorical": posteriors.Categorical,
    "posterior_gumbel_softmax": posteriors.GumbelSoftmax,
    "posterior_straight_through": posteriors.StraightThrough,
    "bernoulli": likelihoods.Bernoulli,
    "gaussian": partial(likelihoods.Gaussian, sigma=0.5),
    "gaussian_learned": partial(likelihoods.Gaussian, sigma="learned"),
    "gaussian_per_pixel": partial(likelihoods.Gaussian, sigma="per_pixel"),
    "gaussian_optimal": partial(likelihoods.Gaussian, sigma="optimal"),
    "beta": likelihoods.Beta,
    "categorical": partial(likelihoods.Categorical, num_bins=8),
    "continuous_bernoulli": likelihoods.ContinuousBernoulli,
    "discretized_logistic": likelihoods.DiscretizedLogistic,
    "laplace": partial(likelihoods.Laplace, scale=0.5),
    "laplace_learned": partial(likelihoods.Laplace, scale="learned"),
    "mixed": partial(mixed),
    "mixed_per_value": partial(mixed, kinds=["real", "count"], scale="per_value", counts="poisson"),
    "mixture_of_logistics": partial(likelihoods.MixtureOfLogistics, num_mixtures=3),
    "negative_binomial": likelihoods.NegativeBinomial,
    "poisson": likelihoods.Poisson,
    "student_t": likelihoods.StudentT,
    "student_t_fixed": partial(likelihoods.StudentT, scale="learned", df=5),
}


# what x a family may have, where it is not any binary one
EXAMPLES = {
    likelihoods.Beta: lambda shape: 0.1 + 0.8 * torch.rand(shape),
    **dict.fromkeys((posteriors.Categorical, posteriors.GumbelSoftmax, posteriors.StraightThrough), lambda shape: one_hot(shape)),
    likelihoods.Mixed: torch.ones,  # which is a value of every kind
    posteriors.VonMisesFisher: lambda shape: normalize(torch.randn(shape), dim=-1),
}
ALONG_ITS_SAMPLES = {posteriors.Flow}  # which have no density at any other z: see test_flow_posteriors.py
# which give most examples no probability: see test_discrete_latents.py and test_quantizers.py
OVER_CODES = {
    *(posteriors.BinarySpherical, posteriors.FSQ, posteriors.Hierarchical, posteriors.LookupFree, posteriors.Residual),
    *(posteriors.SimVQ, posteriors.VectorQuantized),
}
OVER_VECTORS = {posteriors.FullCovarianceGaussian, posteriors.VonMisesFisher}  # and over no other shape
WITHOUT_MODE = {likelihoods.Beta, likelihoods.MixtureOfLogistics}
WITHOUT_VARIANCE = {likelihoods.DiscretizedLogistic, likelihoods.MixtureOfLogistics}


class Given(NamedTuple):
    """What a distribution is over, and given what."""

    in_shape: tuple[int, ...]
    event_shape: tuple[int, ...]
    network: NetworkFactory


GIVENS = {
    "image_to_vector": Given((2, 6, 5), (4,), partial(ConvEncoder, channels=(8, 8))),
    "vector_to_image": Given((4,), (2, 6, 5), partial(ConvDecoder, channels=(8, 8))),
    "vector_to_vector": Given((4,), (7,), partial(MLP, hidden=(16,))),
    "image_to_image": Given((2, 6, 5), (3, 2, 2), partial(MLP, hidden=(16,))),
}
BATCHES = [(), (5,), (3, 5), (2, 3, 5)]

families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
batches = pytest.mark.parametrize("batch", BATCHES, ids=str)
training = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def class_of(family):
    made_by = getattr(family, "func", family)
    return likelihoods.Mixed if made_by is mixed else made_by


def givens_of(family):
    """Those whose event the family can be over."""
    return {name: given for name, given in GIVENS.items() if class_of(family) not in OVER_VECTORS or len(given.event_shape) == 1}


cases = pytest.mark.parametrize(
    ("family", "given"),
    [
        pytest.param(FAMILIES[family], given, id=f"{family}-{name}")
        for family in FAMILIES
        for name, given in givens_of(FAMILIES[family]).items()
    ],
)


def build(family, given, num_classes=0):
    return family(network=given.network, in_shape=given.in_shape, event_shape=given.event_shape, num_classes=num_classes)


def one_hot(shape):
    """Variables of as many classes as the last dimension is long."""
    return torch.nn.functional.one_hot(torch.randint(shape[-1], shape[:-1]), shape[-1]).float()


def example(family, *shape):
    """Values of this shape that the family gives a finite density."""
    return EXAMPLES.get(class_of(family), lambda shape: torch.rand(shape).round())(shape)


def test_every_family_is_tested():
    tested = {class_of(family) for family in FAMILIES.values()} | OVER_CODES | ALONG_ITS_SAMPLES
    assert tested == {getattr(package, name) for package in (posteriors, likelihoods) for name in package.__all__}


@training
@batches
@cases
def test_batch_and_event(family, given, batch, training):
    p = build(family, given).train(training)(torch.randn(*batch, *given.in_shape))
    assert (p.batch_shape, p.event_shape) == (batch, given.event_shape)
    x = example(family, *batch, *given.event_shape)
    log_prob = p.log_prob(x)
    assert log_prob.shape == batch
    assert log_prob.dtype == torch.float32
    assert log_prob.isfinite().all()


@batches
@cases
def test_mean_mode_and_sample(family, given, batch):
    p = build(family, given).eval()(torch.randn(*batch, *given.in_shape))
    for value in (p.mean, p.sample(), *([] if class_of(family) in WITHOUT_MODE else [p.mode])):
        assert value.shape == batch + given.event_shape
        assert value.dtype == torch.float32
        assert value.isfinite().all()
    assert p.sample((6,)).shape == (6, *batch, *given.event_shape)
    assert p.log_prob(p.sample((6,))).shape == (6, *batch)
    if class_of(family) not in WITHOUT_MODE:
        assert p.log_prob(p.mode).isfinite().all()


@families
def test_a_training_model_can_be_sampled(family):
    """Also before its first step, when a running sigma has seen nothing."""
    given = givens_of(family).get("vector_to_image", GIVENS["vector_to_vector"])
    conditional = build(family, given).train()
    z = torch.randn(5, *given.in_shape)
    assert conditional(z).sample().isfinite().all()
    conditional(z).log_prob(example(family, 5, *given.event_shape))
    assert conditional(z).sample().isfinite().all()


@batches
@cases
def test_one_event_is_scored_by_a_whole_batch(family, given, batch):
    """x (B, *event) under p(x | z) with batch (K, B): what `Draw.log_px` does."""
    conditional = build(family, given).eval()
    p = conditional(torch.randn(*batch, *given.in_shape))
    x = example(family, *batch[-1:], *given.event_shape)
    torch.testing.assert_close(p.log_prob(x), p.log_prob(x.expand(batch + given.event_shape)), rtol=0, atol=0)


@cases
def test_gradients_reach_every_parameter(family, given):
    conditional = build(family, given)
    x = example(family, 16, *given.event_shape)
    conditional(torch.randn(3, 16, *given.in_shape)).log_prob(x).mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in conditional.parameters())


@cases
def test_gradients_reach_what_is_given(family, given):
    z = torch.randn(3, 16, *given.in_shape, requires_grad=True)
    build(family, given)(z).log_prob(example(family, 16, *given.event_shape)).mean().backward()
    assert z.grad.any(0).any(0).all()


@cases
def test_samples_score_as_each_sample_alone(family, given, double):
    """In evaluation: the optimal sigma of a training batch is that of the whole batch by definition."""
    conditional = build(family, given).eval()
    z, x = torch.randn(4, 5, *given.in_shape), example(family, 5, *given.event_shape)
    together = conditional(z).log_prob(x)
    alone = torch.stack([torch.stack([conditional(z[k, b]).log_prob(x[b]) for b in range(5)]) for k in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)


@cases
def test_probabilities_stay_float32_under_bfloat16(family, given):
    exact = build(family, given).eval()
    half = deepcopy(exact)
    accelerate(half, bf16=True)
    dtypes = []
    half.network.register_forward_hook(lambda module, args, out: dtypes.append(out.dtype))
    z, x = torch.randn(3, 5, *given.in_shape), example(family, 5, *given.event_shape)
    p, q = exact(z), half(z)
    assert dtypes == [torch.bfloat16]  # or nothing is tested here
    assert q.log_prob(x).dtype == q.mean.dtype == q.sample().dtype == torch.float32
    torch.testing.assert_close(q.mean, p.mean, rtol=0.02, atol=0.01)  # bfloat16 has 8 bits
    if class_of(family) not in WITHOUT_VARIANCE:
        assert q.variance.dtype == torch.float32
        torch.testing.assert_close(q.variance, p.variance, rtol=0.02, atol=0.01)
    torch.testing.assert_close(q.log_prob(x), p.log_prob(x), rtol=0.02, atol=0.01)
    q.log_prob(x).mean().backward()
    assert all(parameter.dtype == parameter.grad.dtype == torch.float32 for parameter in half.parameters())


@families
def test_probabilities_stay_float32_under_autocast_from_outside(family):
    """As with trainer.precision=bf16-mixed."""
    given = givens_of(family).get("vector_to_image", GIVENS["vector_to_vector"])
    conditional = build(family, given).eval()
    with torch.autocast("cpu", torch.bfloat16):
        p = conditional(torch.randn(3, 5, *given.in_shape))
        assert p.mean.dtype == p.log_prob(example(family, 5, *given.event_shape)).dtype == torch.float32


@cases
def test_state_dict_round_trip(family, given):
    one, other = build(family, given), build(family, given)
    z, x = torch.randn(3, 5, *given.in_shape), example(family, 5, *given.event_shape)
    one(z).log_prob(x)  # a running sigma moves
    assert not torch.equal(one.eval()(z).log_prob(x), other.eval()(z).log_prob(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(z).log_prob(x), other(z).log_prob(x))


@pytest.mark.parametrize("batch", [(), (5,), (3, 5)], ids=str)
@cases
def test_label_enters_as_one_hot_channels(family, given, batch):
    conditional = build(family, given, num_classes=3)
    seen = []
    conditional.network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    x, y = torch.randn(*batch, *given.in_shape), torch.randint(3, batch[-1:])
    p = conditional(x, y)
    assert (p.batch_shape, p.event_shape) == (batch, given.event_shape)
    if getattr(given.network.func, "flattens", False):  # then the label enters once, and not once for each pixel
        x = x.flatten(len(batch))
    channels, *space = x.shape[len(batch) :]
    entered = seen[0].reshape(*batch, channels + 3, *space)
    torch.testing.assert_close(entered.narrow(len(batch), 0, channels), x, rtol=0, atol=0)
    code = torch.eye(3)[y].reshape(*y.shape, 3, *[1] * len(space)).expand(*batch, 3, *space)
    torch.testing.assert_close(entered.narrow(len(batch), channels, 3), code, rtol=0, atol=0)


@cases
def test_label_matters_to_its_own_example_only(family, given):
    conditional = build(family, given, num_classes=3).eval()
    x = torch.randn(4, *given.in_shape)
    one, other = conditional(x, torch.tensor([0, 1, 2, 0])).mean, conditional(x, torch.tensor([0, 1, 2, 1])).mean
    torch.testing.assert_close(one[:3], other[:3], rtol=0, atol=0)
    assert not torch.allclose(one[3], other[3], atol=1e-4)


@cases
def test_label_is_needed_where_there_are_classes(family, given):
    conditional = build(family, given, num_classes=3)
    with pytest.raises(ValueError, match=r"num_classes=3, so it needs y"):
        conditional(torch.randn(5, *given.in_shape))


@pytest.mark.parametrize(
    "y",
    [torch.full((5,), -1), torch.tensor([0, 1, 2, 3, 0]), torch.zeros(5, 4, dtype=torch.long), torch.tensor([0, 1, 2])],
    ids=["unknown", "too_large", "factors", "too_few"],
)
def test_labels_that_are_no_classes_are_refused_in_words(y):
    """data=freyfaces num_classes=3 has y = -1, data=shapes num_classes=3 has factors."""
    conditional = build(posteriors.Gaussian, GIVENS["image_to_vector"], num_classes=3)
    with pytest.raises(ValueError, match="num_classes=3"):
        conditional(torch.randn(5, 2, 6, 5), y)


@pytest.mark.parametrize("batch", [(), (5,)], ids=str)
@cases
def test_another_input_shape_is_refused(family, given, batch):
    conditional = build(family, given)
    channels, *space = given.in_shape
    for wrong in ((channels + 1, *space), (*batch, *given.in_shape, 1), (*batch, *given.in_shape[1:], 9)):
        with pytest.raises(ValueError, match=r"was built for inputs of shape \(.*\), but got \("):
            conditional(torch.randn(*batch, *wrong))


@pytest.mark.parametrize("sigma", [0, 0.0, -1.0, "optimum", "", float("nan")], ids=str)
def test_impossible_sigma_is_refused(sigma):
    with pytest.raises(ValueError, match=f"sigma={sigma} must be a positive number, learned, per_pixel or optimal"):
        build(partial(likelihoods.Gaussian, sigma=sigma), GIVENS["vector_to_image"])


@pytest.mark.parametrize("sigma", ["learned", "per_pixel", "optimal"])
def test_sigma_that_is_not_fixed_has_a_floor(sigma):
    """A decoder that is always right would otherwise drive the density to infinity."""
    given = GIVENS["vector_to_image"]
    likelihood = build(partial(likelihoods.Gaussian, sigma=sigma, min_sigma=0.1), given)
    z = torch.randn(5, *given.in_shape)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.zero_()
        if sigma == "learned":
            likelihood.log_sigma.fill_(-50.0)
        if sigma == "per_pixel":
            likelihood.network.head[0].bias[2:] = -50.0
        perfect = likelihood(z).log_prob(torch.zeros(5, *given.event_shape))  # in training, which is when the optimal one is found
    expected = torch.distributions.Normal(0.0, 0.1).log_prob(torch.zeros(60)).sum()
    torch.testing.assert_close(perfect, expected.expand(5))
    torch.testing.assert_close(likelihood.eval()(z).stddev, torch.full((5, *given.event_shape), 0.1))


def test_whole_numbers_are_refused_in_words() -> None:
    """Pictures of type uint8 are the usual mistake with a model that has been loaded."""
    family = likelihoods.Bernoulli(partial(MLP, hidden=[4]), (4,), (2,))
    with pytest.raises(ValueError, match=r"Bernoulli takes numbers of type float, but got torch\.uint8: pictures are divided by 255"):
        family(torch.zeros(3, 4, dtype=torch.uint8))


@pytest.mark.parametrize("value", [-60.0, 60.0])
@families
def test_extreme_parameters_have_finite_densities_and_gradients(family, value):
    """Whatever a network gives, logarithms of scales and rates among it, also for the density of the sample itself."""
    conditional = build(family, GIVENS["vector_to_vector"]).train()
    x = example(family, 5, 7)
    for extreme in range(conditional.num_params):
        params = [torch.full((5, 7), value if i == extreme else 0.3, requires_grad=True) for i in range(conditional.num_params)]
        p = conditional.distribution(*params)
        total = p.log_prob(x).sum()
        if p.has_rsample:
            z = p.rsample()
            total = total + p.log_prob(z).sum() + z.square().sum()
        total.backward()
        assert total.isfinite()
        assert all(each.grad is None or each.grad.isfinite().all() for each in params)


@pytest.mark.parametrize("value", [-60.0, 60.0])
@pytest.mark.parametrize("name", [name for name in FAMILIES if name.endswith("_learned")])
def test_extreme_learned_scales_have_finite_densities_and_gradients(name, value):
    conditional = build(FAMILIES[name], GIVENS["vector_to_vector"])
    log_scale = conditional.log_sigma if name == "gaussian_learned" else conditional.log_scale
    log_scale.data.fill_(value)
    log_prob = conditional(torch.randn(5, 4)).log_prob(torch.rand(5, 7)).sum()
    log_prob.backward()
    assert log_prob.isfinite()
    assert log_scale.grad.isfinite()
    assert log_scale.grad != 0


def scales_of(family, log_scale):
    """What a family makes of the logarithm of a scale, or of a rate, and the exponential that it should be."""
    zeros, exp = torch.zeros_like(log_scale), log_scale.exp()
    base = partial(MLP, hidden=())
    size = log_scale.shape[1:]
    return {
        "posterior_gaussian": lambda: (posteriors.Gaussian(base, (4,), size).distribution(zeros, log_scale).stddev, exp),
        "posterior_laplace": lambda: (posteriors.Laplace(base, (4,), size).distribution(zeros, log_scale).base_dist.scale, exp),
        "posterior_full_gaussian": lambda: (
            posteriors.FullCovarianceGaussian(base, (4,), size)
            .distribution(zeros, *log_scale.diag_embed().unbind(-2))
            .scale_tril.diagonal(dim1=-2, dim2=-1),
            exp,
        ),
        "gaussian_per_pixel": lambda: (
            likelihoods.Gaussian(base, (4,), size, sigma="per_pixel").distribution(zeros, log_scale).stddev,
            exp + 1e-3,
        ),
        "laplace": lambda: (likelihoods.Laplace(base, (4,), size).distribution(zeros, log_scale).base_dist.scale, exp + 1e-3),
        "student_t": lambda: (likelihoods.StudentT(base, (4,), size).distribution(zeros, log_scale).base_dist.scale, exp + 1e-3),
        "poisson": lambda: (likelihoods.Poisson(base, (4,), size).distribution(log_scale).mean, exp),
        "negative_binomial": lambda: (
            likelihoods.NegativeBinomial(base, (4,), size).distribution(zeros, log_scale).base_dist.total_count,
            exp + 1e-4,
        ),
    }[family]()


@pytest.mark.parametrize(
    "family",
    [
        "posterior_gaussian",
        "posterior_laplace",
        "posterior_full_gaussian",
        "gaussian_per_pixel",
        "laplace",
        "student_t",
        "poisson",
        "negative_binomial",
    ],
)
def test_scales_are_exponentials_bit_for_bit_where_float32_is_safe(family):
    found, expected = scales_of(family, torch.linspace(-15, 15, 60).reshape(10, 6))
    assert torch.equal(found, expected)
