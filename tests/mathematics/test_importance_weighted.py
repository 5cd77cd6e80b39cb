"""Bounds of several samples and their gradients, against linear-Gaussian models, integrals by quadrature, and sums over all outcomes.

The gradients of many independent draws come from one backward pass: every draw is an example with parameters of its own, and the loss
is a mean over examples.
"""

import itertools
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from linear_gaussian import LinearGaussian, orthogonal
from standard_errors import assert_mean, errors_off
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal, OneHotCategorical

from vaelab import VAE, Draw, Latent, likelihoods, posteriors, priors
from vaelab.distributions import rsample_and_log_prob
from vaelab.divergences import kl
from vaelab.networks import MLP
from vaelab.objectives import CIWAE, ELBO, IWAE, MIWAE, PIWAE, STL, VIMCO, DReG, Objective, Renyi, Sum
from vaelab.objectives.importance_weighted import leave_one_out

pytestmark = pytest.mark.usefixtures("double")

WEIGHTS = torch.tensor([-90.0, -92.0, -95.0, -91.0], dtype=torch.float64)  # an example by hand: log w of four samples


def draw_of(log_w: Tensor) -> Draw:
    """A draw with these log-weights (K, B): q = p, and x = 0 with the density that is left."""
    standard = Independent(Normal(torch.zeros(log_w.shape[1], 1), 1.0), 1)
    z, log_q = rsample_and_log_prob(standard, len(log_w))
    p_x = Independent(Normal(torch.zeros(*log_w.shape, 1), torch.exp(-log_w - 0.5 * math.log(2 * math.pi))[..., None]), 1)
    return Draw(x=torch.zeros(log_w.shape[1], 1), y=None, p_x=p_x, latents=(Latent(z=z, q=standard, p=standard, log_q=log_q),))


def value(objective: Objective, log_w: Tensor) -> float:
    terms = objective(draw_of(log_w), 0)
    assert terms["bound"].item() == -terms["loss"].item()  # the loss is minus the bound itself, and no surrogate
    return terms["bound"].item()


def test_four_weights_by_hand():
    """log of the mean of e^-90, e^-92, e^-95, e^-91; the ELBO is the mean of the logarithms (PITFALLS)."""
    log_w = WEIGHTS[:, None]
    for objective in (IWAE(4), STL(4), DReG(4), VIMCO(4), PIWAE(2, 2), MIWAE(1, 4), CIWAE(0.0, 4), Renyi(0.0, 4)):
        assert value(objective, log_w) == pytest.approx(-90.97421605, abs=1e-8)
    for objective in (MIWAE(4, 1), CIWAE(1.0, 4)):
        assert value(objective, log_w) == pytest.approx(-92.0, abs=1e-10)
    pairs = [math.log((1 + math.exp(-2)) / 2) - 90, math.log((1 + math.exp(-4)) / 2) - 91]
    assert value(MIWAE(2, 2), log_w) == pytest.approx(sum(pairs) / 2, abs=1e-10)
    assert value(CIWAE(0.25, 4), log_w) == pytest.approx(-0.25 * 92 - 0.75 * 90.97421605, abs=1e-8)
    for alpha in (-1.0, 0.5, 2.0):
        power = sum(math.exp((1 - alpha) * (w + 90)) for w in WEIGHTS.tolist()) / 4
        assert value(Renyi(alpha, 4), log_w) == pytest.approx(-90 + math.log(power) / (1 - alpha), abs=1e-10)


def test_the_bound_is_a_mean_over_the_batch_and_the_terms_are_those_of_the_elbo():
    """Two examples; and elbo = -(distortion + rate) is that of K = 1 whatever the bound."""
    log_w = torch.stack([WEIGHTS, WEIGHTS + 3], dim=1)
    assert value(IWAE(4), log_w) == pytest.approx(-90.97421605 + 1.5, abs=1e-8)
    theory = orthogonal()
    draw = theory.vae((6,), shift=0.3)(theory.sample(5), num_samples=4)
    for objective in (IWAE(4), MIWAE(2, 2), PIWAE(2, 2), CIWAE(0.3, 4), STL(4), DReG(4), Renyi(0.5, 4)):
        terms = objective(draw, 0)
        assert set(terms) == {"loss", "bound", "elbo", "distortion", "rate"}
        torch.testing.assert_close(terms["elbo"], draw.log_w.mean().detach())
        torch.testing.assert_close(terms["distortion"], -draw.log_px.mean().detach())
        torch.testing.assert_close(terms["rate"], kl(draw.latent, "k1").mean().detach())


BOUNDS = [
    IWAE(1),
    IWAE(2),
    IWAE(8),
    MIWAE(4, 2),
    PIWAE(4, 2),
    CIWAE(0.5, 8),
    STL(8),
    DReG(8),
    Renyi(0.0, 8),
    Renyi(0.5, 8),
    Renyi(2.0, 8),
]


def bounds(objective: Objective, model: VAE, x: Tensor) -> Tensor:
    """100 independent values of the bound, each a mean over 400 draws for one x."""
    with torch.no_grad():
        draws = (model(x.expand(400, -1), num_samples=objective.num_samples) for _ in range(100))
        return torch.stack([objective(draw, 0)["bound"] for draw in draws])


def test_every_bound_is_below_the_evidence():
    """By more than 5 standard errors, since q is not the exact posterior."""
    theory = orthogonal()
    model, x = theory.vae((6,), shift=0.4, widen=1.5), theory.sample(1)
    for objective in BOUNDS:
        samples = bounds(objective, model, x)
        assert samples.mean() < theory.log_prob(x)
        assert errors_off(samples, theory.log_prob(x)) > 5


def test_bounds_rise_with_the_number_of_samples():
    """L_1 < L_2 < L_8 < L_32 < log p(x), each by more than 5 standard errors of the difference."""
    theory = orthogonal()
    model, x = theory.vae((6,), shift=0.4, widen=1.5), theory.sample(1)
    steps = [bounds(IWAE(num_samples), model, x) for num_samples in (1, 2, 8, 32)]
    for below, above in itertools.pairwise(steps):
        assert (above - below).mean() > 0
        assert errors_off(above - below, 0.0) > 5


def test_the_exact_posterior_makes_every_bound_the_evidence():
    """All weights are p(x): one draw gives log p(x), whatever is done with the weights."""
    theory = orthogonal()
    model, x = theory.vae((6,)), theory.sample(5)
    expected = theory.log_prob(x).mean()
    for objective in (*BOUNDS, Renyi(-2.0, 8)):
        draw = objective.draw(model, x)
        assert draw.log_w.shape == (objective.num_samples, 5)
        torch.testing.assert_close(objective(draw, 0)["bound"], expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(objective(draw, 0)["loss"], -expected, rtol=0, atol=1e-10)


def parameter_gradients(objective: Objective, draw: Draw, part: torch.nn.Module) -> Tensor:
    gradients = torch.autograd.grad(objective(draw, 0)["loss"], list(part.parameters()), retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("num_samples", [1, 5])
def test_the_exact_posterior_leaves_the_encoder_alone(num_samples):
    """log w does not depend on z then, so STL's and DReG's gradients are zero, without noise; the IWAE's still has the score's noise."""
    theory = orthogonal()
    model = theory.vae((6,))
    draw = model(theory.sample(3), num_samples=num_samples)
    for objective in (STL(num_samples), DReG(num_samples)):
        assert parameter_gradients(objective, draw, model.posterior).abs().max() < 1e-10
        assert parameter_gradients(objective, draw, model.likelihood).abs().max() > 0.01
    assert parameter_gradients(IWAE(num_samples), draw, model.posterior).abs().max() > 0.01


def test_decoders_follow_the_gradient_of_the_bound():
    """For one draw, the gradient for p(x | z) is the same for all estimators of the same bound."""
    theory = orthogonal()
    model = theory.vae((6,), shift=0.4, widen=1.5)
    draw = model(theory.sample(3), num_samples=8)
    expected = parameter_gradients(IWAE(8), draw, model.likelihood)
    for objective in (STL(8), DReG(8), PIWAE(4, 2), PIWAE(8, 1), CIWAE(0.0, 8), Renyi(0.0, 8), MIWAE(1, 8)):
        torch.testing.assert_close(parameter_gradients(objective, draw, model.likelihood), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("num_bounds", "samples_per_bound"), [(4, 2), (2, 4), (8, 1), (1, 8)])
def test_piwae_is_the_iwae_for_the_decoder_and_the_miwae_for_the_encoder(num_bounds, samples_per_bound):
    """All M K samples for theta, M bounds of K for phi, exactly and for the same draw (Rainforth et al., 2018)."""
    theory = orthogonal()
    model = theory.vae((6,), shift=0.4, widen=1.5)
    draw = model(theory.sample(3), num_samples=8)
    piwae, miwae = PIWAE(num_bounds, samples_per_bound), MIWAE(num_bounds, samples_per_bound)
    of_decoder = [parameter_gradients(objective, draw, model.likelihood) for objective in (piwae, IWAE(8))]
    of_encoder = [parameter_gradients(objective, draw, model.posterior) for objective in (piwae, miwae)]
    torch.testing.assert_close(*of_decoder, rtol=0, atol=1e-10)
    torch.testing.assert_close(*of_encoder, rtol=0, atol=1e-10)
    if samples_per_bound < 8:  # or the two would be the same
        assert (parameter_gradients(IWAE(8), draw, model.posterior) - of_encoder[0]).abs().max() > 1e-3
    torch.testing.assert_close(piwae(draw, 0)["bound"], IWAE(8)(draw, 0)["bound"], rtol=0, atol=1e-12)


def test_special_cases_are_each_other():
    """MIWAE with M = 1 is the IWAE, with K = 1 the sampled ELBO; CIWAE mixes those two; values and gradients."""
    theory = orthogonal()
    model = theory.vae((6,), shift=0.4, widen=1.5)
    draw = model(theory.sample(3), num_samples=8)
    pairs = [
        (MIWAE(1, 8), IWAE(8)),
        (MIWAE(8, 1), ELBO(kl="k1", num_samples=8)),
        (CIWAE(0.0, 8), IWAE(8)),
        (CIWAE(1.0, 8), ELBO(kl="k1", num_samples=8)),
        (CIWAE(0.3, 8), Sum(weights={"a": 0.3, "b": 0.7}, a=ELBO(kl="k1", num_samples=8), b=IWAE(8))),
        (Renyi(0.0, 8), IWAE(8)),
    ]
    for one, other in pairs:
        torch.testing.assert_close(one(draw, 0)["loss"], other(draw, 0)["loss"], rtol=0, atol=1e-10)
        gradients = [parameter_gradients(objective, draw, model) for objective in (one, other)]
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


def test_the_renyi_bound_falls_with_alpha():
    """Power means rise with their exponent 1 - alpha, draw by draw; near alpha = 1 it is the ELBO, of either side (Li & Turner, 2016)."""
    theory = orthogonal()
    draw = theory.vae((6,), shift=0.4, widen=1.5)(theory.sample(3), num_samples=8)
    values = [Renyi(alpha, 8)(draw, 0)["bound"].item() for alpha in (-2.0, -0.5, 0.0, 0.5, 0.9, 1.1, 3.0)]
    assert all(below < above for above, below in itertools.pairwise(values))
    elbo = draw.log_w.mean().item()
    for alpha in (1 - 1e-6, 1 + 1e-6):
        assert Renyi(alpha, 8)(draw, 0)["bound"].item() == pytest.approx(elbo, abs=1e-5)


@pytest.mark.parametrize("alpha", [-0.5, 0.3, 0.8, 1.5])
def test_the_renyi_bound_tends_to_the_evidence_minus_a_renyi_divergence(alpha):
    """L_alpha = log p(x) - D_alpha(q || p(z | x)), whose form for two Gaussians is known (van Erven & Harremoes, 2014).

    log(s_p / s_q) + log(s_p^2 / s^2) / (2 (alpha - 1)) + alpha (m_q - m_p)^2 / (2 s^2), with s^2 = alpha s_p^2 + (1 - alpha) s_q^2.
    """
    theory = orthogonal()
    model, x = theory.vae((6,), shift=0.2, widen=1.2), theory.sample(1)
    p, q = theory.posterior(x), model.encode(x)
    s_p, s_q = p.covariance_matrix.diagonal(dim1=-2, dim2=-1), q.variance
    s = alpha * s_p + (1 - alpha) * s_q
    divergence = 0.5 * (s_p / s_q).log() + (s_p / s).log() / (2 * (alpha - 1)) + alpha * (p.mean - q.mean).square() / (2 * s)
    expected = (theory.log_prob(x) - divergence.sum()).item()
    with torch.no_grad():
        draw = model(x, num_samples=200_000)
    powers = ((1 - alpha) * (draw.log_w - expected)).exp()  # whose mean is 1
    error = powers.std().item() / math.sqrt(200_000) / abs(1 - alpha)
    assert abs(Renyi(alpha, 200_000)(draw, 0)["bound"].item() - expected) < 5 * error
    assert error < 0.01
    assert (expected > theory.log_prob(x).item()) == (alpha < 0)  # no lower bound there


def repeated(theory: LinearGaussian, num: int, num_samples: int) -> tuple[Draw, list[Tensor], list[Tensor]]:
    """`num` independent draws for one x, each with parameters of its own: the draw, phi = (mu, log sigma) and theta = (W, b)."""
    x = theory.bias + 1.0
    loc = (theory.posterior(x[None]).mean + 0.4).expand(num, -1).clone().requires_grad_()
    log_scale = (1.4 * theory.posterior(x[None]).stddev).log().expand(num, -1).clone().requires_grad_()
    weight, bias = (parameter.expand(num, *parameter.shape).clone().requires_grad_() for parameter in (theory.weight, theory.bias))
    q, p = Independent(Normal(loc, log_scale.exp()), 1), Independent(Normal(torch.zeros(loc.shape[1]), 1.0), 1)
    z, log_q = rsample_and_log_prob(q, num_samples)
    p_x = Independent(Normal(torch.einsum("nij,knj->kni", weight, z) + bias, theory.sigma), 1)
    draw = Draw(x=x.expand(num, -1), y=None, p_x=p_x, latents=(Latent(z=z, q=q, p=p, log_q=log_q),))
    return draw, [loc, log_scale], [weight, bias]


def each_gradient(objective: Objective, draw: Draw, parameters: list[Tensor]) -> Tensor:
    """The gradients of every draw, (num, parameters)."""
    gradients = torch.autograd.grad(objective(draw, 0)["loss"], parameters, retain_graph=True)
    return len(draw.x) * torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)


def integrated(theory: LinearGaussian, num_samples: int) -> tuple[Tensor, Tensor]:
    """The gradient of -L_K for phi and theta of `repeated` with one latent dimension, by Gauss-Hermite quadrature over all K noises."""
    x = theory.bias + 1.0
    p = theory.posterior(x[None])
    loc, log_scale = (p.mean + 0.4)[0].requires_grad_(), (1.4 * p.stddev).log()[0].requires_grad_()
    weight, bias = theory.weight.clone().requires_grad_(), theory.bias.clone().requires_grad_()
    nodes, masses = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(40))
    noise = torch.cartesian_prod(*[nodes] * num_samples).reshape(-1, num_samples, 1)
    mass = torch.cartesian_prod(*[masses / masses.sum()] * num_samples).reshape(-1, num_samples).prod(1)
    z = loc + log_scale.exp() * noise
    log_p = Normal(z @ weight.T + bias, theory.sigma).log_prob(x).sum(-1) + Normal(0.0, 1.0).log_prob(z).sum(-1)
    log_w = log_p - Normal(loc, log_scale.exp()).log_prob(z).sum(-1)
    bound = (mass * (log_w.logsumexp(1) - math.log(num_samples))).sum()
    gradients = torch.autograd.grad(-bound, [loc, log_scale, weight, bias])
    return torch.cat([part.flatten() for part in gradients[:2]]), torch.cat([part.flatten() for part in gradients[2:]])


NUM = 20_000


@pytest.mark.parametrize("objective", [IWAE(3), DReG(3), MIWAE(1, 3), PIWAE(1, 3)])
def test_gradients_are_unbiased(objective):
    """Within 5 standard errors of the gradient of L_3, an integral over three noises."""
    theory = orthogonal(dims=3, latent_dims=1)
    of_phi, of_theta = integrated(theory, num_samples=3)
    draw, phi, theta = repeated(theory, NUM, num_samples=3)
    assert_mean(each_gradient(objective, draw, phi), of_phi)
    assert_mean(each_gradient(objective, draw, theta), of_theta)


def test_stl_is_unbiased_for_one_sample_and_biased_for_more():
    """Roeder et al. (2017); the bias for K = 3 is seen, and is the encoder's alone (Tucker et al., 2019)."""
    theory = orthogonal(dims=3, latent_dims=1)
    for num_samples in (1, 3):
        of_phi, of_theta = integrated(theory, num_samples)
        draw, phi, theta = repeated(theory, NUM, num_samples)
        assert_mean(each_gradient(STL(num_samples), draw, theta), of_theta)
        off = errors_off(each_gradient(STL(num_samples), draw, phi), of_phi)
        assert (off < 5).all() if num_samples == 1 else (off > 10).any()


def test_one_sample_has_the_gradient_of_the_elbo():
    """-ELBO = KL(q || p(z | x)) + const: (mu - m) / s^2 and sigma^2 / s^2 - 1 for p(z | x) = N(m, s^2), by pen and paper."""
    theory = orthogonal()
    draw, phi, _ = repeated(theory, NUM, num_samples=1)
    p = theory.posterior(draw.x[:1])
    expected = torch.cat([0.4 / p.variance, torch.full((1, 2), 1.4**2 - 1)], dim=1)[0]
    for objective in (IWAE(1), STL(1), DReG(1), MIWAE(1, 1), CIWAE(0.5, 1), Renyi(0.5, 1)):
        assert_mean(each_gradient(objective, draw, phi), expected)
    torch.testing.assert_close(each_gradient(STL(1), draw, phi), each_gradient(DReG(1), draw, phi), rtol=0, atol=1e-10)


def test_dreg_is_the_iwae_in_the_mean_with_less_variance():
    """In two dimensions with ten samples: the difference of the two gradients, draw by draw, has mean zero (Tucker et al., 2019)."""
    draw, phi, theta = repeated(orthogonal(), NUM, num_samples=10)
    iwae, dreg, stl = (each_gradient(objective, draw, phi) for objective in (IWAE(10), DReG(10), STL(10)))
    assert_mean(dreg - iwae, 0.0)
    assert (errors_off(stl - iwae, 0.0) > 10).any()
    assert (dreg.var(0) < 0.5 * iwae.var(0)).all()
    torch.testing.assert_close(each_gradient(DReG(10), draw, theta), each_gradient(IWAE(10), draw, theta), rtol=0, atol=1e-10)


def test_the_signal_of_the_iwae_drowns_and_that_of_dreg_does_not():
    """Mean over standard deviation of the encoder's gradient: from K = 4 to 64 it falls by about 4 for the IWAE, and rises for DReG.

    O(1 / sqrt K) and O(sqrt K) (Rainforth et al., 2018, theorem 1; Tucker et al., 2019).
    """
    ratios = {}
    for num_samples in (4, 64):
        draw, phi, _ = repeated(orthogonal(dims=3, latent_dims=1), NUM, num_samples)
        for objective in (IWAE(num_samples), DReG(num_samples)):
            gradients = each_gradient(objective, draw, phi)[:, 0]
            ratios[type(objective), num_samples] = (gradients.mean() / gradients.std()).abs().item()
    assert 2 < ratios[IWAE, 4] / ratios[IWAE, 64] < 6
    assert 2 < ratios[DReG, 64] / ratios[DReG, 4] < 6


@pytest.mark.parametrize("build", [DReG, partial(PIWAE, 2)])
def test_other_objectives_of_the_same_samples_keep_their_gradients(build):
    """DReG and PIWAE change what flows through z; what a second objective sends through the same z is not touched."""
    theory = orthogonal()
    model = theory.vae((6,), shift=0.4, widen=1.5)
    draw = model(theory.sample(3), num_samples=4)
    changed, elbo = build(4 if build is DReG else 2), ELBO(num_samples=4)
    parts = sum(parameter_gradients(objective, draw, model) for objective in (changed, elbo))
    torch.testing.assert_close(parameter_gradients(Sum(a=changed, b=elbo), draw, model), parts, rtol=0, atol=1e-10)


def tuples(num_samples: int, sizes: tuple[int, ...]) -> tuple[Draw, Tensor, list[Tensor]]:
    """All tuples of K samples of one-hot latents, as examples: the draw, log q of each tuple, and the parameters of each example.

    q(z_l) has logits of its own for each latent, p(z_l) too, and x has two binary values with logits sum_l z_l^T W_l.
    """
    outcomes = list(itertools.product(*map(range, sizes)))
    every = list(itertools.product(outcomes, repeat=num_samples))
    num = len(every)
    generator = torch.Generator().manual_seed(3)
    latents, parameters, logits = [], [], torch.zeros(num_samples, num, 2)
    for index, size in enumerate(sizes):
        shapes = ((size,), (size,), (size, 2))
        own = [torch.randn(shape, generator=generator).expand(num, *shape).clone().requires_grad_() for shape in shapes]
        z = torch.eye(size)[torch.tensor([[sample[index] for sample in one] for one in every]).T]
        q, p = OneHotCategorical(logits=own[0]), OneHotCategorical(logits=own[1])
        latents.append(Latent(z=z, q=q, p=p, log_q=q.log_prob(z)))
        parameters += own
        logits = logits + torch.einsum("knc,ncd->knd", z, own[2])
    x = torch.tensor([1.0, 0.0]).expand(num, 2)
    draw = Draw(x=x, y=None, p_x=Independent(Bernoulli(logits=logits), 1), latents=tuple(latents))
    return draw, torch.stack([latent.log_q for latent in latents]).sum((0, 1)), parameters


@pytest.mark.parametrize(("num_samples", "sizes"), [(2, (3,)), (4, (3,)), (3, (2, 3))])
def test_vimco_has_the_gradient_of_the_expected_bound(num_samples, sizes):
    """Summed over every tuple of K samples that q can draw, with its probability: without any noise (Mnih & Rezende, 2016)."""
    draw, log_q, parameters = tuples(num_samples, sizes)
    torch.testing.assert_close(log_q.exp().sum(), torch.tensor(1.0))
    log_w = draw.log_px + sum(latent.log_p - latent.log_q for latent in draw.latents)
    expected_bound = (log_q.exp() * (log_w.logsumexp(0) - math.log(num_samples))).sum()
    exact = [gradient.sum(0) for gradient in torch.autograd.grad(-expected_bound, parameters, retain_graph=True)]
    objective = VIMCO(num_samples)
    each = [len(draw.x) * gradient for gradient in torch.autograd.grad(objective(draw, 0)["loss"], parameters, retain_graph=True)]
    for gradients, expected in zip(each, exact, strict=True):
        probability = log_q.exp().detach().reshape(-1, *[1] * (gradients.ndim - 1))
        torch.testing.assert_close((probability * gradients).sum(0), expected, rtol=0, atol=1e-10)
        assert expected.abs().max() > 1e-4
    assert objective(draw, 0)["loss"].item() == pytest.approx(-(log_w.logsumexp(0) - math.log(num_samples)).mean().item())


def without(log_w: list[float], k: int) -> float:
    """The bound with log w_k replaced by the mean of the others."""
    others = [log_w[j] for j in range(len(log_w)) if j != k]
    return math.log(sum(map(math.exp, [*others, sum(others) / len(others)])) / len(log_w))


def test_vimco_weighs_each_score_with_what_its_sample_adds():
    """Draw by draw: sum_k (L - L_-k) d log q(z_k) + sum_k w~_k d log w_k (eq. 9 of the paper), which is where its low variance is from."""
    draw, _, parameters = tuples(3, (3,))
    log_w, log_q = draw.log_w, draw.latent.log_q
    surrogate = (log_w.detach().softmax(0) * log_w).sum()
    for n, one in enumerate(log_w.T.tolist()):
        bound = math.log(sum(map(math.exp, one)) / 3)
        surrogate = surrogate + sum((bound - without(one, k)) * log_q[k, n] for k in range(3))
    for expected, found in zip(
        torch.autograd.grad(-surrogate, parameters, retain_graph=True),
        torch.autograd.grad(VIMCO(3)(draw, 0)["loss"], parameters),
        strict=True,
    ):
        torch.testing.assert_close(len(draw.x) * found, expected, rtol=0, atol=1e-10)


def test_vimco_trains_a_vae_with_categorical_codes():
    """The mean gradient of 100 x 400 draws of a model, for all of its parameters, is that of E[L_2] summed over all pairs of codes."""
    affine = partial(MLP, hidden=())
    model = VAE(
        posteriors.Categorical(affine, (2,), (2, 3)), likelihoods.Bernoulli(affine, (2, 3), (2,)), priors.UniformCategorical((2, 3))
    )
    x, parameters, objective = torch.tensor([[1.0, 0.0]]), list(model.parameters()), VIMCO(2)
    codes = torch.stack([torch.eye(3)[list(pair)] for pair in itertools.product(range(3), repeat=2)])  # (9, 2, 3)
    log_q = model.encode(x).log_prob(codes)
    log_w = model.decode(codes).log_prob(x) + model.prior().log_prob(codes) - log_q
    bound = (log_q.exp()[:, None] * log_q.exp() * (torch.logaddexp(log_w[:, None], log_w) - math.log(2))).sum()
    expected = torch.cat([gradient.flatten() for gradient in torch.autograd.grad(-bound, parameters)])
    found = []
    for _ in range(100):
        loss = objective(objective.draw(model, x.expand(400, -1)), 0)["loss"]
        found.append(torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, parameters)]))
    moving = torch.stack(found).std(0) > 0  # the weights of the pixel that is 0 never do
    assert not expected[~moving].any()
    assert_mean(torch.stack(found)[:, moving], expected[moving])


def test_the_bound_without_one_sample():
    """As a loop."""
    log_w = 3 * torch.randn(4, 5)
    expected = torch.tensor([[without(one, k) for one in log_w.T.tolist()] for k in range(4)])
    torch.testing.assert_close(leave_one_out(log_w), expected, rtol=0, atol=1e-10)


def test_a_draw_with_gradients_can_be_scored_without():
    """The bound, as it is with them."""
    theory = orthogonal()
    draw = theory.vae((6,), shift=0.3)(theory.sample(5), num_samples=4)
    for objective in (IWAE(4), DReG(4), STL(4), PIWAE(2, 2)):
        expected = objective(draw, 0)["loss"].item()
        with torch.no_grad():
            assert objective(replace(draw), 0)["loss"].item() == pytest.approx(expected, abs=1e-10)


def test_refusals():
    """In words, with the option."""
    for build, message in (
        (lambda: IWAE(0), "num_samples=0 must be a whole number of at least 1"),
        (lambda: STL(0), "num_samples=0 must be a whole number of at least 1"),
        (lambda: DReG(-1), "num_samples=-1 must be a whole number of at least 1"),
        (lambda: VIMCO(1), "num_samples=1 must be a whole number of at least 2"),
        (lambda: MIWAE(0, 3), "num_bounds=0 must be a whole number of at least 1"),
        (lambda: PIWAE(3, 0), "samples_per_bound=0 must be a whole number of at least 1"),
        (lambda: CIWAE(1.5, 3), r"beta=1.5 mixes two bounds: it must lie in \[0, 1\]"),
        (lambda: CIWAE(0.5, 0), "num_samples=0 must be a whole number of at least 1"),
        (lambda: Renyi(1.0, 3), "objective.alpha=1 is the ELBO: set objective=elbo"),
        (lambda: Renyi(0.5, 0), "num_samples=0 must be a whole number of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            build()
    theory = orthogonal()
    draw = theory.vae((6,))(theory.sample(3), num_samples=4)
    with pytest.raises(ValueError, match="VIMCO is for posteriors without reparameterised samples: set posterior=categorical"):
        VIMCO(4)(draw, 0)
    two = Draw(x=draw.x, y=None, p_x=draw.p_x, latents=draw.latents * 2)
    for objective in (STL(4), DReG(4), PIWAE(2, 2)):
        with pytest.raises(ValueError, match="defined for one latent variable, but the model has 2: use objective=elbo or objective=iwae"):
            objective(two, 0)
