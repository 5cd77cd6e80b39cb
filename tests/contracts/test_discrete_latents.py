"""Posteriors over codes, and priors over classes and codes: what test_conditionals.py and test_priors.py say of the others."""

from copy import deepcopy
from functools import partial
from itertools import product
from typing import NamedTuple

import pytest
import torch
from torch.nn.functional import one_hot

from vaelab import distributions
from vaelab.conditional import NetworkFactory
from vaelab.networks import MLP, ResNetEncoder
from vaelab.posteriors import Categorical, Gaussian, GumbelSoftmax, StraightThrough, VectorQuantized
from vaelab.priors import AutoregressiveCodes, RelaxedCategorical, StandardNormal, UniformCategorical, UniformCodes
from vaelab.training.speed import accelerate

K = 3  # classes, and codes


class Given(NamedTuple):
    """What z is, and of what network."""

    in_shape: tuple[int, ...]
    z_shape: tuple[int, ...]
    network: NetworkFactory


GIVENS = {
    "one_code": Given((6,), (4,), partial(MLP, hidden=(16,))),
    "a_line": Given((6,), (4, 3), partial(MLP, hidden=(16,))),
    "a_grid": Given((2, 6, 5), (4, 2, 2), partial(ResNetEncoder, channels=(8, 8))),
    "a_block": Given((6,), (2, 1, 3, 1), partial(MLP, hidden=(16,))),
}
BATCHES = [(), (5,), (3, 5)]

givens = pytest.mark.parametrize("given", GIVENS.values(), ids=GIVENS.keys())
batches = pytest.mark.parametrize("batch", BATCHES, ids=str)
updates = pytest.mark.parametrize("update", ["ema", "gradient"])


def vector_quantized(given, update="ema", num_classes=0):
    return VectorQuantized(given.network, given.in_shape, given.z_shape, num_classes, num_codes=K, update=update)


# --- posteriors over codes


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@updates
@batches
@givens
def test_codes_of_a_batch(given, batch, update, training):
    posterior = vector_quantized(given, update).train(training)
    q = posterior(torch.randn(*batch, *given.in_shape))
    assert (q.batch_shape, q.event_shape) == (batch, given.z_shape)
    assert (q.indices.shape, q.codebook.num_codes) == (batch + given.z_shape[1:], K)
    assert distributions.is_discrete(q)
    z, log_q = distributions.rsample_and_log_prob(q, 6)
    assert z.shape == (6, *batch, *given.z_shape)
    assert torch.equal(log_q, torch.zeros(6, *batch))
    assert q.support.check(z).all()
    for value in (q.mean, q.mode, q.sample(), distributions.centre(q), *z):
        assert torch.equal(value, posterior.decode_indices(q.indices))
    other = z.clone()
    other[..., *[0] * len(given.z_shape)] += 1e-3
    assert torch.equal(q.log_prob(other), torch.full((6, *batch), -torch.inf))
    assert not q.support.check(other).any()
    assert torch.equal(distributions.detach(q).log_prob(z), log_q)


@updates
@givens
def test_gradients_of_a_sample_reach_the_network_alone(given, update):
    posterior = vector_quantized(given, update)
    z = posterior(torch.randn(16, *given.in_shape)).rsample()
    (z * torch.randn(z.shape)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in posterior.network.parameters())
    assert posterior.codebook.grad is None


@updates
@givens
def test_a_posterior_of_codes_has_a_state(given, update):
    one, other = vector_quantized(given, update), vector_quantized(given, update)
    x = torch.randn(7, *given.in_shape)
    one(x)  # the codes move
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.eval()(x).mode, other.eval()(x).mode)
    torch.manual_seed(1)
    one.train()(x)
    torch.manual_seed(1)
    other.train()(x)
    assert torch.equal(one.codebook, other.codebook)
    assert torch.equal(one.counts, other.counts)


@givens
def test_codes_stay_float32_under_bfloat16(given):
    exact = vector_quantized(given).eval()
    half = deepcopy(exact)
    accelerate(half, bf16=True)
    x = torch.randn(7, *given.in_shape)
    q = half(x)
    assert q.z_e.dtype == q.z_q.dtype == q.sample().dtype == q.log_prob(q.sample()).dtype == torch.float32
    torch.testing.assert_close(q.z_e, exact(x).z_e, rtol=0.02, atol=0.01)
    outside = vector_quantized(given)
    with torch.autocast("cpu", torch.bfloat16):
        q = outside(x)
        assert q.z_e.dtype == q.log_prob(q.rsample()).dtype == torch.float32


@givens
def test_codes_may_be_given_a_label(given):
    posterior = vector_quantized(given, num_classes=3).eval()
    x = torch.randn(4, *given.in_shape)
    one, other = (posterior(x, torch.tensor(y)).z_e for y in ([0, 1, 2, 0], [0, 1, 2, 1]))
    torch.testing.assert_close(one[:3], other[:3])
    assert not torch.allclose(one[3], other[3], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"update": "sgd"}, r"update=sgd is unknown: choose ema or gradient"),
        ({"num_codes": 1}, r"num_codes=1 must be at least 2"),
        ({"decay": 1.0}, r"decay=1.0 .* in \[0, 1\)"),
        ({"revive_below": -0.1}, r"revive_below=-0.1 in \[0, 1\)"),
    ],
)
def test_impossible_codebooks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VectorQuantized(partial(MLP, hidden=()), (6,), (4,), **options)


@pytest.mark.parametrize("family", [GumbelSoftmax, StraightThrough])
@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), lambda step: 0.0], ids=["0", "-1", "nan", "schedule"])
def test_impossible_temperatures_are_refused(family, temperature):
    with pytest.raises(ValueError, match=r"temperature=.* must be positive"):
        family(partial(MLP, hidden=()), (6,), (2, 4), temperature=temperature)


@pytest.mark.parametrize("family", [Categorical, GumbelSoftmax, StraightThrough])
def test_in_evaluation_every_categorical_posterior_is_the_same(family):
    posterior = family(partial(MLP, hidden=()), (6,), (2, 4)).eval()
    q = posterior(torch.randn(5, 6))
    assert type(q.base_dist) is distributions.OneHot
    assert (q.batch_shape, q.event_shape, q.base_dist.event_shape) == ((5,), (2, 4), (4,))
    assert not q.has_rsample
    assert distributions.space_of(q) == "one-hot codes"


# --- priors


def prior_of_codes(prior, z_shape, **options):
    given = Given((6,), z_shape, partial(MLP, hidden=()))
    return prior(posterior=vector_quantized(given), **options)


def classes(z_shape):
    """Every z of N one-hot codes."""
    rows = [one_hot(torch.tensor(row), z_shape[-1]) for row in product(range(z_shape[-1]), repeat=z_shape[0] if len(z_shape) == 2 else 1)]
    return torch.stack(rows).reshape(-1, *z_shape).to(torch.get_default_dtype())


def embedded(prior, z_shape):
    """Every z of N codes."""
    indices = torch.tensor(list(product(range(K), repeat=torch.Size(z_shape[1:]).numel())))
    return prior().codebook.embed(indices.reshape(-1, *z_shape[1:]), len(z_shape) - 1)


PRIORS = {
    "uniform_categorical": (UniformCategorical, [(2, 3), (4,), (3, 2)]),
    "relaxed_categorical": (RelaxedCategorical, [(2, 3), (4,), (3, 2)]),
    "uniform_codes": (partial(prior_of_codes, UniformCodes), [(4,), (4, 3), (2, 2, 2), (2, 1, 3, 1)]),
    "autoregressive_codes": (
        partial(prior_of_codes, AutoregressiveCodes, channels=8, num_layers=3),
        [(4,), (4, 3), (2, 2, 2), (2, 1, 3, 1)],
    ),
}
CASES = [(name, z_shape) for name, (_, z_shapes) in PRIORS.items() for z_shape in z_shapes]
every_prior = pytest.mark.parametrize(("name", "z_shape"), CASES, ids=str)


def build(name, z_shape):
    return PRIORS[name][0](z_shape=z_shape)


def every_z(name, prior, z_shape):
    return classes(z_shape) if "categorical" in name else embedded(prior, z_shape)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@every_prior
def test_sample_and_log_prob(name, z_shape, training):
    p = build(name, z_shape).train(training)()
    assert (p.batch_shape, p.event_shape) == ((), z_shape)
    assert distributions.is_discrete(p) == (name != "relaxed_categorical" or not training)
    assert p.sample().shape == z_shape
    z = p.sample((3, 5))
    assert z.shape == (3, 5, *z_shape)
    assert p.support.check(z).all()
    assert p.log_prob(z).shape == (3, 5)
    assert p.log_prob(z).isfinite().all()
    assert p.log_prob(z[0, 0]).shape == ()


@every_prior
def test_probabilities_sum_to_one(name, z_shape, double):
    prior = build(name, z_shape).eval()
    for parameter in prior.parameters():
        parameter.data.mul_(2)  # away from the uniform
    z = every_z(name, prior, z_shape)
    probabilities = prior().log_prob(z).exp()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-12)
    if name == "autoregressive_codes":
        assert probabilities.std() > 0.1 / len(z)  # or nothing is tested here
    else:
        torch.testing.assert_close(probabilities, torch.full((len(z),), 1 / len(z)))


@every_prior
def test_labels_change_nothing(name, z_shape):
    prior = build(name, z_shape).eval()
    z = prior().sample((3, 5))
    assert torch.equal(prior(torch.arange(5)).log_prob(z), prior().log_prob(z))


@every_prior
def test_expands_over_a_batch(name, z_shape):
    for training in (True, False):
        p = build(name, z_shape).train(training)()
        many = p.expand((5,))
        assert (many.batch_shape, many.event_shape) == ((5,), z_shape)
        z = many.sample((30,))
        assert z.shape == (30, 5, *z_shape)
        assert not any(torch.equal(z[:, 0], z[:, b]) for b in range(1, 5))  # each draws for itself
        torch.testing.assert_close(many.log_prob(z), p.log_prob(z))
        torch.testing.assert_close(many.log_prob(z[0, 0]), p.log_prob(z[0, 0]).expand(5))


@every_prior
def test_state_dict_holds_what_is_learned_and_no_more(name, z_shape):
    prior = build(name, z_shape)
    assert set(prior.state_dict()) == {parameter for parameter, _ in prior.named_parameters()}
    assert not any("codebook" in key or "posterior" in key for key in prior.state_dict())
    assert bool(prior.state_dict()) == (name == "autoregressive_codes")


@every_prior
def test_moves_with_the_module(name, z_shape):
    prior = build(name, z_shape).double()
    if hasattr(prior, "_posterior"):
        prior._posterior[0].double()
    p = prior()
    assert p.sample().dtype == p.log_prob(p.sample()).dtype == torch.float64


@pytest.mark.parametrize("prior", [UniformCodes, AutoregressiveCodes])
def test_posteriors_without_codes_are_refused(prior):
    posterior = Gaussian(partial(MLP, hidden=()), (6,), (4,))
    with pytest.raises(ValueError, match=r"the posterior Gaussian has none: set posterior=vector_quantized, or prior=standard_normal"):
        prior(posterior=posterior)


@pytest.mark.parametrize("prior", [UniformCodes, AutoregressiveCodes])
def test_a_copy_of_a_model_has_a_prior_over_its_own_codes(prior):
    posterior = vector_quantized(GIVENS["a_grid"])
    model = torch.nn.ModuleDict({"posterior": posterior, "prior": prior(posterior=posterior)})
    copy = deepcopy(model)
    copy["posterior"].codebook.add_(1)
    assert torch.equal(copy["prior"]().codebook.codes, copy["posterior"].codebook)
    assert torch.equal(model["prior"]().codebook.codes, posterior.codebook)


def test_gradients_reach_every_parameter_of_the_autoregressive_prior():
    prior = AutoregressiveCodes(posterior=vector_quantized(GIVENS["a_grid"]), channels=8, num_layers=3)
    p = prior()
    p.log_prob(p.sample((16,))).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in prior.parameters())


def test_spaces_are_told_apart():
    """So that the log-densities of two spaces are never compared."""
    grid = GIVENS["a_grid"]
    posterior = vector_quantized(grid)
    over_codes = {
        distributions.space_of(p)
        for p in (posterior(torch.randn(2, *grid.in_shape)), UniformCodes(posterior)(), AutoregressiveCodes(posterior)())
    }
    relaxed = RelaxedCategorical((2, 3))
    others = {
        distributions.space_of(p) for p in (relaxed.train()(), relaxed.eval()(), UniformCategorical((2, 3))(), StandardNormal((2, 3))())
    }
    assert over_codes == {"the 3 codes of a codebook"}
    assert others == {"relaxed codes", "one-hot codes", "vectors of real numbers"}
