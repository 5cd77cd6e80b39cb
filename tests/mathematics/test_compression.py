"""Bits back: what is decoded is what was coded, in -ELBO bits."""

from dataclasses import replace
from functools import partial
from math import log

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from vaelab import likelihoods, posteriors, priors
from vaelab.applications.compression import Codec, levels_of, minus_elbo
from vaelab.applications.compression.codec import plan, random_words
from vaelab.applications.compression.exact import exp, sigmoid
from vaelab.applications.compression.stack import Stack, Uniform
from vaelab.applications.compression.values import alphabet_of, code_of_x
from vaelab.models import VAE, HierarchicalVAE
from vaelab.networks import MLP, CausalTransformer, ConvLadder, DenseLadder

NETWORK = partial(MLP, hidden=(16,))
SHAPES = {"grey": (1, 5, 3), "colour": (3, 3, 2), "vector": (7,)}
LIKELIHOODS = {
    "bernoulli": likelihoods.Bernoulli,
    "categorical": partial(likelihoods.Categorical, num_bins=7),
    "categorical_256": likelihoods.Categorical,
    "discretized_logistic": likelihoods.DiscretizedLogistic,
    "mixture_of_logistics": partial(likelihoods.MixtureOfLogistics, num_mixtures=3),
    "poisson": likelihoods.Poisson,
    "negative_binomial": likelihoods.NegativeBinomial,
}
COUNTS = ("poisson", "negative_binomial")
PRIORS = ("standard_normal", "mixture", "vamp")
QUANTIZERS = {
    "vector_quantized": partial(posteriors.VectorQuantized, num_codes=7),
    "fsq": partial(posteriors.FSQ, levels=[3, 5, 2, 2]),
    "lookup_free": posteriors.LookupFree,
    "binary_spherical": posteriors.BinarySpherical,
    "simvq": partial(posteriors.SimVQ, num_codes=7),
    "hierarchical": partial(
        posteriors.Hierarchical,
        down=NETWORK,
        up=NETWORK,
        top=partial(posteriors.VectorQuantized, num_codes=5),
        bottom=partial(posteriors.VectorQuantized, num_codes=7),
        channels=6,
    ),
    "residual": partial(posteriors.Residual, quantizer=partial(posteriors.VectorQuantized, num_codes=5), depth=3),
}


def vae(likelihood="bernoulli", prior="standard_normal", shape=(1, 5, 3), dim=3):
    torch.manual_seed(0)
    q = posteriors.Gaussian(partial(NETWORK, input="log1p"), shape, (dim,))
    chosen = {
        "standard_normal": lambda: priors.StandardNormal((dim,)),
        "mixture": lambda: priors.Mixture((dim,), num_components=4),
        "vamp": lambda: priors.VampPrior(q, shape, num_components=5),
    }[prior]()
    p = LIKELIHOODS[likelihood](NETWORK, (dim,), shape)
    with torch.no_grad():
        for parameter in p.parameters():
            parameter.mul_(1 if "o" in likelihood[:2] else 2)
    return VAE(q, p, chosen).eval()


def hierarchy(kind, prior="standard_normal", merge="precision", likelihood="bernoulli", shape=(1, 6, 5)):
    torch.manual_seed(0)
    if kind == "dense":
        ladder = DenseLadder(shape, (4, 3, 2), NETWORK, hidden=16, merge=merge, skip=merge == "network")
    else:
        ladder = ConvLadder(shape, (2,), num_layers=(1, 2), z_channels=2, channels=8, merge=merge)
    chosen = partial(priors.VampPrior, x_shape=shape, num_components=5) if prior == "vamp" else priors.StandardNormal((2,))
    return HierarchicalVAE(ladder, partial(LIKELIHOODS[likelihood], network=NETWORK, event_shape=shape), chosen).eval()


def of_codes(quantizer, prior="uniform", shape=(1, 5, 3)):
    torch.manual_seed(0)
    q = QUANTIZERS[quantizer](NETWORK, shape, (4, 2, 2))
    chosen = {
        "uniform": priors.UniformCodes,
        "autoregressive": partial(priors.AutoregressiveCodes, channels=8, num_layers=2),
        "digits": partial(priors.AutoregressiveCodes, channels=8, num_layers=2, max_classes=8),
        "transformer": partial(priors.AutoregressiveCodes, channels=8, num_layers=2, network=CausalTransformer),
    }[prior](q)
    return VAE(q, likelihoods.Bernoulli(NETWORK, (4, 2, 2), shape), chosen).eval()


SHAPE_OF = dict(zip(PRIORS, SHAPES.values(), strict=True))
MODELS = {
    **{f"{name}, {prior}": partial(vae, name, prior, SHAPE_OF[prior]) for name in LIKELIHOODS for prior in PRIORS},
    "bernoulli, vamp, colour": partial(vae, "bernoulli", "vamp", SHAPES["colour"]),
    "mixture_of_logistics, vamp, colour": partial(vae, "mixture_of_logistics", "vamp", SHAPES["colour"]),
    **{f"dense, {name}": partial(hierarchy, "dense", likelihood=name) for name in LIKELIHOODS},
    "dense, vamp, network": partial(hierarchy, "dense", "vamp", "network"),
    "conv, precision": partial(hierarchy, "conv"),
    "conv, vamp, network": partial(hierarchy, "conv", "vamp", "network"),
    **{f"{name}, uniform": partial(of_codes, name) for name in QUANTIZERS},
    **{
        f"{name}, {prior}": partial(of_codes, name, prior)
        for name in ("vector_quantized", "residual")
        for prior in ("autoregressive", "transformer")
    },
    "fsq, digits": partial(of_codes, "fsq", "digits"),
    "hierarchical, transformer": partial(of_codes, "hierarchical", "transformer"),
}
every_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS.keys())


def examples(codec, model, num):
    torch.manual_seed(1)
    return levels_of(model.sample(num), codec.alphabet)


def bits_of_bound(codec, levels, num_draws=10):
    """-ELBO of the examples in bits, and the standard deviation of that of one draw of z, which a code has too."""
    x = torch.from_numpy(levels).double() / codec.alphabet.unit
    bits = torch.tensor([minus_elbo(codec.model, [x]) for _ in range(num_draws)])
    return bits.mean().item(), bits.std().item()


@every_model
def test_examples_come_back_and_take_as_many_bits_as_the_bound_says(build):
    model = build()
    codec = Codec(model, batch=8)
    levels = examples(codec, model, 80)
    for num in (0, 1, 2, 17, 80):
        coded = codec.encode(levels[:num])
        assert np.array_equal(codec.decode(coded), levels[:num]), num
    expected, noise = bits_of_bound(codec, levels)
    assert abs(coded.net_bits - expected) < 0.01 * expected + 64 + 4 * noise


@pytest.mark.parametrize("level", ["least", "most"])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_constant_examples_come_back(name, level):
    """However improbable they are."""
    codec = Codec(vae(name), batch=8)
    most = (codec.alphabet.num or 2**31) - 1
    levels = np.full((5, *codec.shape), 0 if level == "least" else most)
    assert np.array_equal(codec.decode(codec.encode(levels)), levels)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_x_given_z_takes_as_many_bits_as_its_probability_says(name):
    """Value by value, also where the parameters are extreme."""
    torch.manual_seed(0)
    model = vae(name, shape=(3, 2, 2))
    p = model.likelihood(30 * torch.randn(200, 3).double().float()) if name not in COUNTS else model.likelihood(torch.randn(200, 3))
    alphabet = alphabet_of(p)
    levels = levels_of(p.sample(), alphabet)
    num = alphabet.num or int(levels.max()) + 1
    code, stack = code_of_x(p, num, 200), Stack(random_words(100), sealed=True)
    before = stack.num_bits
    code.push(stack, levels)
    taken = stack.num_bits - before
    assert np.array_equal(code.pop(stack), levels)
    assert np.array_equal(stack.words(sealed=True), random_words(100))
    expected = -p.log_prob(torch.from_numpy(levels) / alphabet.unit).sum().item() / log(2)
    assert abs(taken - expected) < 0.002 * expected + 32


def test_every_flipped_bit_decodes_to_something_else():
    model = vae(prior="mixture")
    codec = Codec(model, batch=2)
    levels = examples(codec, model, 2)
    coded = codec.encode(levels)
    for place in range(32 * len(coded.words)):
        words = coded.words.copy()
        words[place // 32] ^= np.uint32(1 << place % 32)
        try:
            found = codec.decode(replace(coded, words=words))
        except ValueError:
            continue
        assert not np.array_equal(found, levels), place


def test_levels_that_are_not_the_models_are_refused():
    codec = Codec(vae())
    with pytest.raises(ValueError, match=r"examples of shape \(5, 3\) are not of the shape \(1, 5, 3\) that the model has"):
        codec.encode(np.zeros((2, 5, 3), int))
    with pytest.raises(ValueError, match="levels from 0 to 3 are not all below 2"):
        codec.encode(np.full((2, 1, 5, 3), 3))
    coded = codec.encode(np.zeros((2, 1, 5, 3), int))
    with pytest.raises(ValueError, match=r"coded with batch=16, and this codec has batch=8"):
        Codec(vae(), batch=8).decode(coded)


def test_exponentials_are_exact():
    x = np.concatenate([-np.geomspace(1e-9, 39.9, 5000), np.geomspace(1e-9, 39.9, 5000), [0.0, -0.0]])
    assert np.abs(exp(x) / np.exp(x) - 1).max() < 2e-15
    assert np.abs(sigmoid(x) * (1 + np.exp(-x)) - 1).max() < 2e-15
    assert exp(np.array([-1e9]))[0] == exp(np.array([-40.0]))[0] > 0


@pytest.mark.parametrize("num", [2, 1000, 2**23 + 1, 5**20])
def test_uniform_symbols_take_their_logarithm(num):
    symbols = np.random.default_rng(0).integers(0, num, (10, 50))
    stack, code = Stack(random_words(4), sealed=True), Uniform((10, 50), num)
    before = stack.num_bits
    code.push(stack, symbols)
    assert abs(stack.num_bits - before - 500 * np.log2(num)) < 500 * 0.012 + 1
    assert np.array_equal(code.pop(stack), symbols)


def test_batches_begin_small_and_take_all():
    for num in (0, 1, 2, 3, 100, 1001):
        for batch, patience in ((1, 1), (16, 1), (16, 7), (5, 1000)):
            parts = plan(num, batch, patience)
            assert [row for part in parts for row in range(part.start, part.stop)] == list(range(num))
            sizes = [part.stop - part.start for part in parts]
            assert max(sizes, default=0) <= batch
            assert all(size == 1 or size * patience <= part.start for size, part in zip(sizes, parts, strict=True))


MEAN, STD = torch.tensor(0.7).double(), torch.tensor(0.4).double()


def log_p(z):
    """Two binary numbers, both 1, of logit 3 z."""
    return -2 * torch.nn.functional.softplus(-3 * z)


def discretised(width):
    """-ELBO of the discretised model of one z, in nats: sum_k Q_k (log Q_k - log P_k - log p(x | z_k)), with Q and P the masses of bins."""
    places = torch.arange(-round(8 / width), round(8 / width) + 1).double()
    edges = (torch.cat([places, places[-1:] + 1]) - 0.5) * width
    q, p = (Normal(mean, std).cdf(edges).diff() for mean, std in ((MEAN, STD), (0 * MEAN, 1 + 0 * STD)))
    kept = q > 1e-12
    q, p, z = q[kept], p[kept], (places * width)[kept]
    return (q * (q.log() - p.log() - log_p(z))).sum().item()


def test_the_loss_of_bins_is_of_the_second_order_and_known():
    """-w^2 / 24 E_q[f'' + ((log q / p)')^2] with f = log p(x | z): what z rounds off, against what the rate does not pay for."""
    z = torch.linspace(-4, 5, 20001).double()
    q, p = Normal(MEAN, STD), Normal(0 * MEAN, 1 + 0 * STD)
    weights = q.log_prob(z).exp()
    exact = torch.trapezoid(weights * (q.log_prob(z) - p.log_prob(z) - log_p(z)), z).item()
    small = torch.sigmoid(-3 * z)
    slope, second = z - (z - MEAN) / STD**2, -2 * 9 * small * (1 - small)
    loss = -torch.trapezoid(weights * (second + slope.square()), z).item() / 24
    left = [discretised(width) - exact - width**2 * loss for width in (0.4, 0.2)]
    assert abs(left[1]) < 0.1 * 0.2**2 * abs(loss)
    assert left[0] / left[1] == pytest.approx(16, rel=0.1)  # the next term is of the fourth order
