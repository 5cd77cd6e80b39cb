"""What every quantiser does, over every shape of z; test_discrete_latents.py says more of codes in a table."""

from copy import deepcopy
from functools import partial
from math import log, prod

import pytest
import torch

from vaelab import distributions
from vaelab.divergences import kl
from vaelab.draw import Latent
from vaelab.networks import MLP, CausalTransformer
from vaelab.posteriors import FSQ, BinarySpherical, Gaussian, Hierarchical, LookupFree, Residual, SimVQ, VectorQuantized
from vaelab.priors import AutoregressiveCodes, UniformCodes
from vaelab.training.speed import accelerate

NETWORK = partial(MLP, hidden=(16,))
two_maps = partial(Hierarchical, down=NETWORK, up=NETWORK, channels=3)
SPACES = [(), (3,), (2, 2), (1, 2, 1)]
BATCHES = [(), (5,), (3, 5)]
QUANTIZERS = {
    "fsq": (partial(FSQ, levels=[3, 4]), 2, 12),
    "fsq_rotation": (partial(FSQ, levels=[3, 4], estimator="rotation", batch_norm=True), 2, 12),
    "lookup_free": (LookupFree, 3, 8),
    "lookup_free_factorised": (partial(LookupFree, entropy="factorised"), 3, 8),
    "binary_spherical": (BinarySpherical, 3, 8),
    "simvq": (partial(SimVQ, num_codes=7), 4, 7),
    "simvq_diveq": (partial(SimVQ, num_codes=7, estimator="diveq"), 4, 7),
    "ema": (partial(VectorQuantized, num_codes=7, start="k_means", batch_norm=True), 4, 7),
    "gradient": (partial(VectorQuantized, num_codes=7, update="gradient", estimator="rotation"), 4, 7),
    "diveq": (partial(VectorQuantized, num_codes=7, update="gradient", estimator="diveq", start="random"), 4, 7),
    "residual": (partial(Residual, quantizer=partial(VectorQuantized, num_codes=7), depth=3), 4, 7),
    "residual_fsq": (partial(Residual, quantizer=partial(FSQ, levels=[3, 5]), depth=2), 2, 15),
    "residual_bits": (partial(Residual, quantizer=LookupFree, depth=2), 3, 8),
    "residual_spherical": (partial(Residual, quantizer=BinarySpherical, depth=2, dropout=0.5), 3, 8),
    "residual_simvq": (partial(Residual, quantizer=partial(SimVQ, num_codes=7), depth=2), 4, 7),
    "hierarchical": (partial(two_maps, **dict.fromkeys(("top", "bottom"), partial(VectorQuantized, num_codes=7))), 4, 7),
    "hierarchical_mixed": (partial(two_maps, top=LookupFree, bottom=partial(FSQ, levels=[3, 4]), top_dim=3), 5, 12),
    "hierarchical_sums": (partial(two_maps, top=partial(Residual, quantizer=partial(FSQ, levels=[3, 5])), bottom=SimVQ, top_dim=2), 4, 512),
}
SUMS_OF_LEARNED_CODES = ("residual", "residual_simvq")
names = pytest.mark.parametrize("name", QUANTIZERS)
with_spaces = pytest.mark.parametrize(  # a vector is no map
    ("name", "space"), [(name, space) for name in QUANTIZERS for space in SPACES if space or "hierarchical" not in name], ids=str
)


def build(name, space=(2, 2), num_classes=0):
    family, dim, _ = QUANTIZERS[name]
    return family(NETWORK, (6,), (dim, *space), num_classes)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("batch", BATCHES, ids=str)
@with_spaces
def test_shapes_and_probabilities(name, space, batch, training):
    if training and prod(batch) * prod(space) == 1:
        batch = (2,)  # for batch-norm: one vector has no variance
    posterior, dim, num_codes = build(name, space).train(training), *QUANTIZERS[name][1:]
    q = posterior(torch.randn(*batch, 6))
    assert (q.batch_shape, q.event_shape) == (batch, (dim, *space))
    assert (q.indices.shape, q.codebook.num_codes) == ((*batch, *q.codebook.index_shape(space)), num_codes)
    assert q.indices.min() >= 0
    assert q.indices.max() < num_codes
    z, log_q = distributions.rsample_and_log_prob(q, 6)
    assert z.shape == (6, *batch, dim, *space)
    assert torch.equal(log_q, torch.zeros(6, *batch))
    for value in (q.mean, q.mode, distributions.centre(q), *z):
        assert torch.equal(value, q.z_q)
    if not (training and "dropout" in str(QUANTIZERS[name][0])):
        assert torch.equal(posterior.decode_indices(q.indices), q.mode)
    assert torch.equal(distributions.detach(q).log_prob(z), log_q)
    assert distributions.is_discrete(q)
    assert not distributions.is_euclidean(q)


@with_spaces
def test_indices_and_codes_are_a_bijection(name, space):
    """Sums of learned codes apart: several may be equal, and indices are known from how z was quantised."""
    posterior = build(name, space).eval()
    codes = posterior.codes
    indices = UniformCodes(posterior=posterior)().indices.sample((50,))
    assert indices.shape == (50, *codes.index_shape(space))
    z = posterior.decode_indices(indices)
    assert z.shape == (50, *posterior.event_shape)
    if name not in SUMS_OF_LEARNED_CODES:
        assert torch.equal(codes.indices_of(z, len(space)), indices)


@names
def test_gradients_reach_the_network_and_what_is_learned(name):
    """Codes learn from the losses, or, with diveq, from the decoder."""
    posterior = build(name)
    q = posterior(torch.randn(16, 6))
    losses = q.losses()
    assert set(losses) <= {"codebook", "commitment", "entropy"}
    assert posterior.needs_losses == ("codebook" in losses)
    for loss in [(q.rsample() * torch.randn(q.z_q.shape)).sum(), *losses.values()]:
        loss.backward(retain_graph=True)
        for parameter in posterior.network.parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all()
    for part, parameter in posterior.named_parameters():
        assert parameter.grad is not None, part
        assert parameter.grad.any(), part


@names
def test_state_is_all_that_counts(name):
    """Another with the same state quantises alike, and learns alike."""
    one, other = build(name), build(name)
    x = torch.randn(7, 6)
    one(x)
    other.load_state_dict(one.state_dict())
    for training in (False, True):
        states = []
        for posterior in (one, other):
            torch.manual_seed(1)
            q = posterior.train(training)(x)
            states.append((q.mode, q.indices, *posterior.state_dict().values()))
        assert all(torch.equal(mine, yours) for mine, yours in zip(*states, strict=True))


@names
def test_float32_under_bfloat16_and_labels(name):
    posterior = build(name, num_classes=3)
    half = deepcopy(posterior)
    accelerate(half, bf16=True)
    q = half(torch.randn(8, 6), torch.arange(8) % 3)
    assert q.z_e.dtype == q.z_q.dtype == q.rsample().dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in q.losses().values())


@pytest.mark.parametrize("name", [name for name in QUANTIZERS if "hierarchical" not in name])  # whose codes are made by networks, too
def test_codes_and_losses_are_never_in_half_precision(name):
    """Also under autocast from outside, as trainer.precision=bf16-mixed has it, all but the network computes the same."""
    posterior = build(name).eval()
    u = posterior.prepare(torch.randn(8, *posterior.event_shape))
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            q = posterior.quantize(u)
            found.append((q.indices, q.rsample(), posterior.decode_indices(q.indices), *q.losses().values()))
    assert all(torch.equal(mine, yours) for mine, yours in zip(*found, strict=True))


@pytest.mark.parametrize("name", ["fsq", "lookup_free", "ema", "residual_simvq", "hierarchical_mixed"])
def test_an_exported_graph_takes_any_batch(name):
    """As torch.onnx.export needs it for a batch size that is free."""

    class Codes(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.posterior = build(name).eval()

        def forward(self, x):
            return self.posterior(x).mean

    codes, x = Codes(), torch.randn(7, 6)
    graph = torch.export.export(codes, (x[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    for size in (1, 7):
        torch.testing.assert_close(graph(x[:size]), codes(x[:size]))


@pytest.mark.parametrize(
    "prior",
    [
        UniformCodes,
        partial(AutoregressiveCodes, channels=8, num_layers=2),
        partial(AutoregressiveCodes, channels=8, num_layers=2, network=partial(CausalTransformer, num_heads=2)),
    ],
    ids=["uniform", "masked", "transformer"],
)
@with_spaces
def test_priors_over_the_codes(name, space, prior):
    """log p(z) of a draw is that of the indices that z was quantised to, and samples are codes."""
    posterior = build(name, space).eval()
    model = prior(posterior=posterior)
    p, q = model(), posterior(torch.randn(5, 6))
    assert distributions.space_of(p) == distributions.space_of(q)
    latent = Latent.sample(q, p, 3)
    torch.testing.assert_close(latent.log_p, p.indices.log_prob(q.indices).expand(3, 5))
    torch.testing.assert_close(kl(latent, "analytic"), latent.log_q - latent.log_p)
    if isinstance(model, UniformCodes):
        nats = sum(prod(shape) * log(book.num_codes) for book, shape in q.codebook.maps(q.indices.shape[1:]).values())
        torch.testing.assert_close(latent.log_p, torch.full((3, 5), -nats))
    z = p.sample((4,))
    assert z.shape == (4, *posterior.event_shape)
    many = p.expand((5,)).sample()
    assert many.shape == (5, *posterior.event_shape)
    if name not in SUMS_OF_LEARNED_CODES:
        assert p.support.check(z).all()
        torch.testing.assert_close(p.log_prob(z), p.indices.log_prob(q.codebook.indices_of(z, len(space))))


WRONG = [
    (partial(FSQ, levels=100), (3,), r"levels=100 is no size of the paper: choose 16, 64, .* or 65536, or a list as \[8, 6, 5\]"),
    (partial(FSQ, levels=[8, 1, 5]), (3,), r"levels=\[8, 1, 5\] must be a whole number of at least 2"),
    (
        partial(FSQ, levels=[8, 6, 5]),
        (16, 7, 7),
        r"levels=\[8, 6, 5\] are of 3 numbers, .* set z_shape=\[3, 7, 7\], or a level for each number",
    ),
    (partial(FSQ, levels=[1000] * 21), (21,), r"indices end at 2\^62: set fewer levels"),
    (LookupFree, (30, 7, 7), r"z_shape=\[30, 7, 7\] means 2\^30 codes, more than 2\^24: set entropy=factorised, or fewer numbers"),
    (BinarySpherical, (70,), r"z_shape=\[70\] means 2\^70 codes, more than 2\^61: set fewer numbers"),
    (partial(LookupFree, entropy="none"), (3,), "entropy=none is unknown: choose exact or factorised"),
    (partial(LookupFree, temperature=0.0), (3,), "temperature=0.0 must be positive"),
    (partial(SimVQ, num_codes=1), (3,), "num_codes=1 must be a whole number of at least 2"),
    (partial(SimVQ, estimator="gumbel"), (3,), "estimator=gumbel is unknown: choose straight_through, rotation or diveq"),
    (partial(VectorQuantized, estimator="diveq"), (3,), "estimator=diveq trains the codes .* set update=gradient"),
    (partial(VectorQuantized, start="zeros"), (3,), "start=zeros is unknown: choose outputs, k_means or random"),
    (
        partial(VectorQuantized, num_codes=10**12),
        (3,),
        "codes of 3 numbers are a table of 1.2e[+]04 GB, more than memory holds",
    ),
    (partial(SimVQ, num_codes=10**12), (3,), "posterior=fsq or posterior=lookup_free, whose codes need no table"),
    (partial(Residual, depth=0), (3,), "depth=0 must be a whole number of at least 1"),
    (partial(Residual, dropout=1.5), (3,), r"dropout=1.5 must be in \[0, 1\]"),
    (partial(Residual, quantizer=Residual), (3,), "quantizer=Residual does not choose one code"),
    (two_maps, (4,), r"z_shape=\[4\] has no places for two maps of codes: set z_shape=\[D,h,w\]"),
    (partial(two_maps, top=Gaussian), (4, 2), "top=Gaussian chooses no codes: set posterior@posterior.top=vector_quantized"),
    (partial(Residual, quantizer=partial(two_maps)), (4, 2), "quantizer=Hierarchical does not choose one code"),
    (two_maps, (1, 7, 7), r"top_dim=0 of the 1 numbers at each place of z_shape=\[1, 7, 7\] .* so that both"),
    (partial(two_maps, top_dim=4), (4, 2), r"top_dim=4 of the 4 numbers .* set top_dim and z_shape"),
    (partial(Residual, quantizer=Gaussian), (3,), "quantizer=Gaussian does not choose one code: set .*=vector_quantized, fsq"),
]


@pytest.mark.parametrize(("family", "z_shape", "message"), WRONG)
def test_impossible_quantisers_are_refused(family, z_shape, message):
    with pytest.raises(ValueError, match=message):
        family(partial(MLP, hidden=()), (6,), z_shape)


def test_batch_norm_of_one_vector_is_refused():
    posterior = FSQ(partial(MLP, hidden=()), (6,), (2,), levels=[3, 4], batch_norm=True)
    with pytest.raises(ValueError, match=r"cannot learn from a batch of one vector: set .*=2 or more, or batch_norm=false"):
        posterior(torch.randn(1, 6))
    assert posterior.eval()(torch.randn(1, 6)).mode.shape == (1, 2)


def test_a_prior_with_a_number_for_each_code_is_refused_for_too_many():
    """By default it writes them with several digits."""
    posterior = BinarySpherical(partial(MLP, hidden=()), (6,), (40, 2))
    for prior in (UniformCodes(posterior=posterior), AutoregressiveCodes(posterior=posterior, channels=2, num_layers=1)):
        assert prior().sample((3,)).shape == (3, 40, 2)
    with pytest.raises(ValueError, match=r"1099511627776 codes are too many .* set prior=uniform_codes"):
        AutoregressiveCodes(posterior=posterior, max_classes=2**40)
