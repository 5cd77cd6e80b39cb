"""Discrete latents: one-hot variables and their relaxations, codes of a codebook, and priors over them."""

import math
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from standard_errors import assert_mean
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, kl_divergence
from torch.nn.functional import one_hot

from vaelab.conditional import Conditional
from vaelab.distributions import ExpConcrete, OneHot, Quantized, StraightThrough, Table, code_of, detach, nearest_codes
from vaelab.divergences import ESTIMATORS, factorised, kl, kl_per_dimension
from vaelab.draw import Draw, Latent
from vaelab.likelihoods import Bernoulli
from vaelab.metrics import bound
from vaelab.models import VAE
from vaelab.networks import MLP
from vaelab.networks.masked_conv import MaskedConv2d, PixelCNN
from vaelab.objectives import ELBO, MMD, VQ
from vaelab.objectives.mmd import mmd
from vaelab.posteriors import FSQ, VectorQuantized
from vaelab.posteriors import GumbelSoftmax as GumbelPosterior
from vaelab.posteriors import StraightThrough as StraightThroughPosterior
from vaelab.priors import AutoregressiveCodes, RelaxedCategorical, UniformCategorical, UniformCodes
from vaelab.schedules import Linear

pytestmark = pytest.mark.usefixtures("double")

PROBS = [[0.4, 0.6], [0.1, 0.9], [0.2, 0.3, 0.5], [0.05, 0.9, 0.05]]
NUM = 20_000
every_probs = pytest.mark.parametrize("probs", PROBS, ids=str)


# --- one-hot variables and their relaxations


def log_logistic(t: float) -> float:
    """log of e^-t / (1 + e^-t)^2."""
    return -abs(t) - 2 * math.log1p(math.exp(-abs(t)))


@every_probs
def test_one_hot_is_the_categorical(probs):
    """Whatever constant the logits have; the log-probability is linear, and its gradient by z is log pi."""
    log_probs = torch.tensor(probs).log()
    p = OneHot(log_probs + 7.0)
    torch.testing.assert_close(p.log_prob(torch.eye(len(probs))).exp(), torch.tensor(probs))
    torch.testing.assert_close(p.mean, torch.tensor(probs))
    torch.testing.assert_close(p.variance, torch.tensor(probs) @ (torch.eye(len(probs)) - torch.tensor(probs)).square())
    assert torch.equal(p.mode, torch.eye(len(probs))[int(np.argmax(probs))])
    z = torch.rand(4, len(probs), requires_grad=True)
    p.log_prob(z).sum().backward()
    torch.testing.assert_close(z.grad, log_probs.expand(4, -1))


@pytest.mark.parametrize("temperature", [0.1, 0.67, 2.0])
@every_probs
def test_the_largest_of_a_relaxed_sample_is_a_categorical_one(probs, temperature):
    """Gumbel-max: at any temperature."""
    logits = torch.tensor(probs).log() - 3.0
    for p in (OneHot(logits), StraightThrough(logits, temperature), ExpConcrete(logits, temperature)):
        z = p.sample((NUM,))
        assert p.support.check(z).all()
        assert_mean(one_hot(z.argmax(-1), len(probs)).double(), torch.tensor(probs))


def log_simplex(num_classes: int, temperature: float) -> tuple[Tensor, float]:
    """Points y = log_softmax(t, 0) on a grid of t, where the density falls like exp(-tau |t|), and dt."""
    step = 0.3 / temperature
    t = torch.arange(-150, 151) * step
    grid = torch.stack(torch.meshgrid(*[t] * (num_classes - 1), indexing="ij"), -1).reshape(-1, num_classes - 1)
    return torch.cat([grid, torch.zeros(len(grid), 1)], -1).log_softmax(-1), step ** (num_classes - 1)


@pytest.mark.parametrize("temperature", [0.3, 0.67, 1.0, 2.0])
@every_probs
def test_the_relaxed_density_integrates_to_one(probs, temperature):
    """Over the C - 1 numbers y_c - y_C; and its samples have its entropy."""
    p = ExpConcrete(torch.tensor(probs).log() + 1.0, temperature)
    y, weight = log_simplex(len(probs), temperature)
    log_p = p.log_prob(y)
    assert (log_p.exp() * weight).sum().item() == pytest.approx(1, abs=1e-12)
    assert_mean(p.log_prob(p.sample((NUM,))), (log_p.exp() * weight * log_p).sum().item())


def test_the_relaxed_density_by_its_formula():
    """Maddison et al., eq. 10, for three classes: p(z) = p(y) / prod_c z_c."""
    pi, tau, z = torch.tensor([0.2, 0.3, 0.5]), 0.7, torch.tensor([0.1, 0.6, 0.3])
    expected = 2 * tau**2 * (pi * z**-tau).sum() ** -3 * (pi * z ** (-tau - 1)).prod()
    torch.testing.assert_close(ExpConcrete(pi.log(), tau).log_prob(z.log()).exp() / z.prod(), expected)


def test_a_cold_relaxation_is_the_categorical():
    """With the same noise, sample for sample; and the mean of z is then pi."""
    logits = torch.randn(4, 5)
    torch.manual_seed(1)
    hard = OneHot(logits).sample((2000,))
    torch.manual_seed(1)
    q = ExpConcrete(logits, 1e-4)
    soft = code_of(q, q.sample((2000,)))
    assert ((soft - hard).abs().amax(-1) < 1e-6).double().mean() > 0.995  # but where two are nearly the largest
    assert_mean(soft, logits.softmax(-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_density_of_a_cold_sample_is_finite(dtype):
    """Also where a code has rounded to zero."""
    logits = (30 * torch.randn(6, 10)).to(dtype).requires_grad_()
    q, p = ExpConcrete(logits, 0.1), ExpConcrete(torch.zeros(10, dtype=dtype), 0.05)
    y = q.rsample((100,))
    assert (code_of(q, y) == 0).any()
    ratio = q.log_prob(y) - p.log_prob(y)
    assert ratio.isfinite().all()
    ratio.sum().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("temperature", "of_prior"), [(0.1, 0.1), (0.1, 0.5), (0.5, 0.1), (0.67, 0.5)])
def test_the_rate_of_a_cold_relaxation(temperature, of_prior, dtype):
    """KL and its gradient with logits 20 apart, against quadrature: tau (y_1 - y_2) = 20 + a logistic variable.

    float32 is as good, and nothing is lost where z rounds to zero. With equal temperatures the KL is d coth(d / 2) - 2.
    """

    def rate(distance: float) -> float:
        def integrand(noise: float) -> float:
            t = (distance + noise) / temperature
            log_q = math.log(temperature) + log_logistic(noise)
            return math.exp(log_logistic(noise)) * (log_q - math.log(of_prior) - log_logistic(of_prior * t))

        return quad(integrand, -60, 60, points=[0, -distance], limit=200)[0]

    if temperature == of_prior:
        assert rate(20.0) == pytest.approx(20 / math.tanh(10) - 2, abs=1e-6)
    logits = torch.tensor([20.0, 0.0], dtype=dtype).expand(NUM, -1).clone().requires_grad_()
    q, p = ExpConcrete(logits, temperature), ExpConcrete(torch.zeros(2, dtype=dtype), of_prior)
    y = q.rsample()
    ratio = q.log_prob(y) - p.log_prob(y)
    assert_mean(ratio.double(), rate(20.0))
    ratio.sum().backward()
    # the gradient is nearly the same for every sample: its standard error may be less than rounding
    slope, of_samples = (rate(20.001) - rate(19.999)) / 0.002, logits.grad[:, 0].double()
    assert abs(of_samples.mean().item() - slope) < 5 * of_samples.std().item() / math.sqrt(NUM) + 1e-4


def test_straight_through_is_hard_forwards_and_soft_backwards():
    """With the same noise, its gradient is that of the relaxation."""
    logits, weight = torch.randn(3, 5, requires_grad=True), torch.randn(7, 3, 5)
    torch.manual_seed(1)
    hard = StraightThrough(logits, 0.7).rsample((7,))
    (by_hard,) = torch.autograd.grad((weight * hard).sum(), logits)
    torch.manual_seed(1)
    soft = ExpConcrete(logits, 0.7).rsample((7,)).exp()
    (by_soft,) = torch.autograd.grad((weight * soft).sum(), logits)
    assert torch.equal(hard, one_hot(soft.argmax(-1), 5).double())
    torch.testing.assert_close(by_hard, by_soft, rtol=1e-12, atol=1e-12)
    assert by_soft.all()


def test_the_gradient_of_a_relaxed_sample_is_unbiased():
    """d E[z_1^2] / d logits, by the samples and by differentiating the integral over the simplex."""
    logits = torch.tensor([0.3, -0.4], requires_grad=True)
    y, weight = log_simplex(2, 0.67)
    expectation = (ExpConcrete(logits, 0.67).log_prob(y).exp() * weight * y[:, 0].exp().square()).sum()
    (expected,) = torch.autograd.grad(expectation, logits)
    many = logits.detach().expand(NUM, -1).clone().requires_grad_()
    ExpConcrete(many, 0.67).rsample()[:, 0].exp().square().sum().backward()
    assert_mean(many.grad, expected)


def test_detached_relaxations_depend_on_z_alone():
    for family in (ExpConcrete, StraightThrough):
        logits = torch.randn(5, requires_grad=True)
        q = family(logits, 0.5)
        z = q.sample()
        assert torch.equal(detach(q).log_prob(z), q.log_prob(z))
        assert not detach(q).log_prob(z).requires_grad


# --- their rate


def variables(family: type, logits: Tensor) -> Distribution:
    return Independent(OneHot(logits) if family is OneHot else family(logits, 0.67), 1)


@pytest.mark.parametrize("family", [OneHot, StraightThrough, ExpConcrete])
def test_kl_of_each_variable(family):
    """Against the sum over the classes; the whole is the sum over variables, and the same for each sample."""
    q, p = variables(family, torch.randn(5, 4, 3)), variables(OneHot, torch.randn(4, 3))
    z = q.sample((6,))
    latent = Latent(z=z, q=q, p=p, log_q=q.log_prob(z))
    q_c, p_c = q.base_dist.logits.softmax(-1), p.base_dist.logits.softmax(-1)
    expected = (q_c * (q_c / p_c).log()).sum(-1)
    assert factorised(latent)
    torch.testing.assert_close(kl_per_dimension(latent), expected.expand(6, 5, 4))
    torch.testing.assert_close(kl(latent), expected.sum(-1).expand(6, 5))
    torch.testing.assert_close(kl_divergence(q, p), expected.sum(-1))


def test_monte_carlo_kl_of_each_variable():
    """k1 and k3 are unbiased, variable by variable; their sums are those of the joint density for k1 alone."""
    q, p = variables(OneHot, torch.randn(1, 4, 3)), variables(OneHot, torch.randn(4, 3))
    z = q.sample((NUM,))
    latent = Latent(z=z, q=q, p=p, log_q=q.log_prob(z))
    for estimator in ESTIMATORS:
        each = kl_per_dimension(latent, estimator)
        assert each.shape == (NUM, 1, 4)
        torch.testing.assert_close(each.sum(-1), kl(latent, estimator))
    for estimator in ("k1", "k3"):
        assert_mean(kl_per_dimension(latent, estimator), kl_per_dimension(latent)[0])
    torch.testing.assert_close(kl(latent, "k1"), latent.log_q - latent.log_p)


def test_free_bits_of_variables():
    q, p = variables(OneHot, 2 * torch.randn(5, 4, 3)), variables(OneHot, torch.zeros(4, 3))
    z = q.sample((1,))
    latent = Latent(z=z, q=q, p=p, log_q=q.log_prob(z))
    draw = Draw(x=torch.zeros(5, 1), y=None, p_x=Bernoulli(partial(MLP, hidden=()), (4, 3), (1,))(z), latents=(latent,))
    rates = kl_divergence(q.base_dist, p.base_dist).mean(0)
    threshold = rates.median().item() + 1e-6
    terms = ELBO(free_bits=threshold)(draw, 0)
    torch.testing.assert_close(terms["loss"] - terms["distortion"], rates.clamp(min=threshold).sum())
    assert (rates < threshold).any()
    assert (rates > threshold).any()


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_a_relaxed_sample_has_no_probability(estimator):
    """The density of a relaxed z and the probability of a one-hot one are not compared; the closed form is of the variables."""
    q, p = variables(ExpConcrete, torch.randn(5, 4, 3)), variables(OneHot, torch.zeros(4, 3))
    z = q.sample((1,))
    latent = Latent(z=z, q=q, p=p, log_q=q.log_prob(z))
    for compare in (kl, kl_per_dimension):
        with pytest.raises(ValueError, match=r"the posterior is over relaxed codes, but the prior over one-hot codes"):
            compare(latent, estimator)


@pytest.mark.parametrize("posterior", [GumbelPosterior, StraightThroughPosterior])
@pytest.mark.parametrize("prior", [UniformCategorical, RelaxedCategorical])
def test_in_evaluation_the_bound_is_that_of_the_discrete_model(posterior, prior):
    """Against the sum over all 3^2 values of z; and the importance weights have mean p(x)."""
    network, z_shape = partial(MLP, hidden=(8,)), (2, 3)
    model = VAE(posterior(network, (6,), z_shape), Bernoulli(network, z_shape, (6,)), prior(z_shape)).eval()
    x = torch.rand(4, 6).round()
    with torch.no_grad():
        z = torch.stack([one_hot(torch.tensor(pair), 3).double() for pair in product(range(3), repeat=2)])[:, None].expand(-1, 4, -1, -1)
        log_q, log_joint = model.encode(x).log_prob(z), model.decode(z).log_prob(x) - 2 * math.log(3)
        torch.testing.assert_close(log_q.exp().sum(0), torch.ones(4))
        elbo = (log_q.exp() * (log_joint - log_q)).sum(0)
        draw = model(x, num_samples=NUM)
    assert_mean(draw.log_w, elbo)
    assert_mean(draw.log_w.exp(), log_joint.exp().sum(0))
    rate = (log_q.exp() * (log_q + 2 * math.log(3))).sum(0)
    torch.testing.assert_close(bound(draw)["rate"], rate)
    assert_mean(draw.log_px, elbo + rate)


def test_decoders_and_kernels_see_codes_and_densities_their_logarithms():
    """While training z is a logarithm; what the likelihood is given sums to one, and the MMD compares codes, of which none is far out."""
    seen = []

    class Likelihood(Bernoulli):
        def forward(self, given: Tensor, y: Tensor | None = None) -> Distribution:
            seen.append(given)
            return super().forward(given, y)

    network, z_shape = partial(MLP, hidden=(8,)), (2, 3)
    posterior = GumbelPosterior(network, (6,), z_shape, temperature=0.01)
    model = VAE(posterior, Likelihood(network, z_shape, (6,)), RelaxedCategorical(z_shape, temperature=0.02))
    draw = model(torch.rand(50, 6), num_samples=3)
    model.sample(5)
    for given in seen:
        torch.testing.assert_close(given.sum(-1), torch.ones(given.shape[:-1]))
    latent = draw.latent
    torch.testing.assert_close(latent.z.logsumexp(-1), torch.zeros(3, 50, 2))
    assert latent.z.min() < -300
    discrepancy = MMD(kernel="rbf", scales=[1.0])(draw, 0)["mmd"]
    codes, others = latent.z.exp().flatten(2), latent.p.sample((3, 200)).exp().flatten(2)
    expected = torch.stack([mmd(z, u, "rbf", [1.0]) for z, u in zip(codes[:, :50], others[:, :50], strict=True)]).mean()
    assert abs(discrepancy - expected) < 0.1


def test_temperature_follows_its_schedule():
    """One step for each forward pass of training that has a gradient; the count is part of the state."""
    posterior = GumbelPosterior(partial(MLP, hidden=()), (6,), (2, 3), temperature=Linear(start=1.0, end=0.5, steps=4))
    x = torch.randn(5, 6)
    temperatures = []
    for _ in range(3):
        temperatures.append(posterior(x).base_dist.temperature.item())
        posterior.eval()(x)
        posterior.train()
        with torch.no_grad():
            posterior(x)
    assert temperatures == pytest.approx([1.0, 0.875, 0.75])
    other = GumbelPosterior(partial(MLP, hidden=()), (6,), (2, 3), temperature=Linear(start=1.0, end=0.5, steps=4))
    other.load_state_dict(posterior.state_dict())
    assert [other(x).base_dist.temperature.item() for _ in range(3)] == pytest.approx([0.625, 0.5, 0.5])
    assert "num_updates" not in GumbelPosterior(partial(MLP, hidden=()), (6,), (2, 3), temperature=0.5).state_dict()


# --- codes


def as_given(in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> nn.Module:
    """A network that does nothing: z_e is x."""
    return nn.Unflatten(1, (1, in_shape[0]))


def quantizer(num_codes: int, dim: int, **options: object) -> VectorQuantized:
    return VectorQuantized(as_given, (dim,), (dim,), num_codes=num_codes, **options)


@pytest.mark.parametrize("max_numbers", [1, 100, 2**24])
def test_nearest_is_the_nearest(max_numbers):
    """By all distances, whatever is taken at a time; also inside autocast, whose half precision would choose others."""
    vectors, codebook = torch.randn(500, 7), torch.randn(33, 7)
    brute_force = (vectors[:, None] - codebook).square().sum(-1).argmin(-1)
    assert torch.equal(nearest_codes(vectors, codebook, max_numbers), brute_force)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest_codes(vectors.float(), codebook.float(), max_numbers), brute_force)
        assert not torch.equal((vectors.float()[:, None] - codebook.float()).bfloat16().square().sum(-1).argmin(-1), brute_force)


@pytest.mark.parametrize("space", [(), (3,), (3, 2), (2, 1, 3)], ids=str)
def test_each_place_has_its_nearest_code(space):
    z_e, codebook = torch.randn(4, 5, *space), torch.randn(11, 5)
    q = Quantized(z_e, Table(codebook), 1 + len(space))
    for b in range(4):
        for place in product(*map(range, space)):
            vector = z_e[(b, slice(None), *place)]
            index = (vector - codebook).square().sum(-1).argmin()
            assert q.indices[(b, *place)] == index
            assert torch.equal(q.z_q[(b, slice(None), *place)], codebook[index])


def test_the_sample_is_a_code_and_its_gradient_the_identity():
    codebook = torch.randn(6, 3, requires_grad=True)
    z_e = torch.randn(3, 2)
    jacobian = torch.autograd.functional.jacobian(lambda z: Quantized(z, Table(codebook), 2).rsample(), z_e)
    torch.testing.assert_close(jacobian.reshape(6, 6), torch.eye(6), rtol=0, atol=0)
    q = Quantized(z_e.requires_grad_(), Table(codebook), 2)
    assert torch.equal(q.rsample(), q.z_q)
    q.rsample().sum().backward()
    assert codebook.grad is None
    (q.z_q * torch.arange(6.0).reshape(3, 2)).sum().backward()  # which has a gradient for the codes that were chosen, and no other
    expected = torch.zeros(6, 3)
    for place in range(2):
        expected[q.indices[place]] += torch.arange(6.0).reshape(3, 2)[:, place]
    torch.testing.assert_close(codebook.grad, expected)


def test_codes_follow_the_running_averages():
    """Appendix A.1 in numpy: sums and counts are averaged apart, and a code is their quotient; codes out of use stay where they are."""
    gamma = 0.9
    posterior = quantizer(5, 3, decay=gamma, revive_below=0.0)
    posterior.counts.fill_(2.0)
    posterior.codebook[4] = 100.0  # nobody's nearest
    codes, counts = posterior.codebook.numpy().copy(), np.full(5, 2.0)
    sums = codes * counts[:, None]
    for _ in range(30):
        x = torch.randn(40, 3)
        q = posterior(x)
        index = ((x.numpy()[:, None] - codes) ** 2).sum(-1).argmin(-1)
        for k in range(5):
            counts[k] = gamma * counts[k] + (1 - gamma) * (index == k).sum()
            sums[k] = gamma * sums[k] + (1 - gamma) * x.numpy()[index == k].sum(0)
        codes = sums / counts[:, None]
        torch.testing.assert_close(posterior.codebook, torch.from_numpy(codes))
        torch.testing.assert_close(posterior.counts, torch.from_numpy(counts))
        assert torch.equal(q.indices, nearest_codes(x, posterior.codebook))  # the codes move first
    assert torch.equal(posterior.codebook[4], torch.full((3,), 100.0))


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_codes_stay_where_nothing_is_learned(update):
    posterior, x = quantizer(4, 3, update=update), torch.randn(9, 3)
    before = posterior.codebook.clone()
    with torch.no_grad():
        posterior(x)
    posterior.eval()(x)
    assert torch.equal(posterior.codebook, before)
    assert not posterior.counts.any()
    posterior.train()(x)
    assert not torch.equal(posterior.codebook, before)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_codes_begin_as_outputs_of_the_encoder(update):
    """As many codes as examples: each is one of them. More codes than examples: each example is a code."""
    x = torch.randn(6, 3)
    for num_codes in (6, 15):
        posterior = quantizer(num_codes, 3, update=update)
        q = posterior(x)
        torch.testing.assert_close(q.z_q, x)
        assert {tuple(code.tolist()) for code in posterior.codebook.round(decimals=9)} == {
            tuple(row.tolist()) for row in x.round(decimals=9)
        }


def test_dead_codes_are_replaced_by_outputs_of_the_encoder():
    """Those used less than a tenth as much as the mean, and no other; the optimiser moves the rest here."""
    posterior = quantizer(4, 2, update="gradient", revive_below=0.1)
    posterior.codebook.data.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0], [50.0, 50.0], [-50.0, 50.0]]))
    posterior.counts.copy_(torch.tensor([10.0, 8.0, 0.5, 0.4]))  # a tenth of the mean is 0.4725
    x = torch.randn(20, 2)
    posterior(x)
    torch.testing.assert_close(posterior.codebook[:3].detach(), torch.tensor([[0.0, 0.0], [1.0, 1.0], [50.0, 50.0]]))
    assert (posterior.codebook[3] == x).all(-1).any()
    used = torch.bincount(nearest_codes(x, posterior.codebook.detach()), minlength=4)
    torch.testing.assert_close(posterior.counts, 0.99 * torch.tensor([10.0, 8.0, 0.5, 4.725]) + 0.01 * used)


def test_revival_brings_all_codes_into_use():
    """Codes that begin in one corner: without revival one of them serves all four clusters for ever."""
    centres = 10 * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    used = {}
    for revive_below in (0.0, 0.1):
        posterior = quantizer(4, 2, decay=0.8, revive_below=revive_below)
        posterior.codebook.copy_(torch.tensor([[20.0, 20.0], [90.0, 90.0], [91.0, 90.0], [90.0, 91.0]]))
        posterior.counts.fill_(1.0)
        for _ in range(40):
            x = centres.repeat(8, 1) + 0.1 * torch.randn(32, 2)
            q = posterior(x)
        used[revive_below] = q.indices.unique().tolist()
    assert used == {0.0: [0], 0.1: [0, 1, 2, 3]}


def of_two_processes(rank: int, folder: str) -> None:
    """Three updates by half of each batch; then a batch in which most codes are dead."""
    torch.set_default_dtype(torch.float64)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    posterior = halved(torch.load(f"{folder}/start.pt"))
    for x in torch.load(f"{folder}/x.pt"):
        posterior(x.chunk(2)[rank])
    state = {"state": {name: value.clone() for name, value in posterior.state_dict().items()}}
    torch.manual_seed(rank)
    posterior.counts[1:] = 0.0
    posterior(torch.randn(8, 3) + 10 * rank)
    torch.save({**state, "revived": posterior.state_dict()}, f"{folder}/rank{rank}.pt")
    torch.distributed.destroy_process_group()


def halved(start: dict[str, Tensor]) -> VectorQuantized:
    posterior = quantizer(6, 3, decay=0.8)
    posterior.load_state_dict(start)
    return posterior


def test_two_processes_have_the_codes_of_one(tmp_path: Path):
    """Which sees both halves of each batch; what is revived comes from the first process, whatever each one's noise is."""
    start = quantizer(6, 3).state_dict()
    start["counts"].fill_(3.0)
    batches = torch.randn(3, 20, 3)
    torch.save(start, tmp_path / "start.pt")
    torch.save(batches, tmp_path / "x.pt")
    torch.multiprocessing.spawn(of_two_processes, (str(tmp_path),), nprocs=2)
    one = halved(start)
    for x in batches:
        one(x)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1)]
    for rank in ranks:
        torch.testing.assert_close(rank["state"], dict(one.state_dict()))
    torch.testing.assert_close(dict(ranks[0]["revived"]), dict(ranks[1]["revived"]), rtol=0, atol=0)
    assert not torch.allclose(ranks[0]["revived"]["codebook"], ranks[0]["state"]["codebook"])


# --- the loss of the VQ-VAE


class Constant(Conditional):
    """A decoder that does not look at z."""

    num_params = 1

    def distribution(self, logits: Tensor) -> Independent:
        return Independent(torch.distributions.Bernoulli(logits=torch.zeros_like(logits), validate_args=False), 1)


@pytest.mark.parametrize("update", ["gradient", "ema"])
@pytest.mark.parametrize("commitment", [0.0, 0.25])
def test_commitment_moves_the_encoder_and_the_other_term_the_codes(commitment, update):
    """Each by the gradient of its own square; a decoder that does not look at z adds none."""
    posterior = given_codes(torch.randn(5, 3), (3, 2), update)
    z_e, codebook = torch.randn(6, 3, 2, requires_grad=True), posterior.codebook
    q, p_x = posterior.distribution(z_e), Constant(partial(MLP, hidden=()), (3, 2), (4,))
    z = q.rsample((1,))
    latent = Latent(z=z, q=q, p=UniformCodes(posterior=posterior)(), log_q=q.log_prob(z))
    terms = VQ(commitment)(Draw(x=torch.ones(6, 4), y=None, p_x=p_x(z), latents=(latent,)), 0)
    difference = (z_e - q.z_q).detach()
    square = difference.square().sum((1, 2)).mean()
    distortion, rate = 4 * math.log(2), 2 * math.log(5)
    assert terms["distortion"].item() == pytest.approx(distortion)
    assert terms["rate"].item() == pytest.approx(rate)
    assert terms["elbo"].item() == pytest.approx(-distortion - rate)
    torch.testing.assert_close(terms["commitment"], square)
    weight = commitment + (update == "gradient")
    torch.testing.assert_close(terms["loss"], distortion + rate + weight * square)
    terms["loss"].backward()
    torch.testing.assert_close(z_e.grad, 2 * commitment * difference / 6)
    if update == "ema":
        assert "codebook" not in terms
        return
    torch.testing.assert_close(terms["codebook"], square)
    expected = torch.zeros(5, 3).index_add_(0, q.indices.flatten(), -2 * difference.movedim(1, -1).reshape(-1, 3) / 6)
    torch.testing.assert_close(codebook.grad, expected)


def given_codes(codebook: Tensor, z_shape: tuple[int, ...], update: str) -> VectorQuantized:
    """A posterior with this codebook."""
    posterior = VectorQuantized(partial(MLP, hidden=()), (1,), z_shape, num_codes=len(codebook), update=update)
    posterior.codebook.data.copy_(codebook)
    return posterior.eval()


def test_the_codebook_is_trained_by_its_gradient():
    """k-means by stochastic gradient: with examples that do not move, codes reach the means of their clusters."""
    centres = torch.tensor([[4.0, 4.0], [4.0, -4.0], [-4.0, 0.0]])
    posterior = quantizer(3, 2, update="gradient", revive_below=0.0)
    posterior.counts.fill_(1.0)
    posterior.codebook.data.copy_(centres / 4)
    model = VAE(posterior, Constant(partial(MLP, hidden=()), (2,), (1,)), partial(UniformCodes))
    optimizer = torch.optim.SGD([posterior.codebook], lr=0.3)
    x = centres.repeat(5, 1) + 0.5 * torch.randn(15, 2)
    for _ in range(100):
        draw = model(x)
        optimizer.zero_grad()
        VQ()(Draw(x=torch.ones(15, 1), y=None, p_x=draw.p_x, latents=draw.latents), 0)["loss"].backward()
        optimizer.step()
    torch.testing.assert_close(posterior.codebook.detach(), x.reshape(5, 3, 2).mean(0))


# --- priors over codes


@pytest.mark.parametrize(("mask", "kernel_size"), [("A", 3), ("B", 3), ("A", 7), ("B", 7)])
def test_masks(mask, kernel_size):
    """Places of the kernel that come before its middle, and with mask B the middle."""
    layer = MaskedConv2d(mask, 1, 1, kernel_size)
    middle = kernel_size // 2
    for row, column in product(range(kernel_size), repeat=2):
        before = row < middle or (row == middle and column < middle) or (mask == "B" and (row, column) == (middle, middle))
        assert layer.mask[row, column] == before


@pytest.mark.parametrize("space", [(4, 5), (1, 6), (6, 1)], ids=str)
@pytest.mark.parametrize("num_layers", [1, 3])
def test_the_network_looks_back_only(space, num_layers):
    """The Jacobian of the logits at place i by the input at place j is zero for j >= i, and is not for the neighbours before."""
    network = PixelCNN((2, *space), (3, *space), channels=16, num_layers=num_layers)
    size = space[0] * space[1]
    x = torch.randn(4, 2, *space)  # what a ReLU hides in one it shows in another
    jacobian = torch.stack([torch.autograd.functional.jacobian(lambda given: network(given[None])[0], one) for one in x])
    reached = (jacobian.reshape(4, 3, size, 2, size) != 0).any(3).any(1).any(0)
    assert not reached.triu().any()
    for i in range(size):
        row, column = divmod(i, space[1])
        assert column == 0 or reached[i, i - 1]
        assert row == 0 or reached[i, i - space[1]]
    assert reached[1].tolist() == [True] + [False] * (size - 1)


def autoregressive(z_shape: tuple[int, ...], num_codes: int) -> AutoregressiveCodes:
    """One that is far from uniform."""
    posterior = VectorQuantized(partial(MLP, hidden=()), (1,), z_shape, num_codes=num_codes)
    prior = AutoregressiveCodes(posterior=posterior, channels=8, num_layers=3)
    for parameter in prior.parameters():
        parameter.data.mul_(1.7)
    return prior


def every_grid(space: tuple[int, ...], num_codes: int) -> Tensor:
    return torch.tensor(list(product(range(num_codes), repeat=math.prod(space)))).reshape(-1, *space)


@pytest.mark.parametrize(("z_shape", "num_codes"), [((3,), 7), ((3, 4), 3), ((3, 2, 2), 2), ((3, 2, 1, 2), 2)], ids=str)
def test_probabilities_of_codes_sum_to_one_and_samples_have_them(z_shape, num_codes):
    """Over all K^N grids; and each conditional is the one that the joint implies."""
    prior = autoregressive(z_shape, num_codes)
    p, grids = prior(), every_grid(z_shape[1:], num_codes)
    with torch.no_grad():
        probabilities = p.log_prob(p.codebook.embed(grids, len(z_shape) - 1)).exp()
        torch.testing.assert_close(probabilities, p.indices.log_prob(grids).exp())
        assert probabilities.sum().item() == pytest.approx(1, abs=1e-12)
        assert probabilities.max() > 1.5 * probabilities.min()  # not the uniform
        drawn = p.indices.sample((NUM,)).reshape(NUM, -1)
    codes = (drawn * num_codes ** torch.arange(drawn.shape[1] - 1, -1, -1)).sum(-1)
    assert_mean(one_hot(codes, len(grids)).double(), probabilities)
    first = drawn[:, 0]
    marginal = torch.stack([probabilities[grids.reshape(len(grids), -1)[:, 0] == k].sum() for k in range(num_codes)])
    torch.testing.assert_close(prior.logits(grids[:1]).reshape(1, num_codes, -1)[0, :, 0].softmax(0).detach(), marginal)
    assert_mean(one_hot(first, num_codes).double(), marginal)


@pytest.mark.parametrize(("levels", "most", "radices"), [([3, 2], 3, (3, 2)), ([2, 2, 3], 4, (4, 3)), ([2, 3], 6, (6,))], ids=str)
def test_codes_that_are_written_with_several_digits(levels, most, radices):
    """All K^2 pairs of codes have probability one together, and samples theirs; a digit has no class beyond its radix."""
    posterior = FSQ(partial(MLP, hidden=()), (1,), (len(levels), 2), levels=levels)
    prior = AutoregressiveCodes(posterior=posterior, channels=8, num_layers=3, max_classes=most)
    for parameter in prior.parameters():
        parameter.data.mul_(1.7)
    p, grids = prior(), every_grid((2,), math.prod(levels))
    assert prior.radices == radices
    with torch.no_grad():
        probabilities = p.log_prob(posterior.decode_indices(grids)).exp()
        assert probabilities.sum().item() == pytest.approx(1, abs=1e-12)
        drawn = p.indices.sample((NUM,))
        assert p.sample((5,)).shape == (5, *posterior.event_shape)
        assert p.expand((4,)).log_prob(posterior.decode_indices(grids[:4])).shape == (4,)
    codes = drawn[:, 0] * math.prod(levels) + drawn[:, 1]
    assert_mean(one_hot(codes, len(grids)).double(), probabilities)


def test_uniform_codes():
    """-N log K for any z, and samples to match."""
    posterior = VectorQuantized(partial(MLP, hidden=()), (1,), (3, 2, 2), num_codes=5)
    p = UniformCodes(posterior=posterior)()
    torch.testing.assert_close(p.log_prob(torch.randn(4, 6, 3, 2, 2)), torch.full((4, 6), -4 * math.log(5)))
    z = p.sample((NUM,))
    assert p.support.check(z).all()
    indices = (z.movedim(1, -1)[..., None, :] == posterior.codebook).all(-1)
    assert_mean(indices.double(), torch.full((2, 2, 5), 0.2))


def test_the_prior_learns_what_codes_cost():
    """Grids that repeat one code: log K nats instead of N log K."""
    posterior = VectorQuantized(partial(MLP, hidden=()), (1,), (3, 2, 2), num_codes=4)
    prior = AutoregressiveCodes(posterior=posterior, channels=16, num_layers=3)
    z = posterior.decode_indices(torch.arange(4)[:, None, None].expand(4, 2, 2))
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        loss = -prior().log_prob(z).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(math.log(4), abs=0.05)
