"""Bits back: what is decoded is what was coded, in -ELBO bits."""

import subprocess
import sys
from functools import partial
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, Normal

from vaelab import distributions, likelihoods, posteriors, priors
from vaelab.applications.compression import Codec, levels_of, minus_elbo, values_of
from vaelab.applications.compression.codec import plan, random_words
from vaelab.applications.compression.exact import exp, sigmoid
from vaelab.applications.compression.latents import OfGaussian, OfMixture
from vaelab.applications.compression.stack import Stack, Uniform
from vaelab.applications.compression.values import Alphabet, alphabet_of, code_of_x
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
PRIORS = ("standard_normal", "mixture", "vamp")
QUANTIZERS = {
    "vector_quantized": partial(posteriors.VectorQuantized, num_codes=7),
    "fsq": partial(posteriors.FSQ, levels=[3, 5, 2, 2]),
    "lookup_free": posteriors.LookupFree,
    "binary_spherical": posteriors.BinarySpherical,
    "simvq": partial(posteriors.SimVQ, num_codes=7),
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
        "transformer": partial(priors.AutoregressiveCodes, channels=8, num_layers=2, network=CausalTransformer),
    }[prior](q)
    return VAE(q, likelihoods.Bernoulli(NETWORK, (4, 2, 2), shape), chosen).eval()


MODELS = {
    **{f"{name}, {prior}, {of}": partial(vae, name, prior, shape) for name in LIKELIHOODS for prior in PRIORS for of, shape in SHAPES.items()},
    **{f"{kind}, {prior}, {merge}": partial(hierarchy, kind, prior, merge)
       for kind in ("dense", "conv") for prior in ("standard_normal", "vamp") for merge in ("precision", "network")},
    **{f"dense, {name}": partial(hierarchy, "dense", likelihood=name) for name in LIKELIHOODS},
    **{f"{name}, uniform": partial(of_codes, name) for name in QUANTIZERS},
    **{f"{name}, {prior}": partial(of_codes, name, prior)
       for name in ("vector_quantized", "residual") for prior in ("autoregressive", "transformer")},
}
every_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS.keys())


def some_levels(codec, model, num):
    torch.manual_seed(1)
    x = model.sample(num) if num else torch.zeros(0, *codec.shape)
    return levels_of(x, codec.alphabet)


@every_model
def test_what_is_decoded_is_what_was_coded_in_as_many_bits_as_the_bound_says(build):
    model = build()
    codec = Codec(model, batch=8)
    levels = some_levels(codec, model, 150)
    for num in (0, 1, 2, 17):
        coded = codec.encode(levels[:num])
        assert np.array_equal(codec.decode(coded), levels[:num]), num
    coded = codec.encode(levels)
    assert np.array_equal(codec.decode(coded), levels)
    x = torch.from_numpy(levels).double() / codec.alphabet.unit
    bits = np.array([minus_elbo(codec.model, [x]) for _ in range(30)])
    noise = bits.std()  # of one z for each x, which is what the code has
    print(coded.net_bits, bits.mean(), noise)
    assert abs(coded.net_bits - bits.mean()) < 0.01 * bits.mean() + 8 * 64 + 4 * noise
