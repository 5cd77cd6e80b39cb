"""Several layers of latents against a two-level linear-Gaussian hierarchy whose evidence and posterior are known, and against a VAE."""

import copy
import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import pytest
import torch
from small_runs import composed
from standard_errors import assert_mean
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal

from vaelab import VAE, Draw, likelihoods, posteriors, priors
from vaelab.distributions import log_mean_exp
from vaelab.evidence import importance_weighted
from vaelab.metrics import bound
from vaelab.models import HierarchicalVAE
from vaelab.models.hierarchical import precision_weighted
from vaelab.networks import MLP, ConvDecoder, ConvEncoder, ConvLadder, DenseLadder, ResNetDecoder
from vaelab.networks.ladder import Bounded, Ladder, Rung
from vaelab.objectives import ELBO, IWAE

pytestmark = pytest.mark.usefixtures("double")


class Affine(nn.Module):
    """v -> (W v + b, log sigma): the two rows of a Gaussian of constant scale."""

    def __init__(self, weight: Tensor, bias: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.weight, self.bias, self.log_scale = weight, nn.Parameter(bias.clone()), nn.Parameter(variance.log() / 2)

    def forward(self, v: Tensor) -> Tensor:
        loc = v @ self.weight.T + self.bias
        return torch.stack([loc, self.log_scale.expand_as(loc)], dim=1)


class MarkovRung(Rung):
    def join(self, h: Tensor | None, z: Tensor) -> Tensor:
        return z


class LinearLadder(Ladder):
    def bottom_up(self, x: Tensor) -> list[Tensor]:
        return [x for _ in self.rungs]


@dataclass
class LinearHierarchy:
    """z_2 ~ N(0, I), z_1 | z_2 ~ N(A z_2 + a, S), x | z_1 ~ N(B z_1 + b, s^2 I), whose posterior is diagonal at both levels."""

    upper: Tensor  # A, (e, d)
    upper_bias: Tensor
    variance: Tensor  # the diagonal of S, (e,)
    lower: Tensor  # B, (D, e), with orthogonal columns
    lower_bias: Tensor
    sigma: float

    def marginal(self) -> MultivariateNormal:
        of_z_1 = self.upper @ self.upper.T + self.variance.diag()
        covariance = self.lower @ of_z_1 @ self.lower.T + self.sigma**2 * torch.eye(len(self.lower))
        return MultivariateNormal(self.lower @ self.upper_bias + self.lower_bias, covariance)

    def of_z_2(self) -> tuple[Tensor, Tensor, Tensor]:
        """p(z_2 | x) = N(W x + c, v): Bayes' rule for x | z_2 ~ N(B A z_2 + B a + b, B S B^T + s^2 I)."""
        noise = self.lower @ self.variance.diag() @ self.lower.T + self.sigma**2 * torch.eye(len(self.lower))
        design = self.lower @ self.upper
        covariance = torch.linalg.inv(torch.eye(design.shape[1]) + design.T @ torch.linalg.inv(noise) @ design)
        gain = covariance @ design.T @ torch.linalg.inv(noise)
        torch.testing.assert_close(covariance, covariance.diagonal().diag(), rtol=0, atol=1e-12)
        return gain, -gain @ (self.lower @ self.upper_bias + self.lower_bias), covariance.diagonal()

    def of_z_1(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """p(z_1 | x, z_2) = N(W x + V z_2 + c, v)."""
        covariance = torch.linalg.inv(self.variance.reciprocal().diag() + self.lower.T @ self.lower / self.sigma**2)
        torch.testing.assert_close(covariance, covariance.diagonal().diag(), rtol=0, atol=1e-12)
        gain, pull = covariance @ self.lower.T / self.sigma**2, covariance @ self.variance.reciprocal().diag()
        return gain, pull @ self.upper, pull @ self.upper_bias - gain @ self.lower_bias, covariance.diagonal()

    def of_x_alone(self) -> tuple[Tensor, Tensor, Tensor]:
        """p(x | z_1) as a Gaussian in z_1, N(W x + c, v): what precision weighting multiplies the prior by."""
        squares = self.lower.square().sum(0)
        gain = self.lower.T / squares[:, None]
        return gain, -gain @ self.lower_bias, self.sigma**2 / squares

    def model(self, merge: str) -> HierarchicalVAE:
        """With the exact posterior."""
        gain, constant, variance = self.of_z_2()
        top = MarkovRung(gain.shape[:1], Affine(gain, constant, variance), None)
        if merge == "precision":
            posterior = Affine(*self.of_x_alone())
        else:
            of_x, of_z, constant, variance = self.of_z_1()
            posterior = Affine(torch.cat([of_x, of_z], dim=1), constant, variance)
        bottom = MarkovRung(self.variance.shape, posterior, Affine(self.upper, self.upper_bias, self.variance))
        ladder = LinearLadder((len(self.lower),), self.variance.shape, [top, bottom], merge)
        likelihood = likelihoods.Gaussian(partial(MLP, hidden=()), self.variance.shape, (len(self.lower),), sigma=self.sigma)
        linear = likelihood.network.layers[1]
        with torch.no_grad():
            linear.weight.copy_(self.lower)
            linear.bias.copy_(self.lower_bias)
        return HierarchicalVAE(ladder, likelihood, priors.StandardNormal(gain.shape[:1]))


def hierarchy(top: int = 2, middle: int = 3, dims: int = 5, sigma: float = 0.6) -> LinearHierarchy:
    """With columns of B orthogonal, p(z_1 | x, z_2) is diagonal; p(z_2 | x) is where A^T D A is, D = B^T (B S B^T + s^2 I)^-1 B."""
    lower = torch.linalg.qr(torch.randn(dims, middle))[0] * torch.linspace(0.5, 1.5, middle)
    variance = torch.linspace(0.3, 0.9, middle)
    squares = lower.square().sum(0)
    weight = squares / (squares * variance + sigma**2)
    upper = weight.rsqrt()[:, None] * torch.linalg.qr(torch.randn(middle, top))[0] * torch.linspace(0.7, 2.0, top)
    return LinearHierarchy(upper, torch.randn(middle), variance, lower, torch.randn(dims), sigma)


merges = pytest.mark.parametrize("merge", ["precision", "network"])


@merges
def test_the_exact_posterior_makes_every_weight_the_evidence(merge):
    """p(x, z_1, z_2) / (p(z_2 | x) p(z_1 | x, z_2)) = p(x), whatever the samples; the likelihood times the prior is the precision merge."""
    theory = hierarchy()
    x = theory.marginal().sample((5,))
    expected = theory.marginal().log_prob(x)
    draw = theory.model(merge)(x, num_samples=3)
    assert [latent.z.shape for latent in draw.latents] == [(3, 5, 2), (3, 5, 3)]
    torch.testing.assert_close(draw.log_w, expected.expand(3, 5), rtol=0, atol=1e-8)
    of_x, of_z, constant, variance = theory.of_z_1()
    q = draw.latents[1].q
    torch.testing.assert_close(q.mean, x @ of_x.T + draw.latents[0].z @ of_z.T + constant)
    torch.testing.assert_close(q.variance, variance.expand(3, 5, 3))


@merges
def test_the_sampler_has_the_marginal_of_x(merge):
    """Mean and covariance of 50,000 samples; E[x | z] has the covariance without the noise of x."""
    theory = hierarchy()
    model, marginal = theory.model(merge), theory.marginal()
    for mean, covariance in (
        (False, marginal.covariance_matrix),
        (True, marginal.covariance_matrix - theory.sigma**2 * torch.eye(len(theory.lower))),
    ):
        x = model.sample(50_000, mean=mean) - marginal.mean
        assert_mean(x, 0.0)
        assert_mean(x[:, :, None] * x[:, None, :], covariance)


@merges
def test_decoding_and_reconstructing_use_centres(merge):
    theory = hierarchy()
    model, x, z = theory.model(merge), theory.marginal().sample((4,)), torch.randn(3, 4, 2)
    expected = (z @ theory.upper.T + theory.upper_bias) @ theory.lower.T + theory.lower_bias
    torch.testing.assert_close(model.decode(z).mean, expected)
    torch.testing.assert_close(model.decode(z[0, 0]).mean, expected[0, 0])
    gain, constant, variance = theory.of_z_2()
    z_2 = x @ gain.T + constant
    torch.testing.assert_close(model.encode(x).mean, z_2)
    torch.testing.assert_close(model.encode(x).variance, variance.expand(4, 2))
    of_x, of_z, constant, _ = theory.of_z_1()
    z_1 = x @ of_x.T + z_2 @ of_z.T + constant
    torch.testing.assert_close(model.reconstruct(x), z_1 @ theory.lower.T + theory.lower_bias)


def shifted(theory: LinearHierarchy, merge: str) -> HierarchicalVAE:
    """With a posterior that is wrong at both levels."""
    model = theory.model(merge)
    with torch.no_grad():
        for rung, shift, widen in zip(model.ladder.rungs, (0.3, -0.2), (1.3, 0.8), strict=True):
            rung.posterior.bias.add_(shift)
            rung.posterior.log_scale.add_(math.log(widen))
    return model


@merges
def test_a_wrong_posterior_costs_its_kl_at_each_level(merge):
    """log w = log p(x) + log p(z | x) - log q(z | x) for each sample, so the ELBO is log p(x) minus the two KLs."""
    theory = hierarchy()
    model, x = shifted(theory, merge), theory.marginal().sample((2,))
    log_p = theory.marginal().log_prob(x)
    draw = model(x, num_samples=20_000)
    top, bottom = draw.latents
    gain, constant, variance = theory.of_z_2()
    exact_top = Independent(Normal(x @ gain.T + constant, variance.sqrt()), 1)
    of_x, of_z, constant, variance = theory.of_z_1()
    exact_bottom = Independent(Normal(x @ of_x.T + top.z @ of_z.T + constant, variance.sqrt()), 1)
    gap = top.log_q - exact_top.log_prob(top.z) + bottom.log_q - exact_bottom.log_prob(bottom.z)
    torch.testing.assert_close(draw.log_w, log_p - gap, rtol=0, atol=1e-8)
    kls = torch.distributions.kl_divergence(top.q, exact_top) + torch.distributions.kl_divergence(bottom.q, exact_bottom)
    assert (kls > 0.05).all()
    assert_mean(draw.log_w + kls, log_p)
    terms = bound(draw)
    torch.testing.assert_close(terms["elbo"], draw.log_px.mean(0) - terms["rate"])
    assert ((terms["elbo"] - (log_p - kls.mean(0))).abs() < 0.1).all()
    assert (terms["elbo"] < log_p).all()


@merges
def test_importance_weighting_rises_to_the_evidence(merge):
    """L_1 < L_4 < L_32 < log p(x), and the mean of the weights is p(x), by five standard errors."""
    theory = hierarchy()
    model, x = shifted(theory, merge), theory.marginal().sample((1,))
    log_p, means = theory.marginal().log_prob(x), []
    for num_samples in (1, 4, 32):
        runs = importance_weighted(model, x.expand(4000, -1), num_samples=num_samples).log_likelihood - log_p
        assert_mean(runs.exp(), 1.0)
        means.append((runs.mean().item(), runs.std().item() / math.sqrt(len(runs))))
    for (below, error_below), (above, error_above) in pairwise([*means, (0.0, 0.0)]):
        assert above - below > 5 * math.hypot(error_below, error_above)


def test_precision_weighting_is_the_normalised_product():
    """log a(z) + log b(z) - log q(z) is the same for every z; and the formula of the paper."""
    a = Independent(Normal(torch.randn(5, 3), torch.rand(5, 3) + 0.1), 1)
    b = Independent(Normal(torch.randn(4, 5, 3), torch.rand(4, 5, 3) + 0.1), 1)
    q, z = precision_weighted(a, b), torch.randn(100, 4, 5, 3)
    assert (q.batch_shape, q.event_shape) == ((4, 5), (3,))
    constant = a.log_prob(z) + b.log_prob(z) - q.log_prob(z)
    torch.testing.assert_close(constant, constant[:1].expand(100, 4, 5), rtol=0, atol=1e-9)
    precision = 1 / a.variance + 1 / b.variance
    torch.testing.assert_close(q.variance, 1 / precision)
    torch.testing.assert_close(q.mean, (a.mean / a.variance + b.mean / b.variance) / precision)


@pytest.mark.parametrize(("scale_a", "scale_b"), [(1e-30, 1.0), (1.0, 1e-30), (1e30, 1.0), (1.0, 1e30), (1e-30, 1e-30)])
def test_precision_weighting_at_extremes(scale_a, scale_b):
    """In float32, whose variances would overflow: the sharper one wins, and two of the same share."""
    a, b = (torch.tensor([value, scale], dtype=torch.float32, requires_grad=True) for value, scale in ((1.0, scale_a), (3.0, scale_b)))
    q = precision_weighted(*(Independent(Normal(loc[None], scale[None]), 1) for loc, scale in (a, b)))
    assert q.mean.item() == (2.0 if scale_a == scale_b else 1.0 if scale_a < scale_b else 3.0)
    assert q.base_dist.scale.item() == pytest.approx(min(scale_a, scale_b) / (math.sqrt(2) if scale_a == scale_b else 1))
    (q.mean + q.base_dist.scale).sum().backward()
    assert a.grad.isfinite().all()
    assert b.grad.isfinite().all()


def test_a_ladder_of_one_rung_is_a_vae():
    """Both are perceptrons with hidden widths 8 and 6: the same parameters give the same Draw."""
    x_shape, x = (1, 3, 2), torch.rand(5, 1, 3, 2)
    likelihood, prior = likelihoods.Gaussian(partial(MLP, hidden=(7,)), (4,), x_shape), priors.StandardNormal((4,))
    vae = VAE(posteriors.Gaussian(partial(MLP, hidden=(8, 6)), x_shape, (4,)), likelihood, prior)
    for merge in ("precision", "network"):
        ladder = DenseLadder(x_shape, [4], partial(MLP, hidden=(8,)), hidden=6, merge=merge)
        model = HierarchicalVAE(ladder, likelihood, prior)
        with torch.no_grad():
            own = [*ladder.blocks.parameters(), *ladder.rungs.parameters()]
            for mine, theirs in zip(own, vae.posterior.parameters(), strict=True):
                mine.copy_(theirs)
        draws = []
        for each in (vae, model):
            torch.manual_seed(1)
            draws.append(each(x, num_samples=3))
        torch.testing.assert_close(draws[1].latent.z, draws[0].latent.z, rtol=0, atol=1e-12)
        torch.testing.assert_close(draws[1].log_w, draws[0].log_w, rtol=0, atol=1e-10)
        torch.testing.assert_close(model.reconstruct(x), vae.reconstruct(x))


def dense(x_shape=(1, 6, 5), z_dims=(5, 4, 3), merge="precision", skip=False, prior=None):
    ladder = DenseLadder(x_shape, z_dims, partial(ConvEncoder, channels=(8,)), hidden=16, merge=merge, skip=skip)
    likelihood = partial(likelihoods.Bernoulli, network=partial(ConvDecoder, channels=(8,)), event_shape=x_shape)
    return HierarchicalVAE(ladder, likelihood, prior or priors.StandardNormal(z_dims[-1:]))


def convolutional(x_shape=(1, 6, 5), num_layers=(0, 2, 1), merge="network", z_shape=(3,), prior=None):
    ladder = ConvLadder(x_shape, z_shape, num_layers, z_channels=2, channels=8, merge=merge)
    finest = next((i for i, num in enumerate(num_layers) if num), len(num_layers) - 1)
    decoder = partial(ResNetDecoder, channels=[8] * (finest + 1), num_blocks=1)
    return HierarchicalVAE(
        ladder, partial(likelihoods.Bernoulli, network=decoder, event_shape=x_shape), prior or priors.StandardNormal(z_shape)
    )


LADDERS = {
    "dense_precision": dense,
    "dense_precision_skip": partial(dense, skip=True),
    "dense_network": partial(dense, merge="network"),
    "dense_network_skip": partial(dense, merge="network", skip=True),
    "conv_precision": partial(convolutional, merge="precision"),
    "conv_network": convolutional,
    "conv_top_with_space": partial(convolutional, z_shape=(2, 3, 3)),
}
every_ladder = pytest.mark.parametrize("build", LADDERS.values(), ids=LADDERS.keys())


@every_ladder
def test_each_example_and_sample_scores_as_alone(build):
    """K samples of B examples share their features; here each is scored by itself, from its own z, with the formulas of the paper."""
    model, x = build(), torch.rand(4, 1, 6, 5).round()
    draw = model(x, num_samples=3)
    for k in range(3):
        for b in range(4):
            expected = log_w_by_hand(model, x[b : b + 1], [latent.z[k, b][None] for latent in draw.latents])
            torch.testing.assert_close(draw.log_w[k, b], expected, rtol=0, atol=1e-9)


def log_w_by_hand(model: HierarchicalVAE, x: Tensor, zs: list[Tensor]) -> Tensor:
    """log p(x, z) - log q(z | x) of one example and one sample."""

    def log_normal(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        return (-0.5 * ((z - loc) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)).sum()

    features, h, log_w = model.ladder.bottom_up(x), None, 0.0
    for d, rung, z in zip(features, model.ladder.rungs, zs, strict=True):
        sees_h = h is not None and model.ladder.merge == "network"
        loc_q, log_scale_q = rung.posterior(torch.cat([d, h], dim=1) if sees_h else d).unbind(1)
        scale_q = log_scale_q.exp()
        loc_p, scale_p = torch.zeros_like(z), torch.ones_like(z)
        if h is not None:
            loc_p, log_scale_p = rung.prior(h).unbind(1)
            scale_p = log_scale_p.exp()
            if model.ladder.merge == "precision":
                precision = scale_q**-2 + scale_p**-2
                loc_q, scale_q = (loc_q * scale_q**-2 + loc_p * scale_p**-2) / precision, precision**-0.5
        log_w = log_w + log_normal(z, loc_p, scale_p) - log_normal(z, loc_q, scale_q)
        h = rung.join(h, z)
    (log_px,) = model.likelihood(h).log_prob(x)
    return log_w + log_px


@every_ladder
def test_gradients_reach_every_parameter(build):
    for objective in (ELBO(), IWAE(3)):
        model, x = build(), torch.rand(8, 1, 6, 5).round()
        objective(objective.draw(model, x), 0)["loss"].backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_free_bits_of_each_layer():
    """D + sum_i max(lambda, R_i): a lambda between the rates of the layers holds the lower ones alone."""
    draw = dense()(torch.rand(8, 1, 6, 5).round())
    rates = torch.stack([torch.distributions.kl_divergence(latent.q, latent.p).mean() for latent in draw.latents])
    limit = rates.median().item()
    terms = ELBO(free_bits=limit, free_bits_of="latent")(draw, 0)
    torch.testing.assert_close(terms["rate"], rates.sum())
    torch.testing.assert_close(terms["loss"], terms["distortion"] + rates.clamp(min=limit).sum())


@every_ladder
def test_higher_layers_see_x_through_more_blocks(build):
    """q(z_L | x) comes from d_L, which all of the blocks have made; the features of each lower layer from fewer of them."""
    ladder, x = build().ladder, torch.rand(2, 1, 6, 5).round()
    blocks = list(ladder.blocks) if isinstance(ladder, DenseLadder) else [block for blocks in ladder.blocks for block in blocks]
    features = ladder.bottom_up(x)
    assert len(blocks) == len(features) == len(list(ladder.rungs))
    for i, d in enumerate(features):
        used = [torch.autograd.grad(d.sum(), next(block.parameters()), retain_graph=True, allow_unused=True)[0] for block in blocks]
        assert [gradient is not None for gradient in used] == [True] * (len(blocks) - i) + [False] * i


@every_ladder
def test_every_layer_depends_on_those_above(build):
    """Of p(z_i | z_>i) and q(z_i | x, z_>i), and of p(x | z): the gradient of each with respect to the z above."""
    model, x = build(), torch.rand(2, 1, 6, 5).round()
    draw = model(x)
    skip = not isinstance(model.ladder, DenseLadder) or model.ladder.rungs[0].skip
    zs = [latent.z for latent in draw.latents]
    for i, latent in enumerate(draw.latents[1:], start=1):
        for distribution in (latent.p, latent.q):
            assert torch.autograd.grad(distribution.mean.sum(), zs[i - 1], retain_graph=True)[0].any()
    direct = [i for i in range(len(zs)) if depends_directly(model, zs, i)]
    assert direct == (list(range(len(zs))) if skip else [len(zs) - 1])


def depends_directly(model: HierarchicalVAE, zs: list[Tensor], i: int) -> bool:
    """Whether p(x | z) moves with z_i while the other latents stay."""

    def mean(zs: list[Tensor]) -> Tensor:
        h = None
        for rung, z in zip(model.ladder.rungs, zs, strict=True):
            h = rung.join(h, z[0])
        return model.likelihood(h).mean

    return not torch.equal(mean(zs), mean([z + (j == i) for j, z in enumerate(zs)]))


@pytest.mark.parametrize("x_shape", [(1, 28, 28), (3, 30, 21), (1, 1, 3)], ids=str)
@pytest.mark.parametrize("num_layers", [(0, 0), (1,), (0, 0, 1), (2, 1), (1, 0, 1, 1)], ids=str)
@merges
def test_shapes_of_feature_maps(x_shape, num_layers, merge):
    """z_i has a place for each pixel of its resolution, odd sizes too; the state has those of the finest that has a latent."""
    model = convolutional(x_shape, num_layers, merge)
    draw = model(torch.rand(2, *x_shape), num_samples=3)
    expected = [(3,)]
    for level in range(len(num_layers), 0, -1):
        side = [-(-size // 2**level) for size in x_shape[1:]]
        expected += [(2, *side)] * num_layers[level - 1]
    assert [tuple(latent.p.event_shape) for latent in draw.latents] == expected
    assert len(expected) == 1 + sum(num_layers)
    check_calls(model, draw, x_shape)


@pytest.mark.parametrize("z_dims", [(3,), (5, 3), (6, 5, 4, 3)], ids=str)
@pytest.mark.parametrize("x_shape", [(1, 28, 28), (3, 30, 21)], ids=str)
@pytest.mark.parametrize("skip", [False, True])
@merges
def test_shapes_of_vectors(x_shape, z_dims, skip, merge):
    model = dense(x_shape, z_dims, merge, skip)
    draw = model(torch.rand(2, *x_shape), num_samples=3)
    assert [tuple(latent.p.event_shape) for latent in draw.latents] == [(dim,) for dim in reversed(z_dims)]
    assert model.ladder.state_shape == ((sum(z_dims),) if skip else (z_dims[0],))
    check_calls(model, draw, x_shape)


def check_calls(model: HierarchicalVAE, draw: Draw, x_shape: tuple[int, ...]) -> None:
    for latent in draw.latents:
        assert latent.z.shape == (3, 2, *latent.p.event_shape)
        assert latent.log_q.shape == latent.log_p.shape == (3, 2)
    assert (draw.p_x.batch_shape, draw.p_x.event_shape) == ((3, 2), x_shape)
    assert draw.log_w.isfinite().all()
    for mean in (False, True):
        assert model.sample(4, mean=mean).shape == (4, *x_shape)
    assert model.reconstruct(draw.x).shape == draw.x.shape
    top = draw.latents[0].z
    for z in (top, top[0], top[0, 0]):
        assert model.decode(z).mean.shape == (*z.shape[: z.ndim - len(model.encode(draw.x).event_shape)], *x_shape)


@every_ladder
def test_samples_of_x_average_to_their_mean(build):
    """E[x] = E[E[x | z]], pixel by pixel."""
    model = build()
    x, mean = model.sample(4000), model.sample(4000, mean=True)
    error = ((x.var(0) + mean.var(0)) / 4000).sqrt()
    assert ((x.mean(0) - mean.mean(0)).abs() < 5 * error).all()
    assert ((x == 0) | (x == 1)).all()


def test_depth_does_not_blow_up_the_state():
    """Each of n branches makes the square of its input 1 + 1/n times as large, n of them (1 + 1/n)^n < e; undamped, 2^n.

    Each of n latents adds 1/n before that, all of them less than e. The factor 3 is for 32 channels of random weights.
    """
    ladder = ConvLadder((1, 28, 28), (8,), (0, 0, 40), channels=32)
    h, sizes = None, []
    with torch.no_grad():
        for rung in ladder.rungs:
            h = rung.join(h, torch.randn(8, *rung.z_shape))
            sizes.append(h.square().mean().item())
        features = [d.square().mean().item() for d in ladder.bottom_up(torch.randn(8, 1, 28, 28))]
    assert sizes[-1] < 3 * (math.e * sizes[0] + math.e)
    assert features[0] < 3 * math.e * features[-1]


def test_the_scale_of_a_learned_prior_is_bounded():
    """log sigma stays in (-5, 5), keeps its gradient near 0 and its order everywhere; mu passes."""
    log_scale = torch.linspace(-30, 30, 61)
    params = torch.stack([10 * log_scale, log_scale])[None].requires_grad_()
    loc, bounded = Bounded()(params)[0]
    assert torch.equal(loc, params[0, 0])
    assert (bounded.abs() <= 5).all()
    assert (bounded.diff()[10:-10] > 0).all()
    bounded[30].backward()
    assert params.grad[0, 1, 30].item() == pytest.approx(1)
    for build in (dense, convolutional):
        model = build()
        with torch.no_grad():
            for rung in model.ladder.rungs[1:]:
                for parameter in rung.prior.parameters():
                    parameter.fill_(1e3)
        for latent in model(torch.rand(2, 1, 6, 5)).latents[1:]:
            assert latent.p.stddev.max().item() == pytest.approx(math.exp(5))


def test_a_vamp_prior_is_made_of_the_top_posterior():
    """p(z_L) = (1/C) sum_c q(z_L | u_c), also in a copy of the model; the ladder's weights are saved once."""
    prior = partial(priors.VampPrior, x_shape=(1, 6, 5), num_components=7)
    for build in (partial(dense, merge="network", skip=True), convolutional):
        model = copy.deepcopy(build(prior=prior))
        assert set(model.prior.state_dict()) == {"pseudo_inputs"}
        with torch.no_grad():
            for parameter in model.parameters():  # the copy's prior must follow the copy's ladder
                parameter.add_(0.1 * torch.randn_like(parameter))
        draw = model(torch.rand(4, 1, 6, 5).round(), num_samples=3)
        top = draw.latents[0]
        q = model.encode(model.prior.pseudo_inputs.clamp(0, 1))
        torch.testing.assert_close(top.log_p, log_mean_exp(q.log_prob(top.z[:, :, None]).movedim(-1, 0)))
        assert model.sample(6).shape == (6, 1, 6, 5)
        (-draw.log_w.mean()).backward()
        assert model.prior.pseudo_inputs.grad.any()


def test_missing_values_are_seen_as_zeros_and_not_scored():
    model, x = dense(), torch.rand(4, 1, 6, 5).round()
    model.missing = True
    holes = torch.rand(4, 1, 6, 5) < 0.5
    given = x.masked_fill(holes, torch.nan)
    torch.manual_seed(1)
    draw = model(given, num_samples=3)
    model.missing = False
    torch.manual_seed(1)
    full = model(x.masked_fill(holes, 0.0), num_samples=3)
    torch.testing.assert_close(draw.latents[1].z, full.latents[1].z, rtol=0, atol=0)
    expected = full.p_x.base_dist.log_prob(x).masked_fill(holes, 0.0).sum((-3, -2, -1))
    torch.testing.assert_close(draw.log_px, expected)
    model.missing = True
    assert model.reconstruct(given).isfinite().all()
    torch.testing.assert_close(model.encode(given).mean, full.latents[0].q.mean)


def test_probabilities_stay_float32_under_autocast():
    for build in (dense, convolutional):
        model, x = build().float(), torch.rand(4, 1, 6, 5, dtype=torch.float32).round()
        with torch.autocast("cpu", torch.bfloat16):
            draw = model(x, num_samples=2)
        assert {latent.log_q.dtype for latent in draw.latents} | {latent.log_p.dtype for latent in draw.latents} == {torch.float32}
        assert draw.log_w.dtype == torch.float32
        draw.log_w.mean().backward()
        assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="merge=sum is unknown: choose precision or network"):
        dense(merge="sum")
    with pytest.raises(ValueError, match=r"z_dims=\[\] must hold at least one number"):
        DenseLadder((4,), [], MLP)
    with pytest.raises(ValueError, match=r"z_dims=\[3, 0\]"):
        DenseLadder((4,), [3, 0], MLP)
    with pytest.raises(ValueError, match=r"num_layers=\[\]"):
        ConvLadder((1, 8, 8), (3,), [])
    with pytest.raises(ValueError, match=r"in_shape = \(channels, height, width\)"):
        ConvLadder((8,), (3,))
    with pytest.raises(ValueError, match=r"prior is over z of shape \(4,\), but the top of the ladder over \(3,\)"):
        dense(prior=priors.StandardNormal((4,)))(torch.rand(2, 1, 6, 5))
    with pytest.raises(ValueError, match=r"inputs of shape \(1, 6, 5\), but got \(2, 1, 5, 6\)"):
        dense()(torch.rand(2, 1, 5, 6))
    conditional = likelihoods.Bernoulli(MLP, (5,), (1, 6, 5), num_classes=3)
    with pytest.raises(ValueError, match="not conditional on y: set num_classes=0, or model=vae"):
        HierarchicalVAE(dense().ladder, conditional, priors.StandardNormal((3,)))


@pytest.mark.parametrize(("prior", "decoder"), [("standard_normal", "conv"), ("vamp", "mlp"), ("flow", "resnet")])
@pytest.mark.parametrize("model", ["ladder_vae", "hvae", "top_down_vae"])
def test_the_yamls_build_models_that_train(model, prior, decoder, tmp_path):
    """Odd images in colour, any decoder, and the prior of the top chosen by its dial."""
    from vaelab.build import build

    options = [f"model={model}", f"prior={prior}", f"decoder={decoder}", "latent_dim=4", "data.shape=[3,15,11]", "objective.kl=k1"]
    lit = build(composed(options, tmp_path)).double()
    draw = lit.objective.draw(lit.model, torch.rand(2, 3, 15, 11).round())
    assert draw.latents[0].z.shape == (1, 2, 4)
    lit.objective(draw, 0)["loss"].backward()
    assert all(parameter.grad is not None for parameter in lit.model.parameters())


def test_a_posterior_for_a_model_that_has_its_own_is_refused(tmp_path):
    from vaelab.build import build

    with pytest.raises(ValueError, match=r"posterior=vaelab\.posteriors\.Flow is not used by model=.*HierarchicalVAE: remove it"):
        build(composed(["model=ladder_vae", "posterior=iaf"], tmp_path))
