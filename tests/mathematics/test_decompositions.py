"""What is penalised of the aggregate posterior: its parts, its covariance, its distance from the prior; and how penalties add up."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from linear_gaussian import orthogonal
from standard_errors import assert_mean, errors_off
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from vaelab import Draw, Latent
from vaelab.divergences import kl
from vaelab.networks import MLP
from vaelab.objectives import DIP, ELBO, IWAE, MIWAE, MMD, PIWAE, BetaTC, FactorTC, Objective, Sum
from vaelab.objectives.mmd import kernel, mmd
from vaelab.objectives.total_correlation import permuted
from vaelab.schedules import Linear

pytestmark = pytest.mark.usefixtures("double")


def product(loc: Tensor, scale: Tensor, event_ndim: int = 1) -> Independent:
    return Independent(Normal(loc, scale, validate_args=False), event_ndim)


def draw_of(q: Distribution, p: Distribution, num_samples: int = 1) -> Draw:
    """z ~ q under p, and an x of one number that z explains a little."""
    z = q.rsample((num_samples,))
    p_x = product(z.flatten(2).sum(-1, keepdim=True), torch.ones(1))
    return Draw(x=torch.ones(z.shape[1], 1), y=None, p_x=p_x, latents=(Latent(z=z, q=q, p=p, log_q=q.log_prob(z)),))


def standard(*z_shape: int) -> Independent:
    return product(torch.zeros(z_shape), torch.ones(z_shape), len(z_shape))


def random_q(num: int, *z_shape: int) -> Independent:
    loc, log_scale = torch.randn(num, *z_shape), 0.5 * torch.randn(num, *z_shape) - 0.5
    return product(loc.requires_grad_(), log_scale.exp(), len(z_shape))


ESTIMATORS = pytest.mark.parametrize("estimator", ["mss", "mws"])


# Total correlation, estimated from the minibatch (Chen et al., 2018).


def stratified(batch_size: int, num_examples: int) -> list[list[float]]:
    """W with M = B - 1: 1/N on the diagonal, (N - M)/(N M) for one other, 1/M for the rest."""
    others = batch_size - 1
    rows = [[1 / others] * batch_size for _ in range(batch_size)]
    for i in range(batch_size):
        rows[i][i] = 1 / num_examples
        rows[i][(i + 1) % batch_size] = (num_examples - others) / (num_examples * others)
    return rows


@pytest.mark.parametrize(("batch_size", "num_examples"), [(2, 2), (2, 50), (3, 3), (3, 4), (10, 10), (64, 1000), (128, 60_000)])
def test_stratified_weights(batch_size, num_examples):
    """Those of the paper's appendix C.2; each row sums to one (in four public repositories two columns are overwritten instead)."""
    weights = BetaTC().log_weights(batch_size, num_examples).exp()
    torch.testing.assert_close(weights.sum(1), torch.ones(batch_size))
    torch.testing.assert_close(weights, torch.tensor(stratified(batch_size, num_examples)))
    uniform = BetaTC(estimator="mws").log_weights(batch_size, num_examples).exp()
    torch.testing.assert_close(uniform, torch.full((batch_size, batch_size), 1 / (num_examples * batch_size)))


@pytest.mark.parametrize("batch_size", [2, 3, 4, 5])
def test_stratified_weights_are_unbiased(batch_size):
    """For a data set of five: q(z) is the mean of sum_j W_ij q(z | x_j) over every batch that has x_i in place i, for all i and x_i.

    Weights of 1 / B are not: x_i, of which z is a sample, is in every one of those batches.
    """
    densities = random_q(5, 2).log_prob(torch.randn(2)).exp().detach()  # q(z | x_n) at one z
    weights = BetaTC().log_weights(batch_size, 5).exp()
    for place, example in itertools.product(range(batch_size), range(5)):
        batches = torch.tensor([batch for batch in itertools.permutations(range(5), batch_size) if batch[place] == example])
        estimates = (weights[place] * densities[batches]).sum(1)
        torch.testing.assert_close(estimates.mean(), densities.mean(), rtol=0, atol=1e-12)
        if batch_size < 5:
            assert (densities[batches].mean() - densities.mean()).abs() > 1e-4


@pytest.mark.parametrize(("z_shape", "num_samples"), [((3,), 1), ((2, 2), 4)])
@ESTIMATORS
def test_the_three_parts_add_up_to_the_sampled_kl(estimator, z_shape, num_samples):
    """MI + TC + dimension-wise KL = log q(z | x) - log p(z) of the same samples, whatever the weights; the loss weighs each."""
    draw = draw_of(random_q(7, *z_shape), standard(*z_shape), num_samples)
    terms = BetaTC(alpha=0.3, beta=4.0, gamma=2.0, estimator=estimator, num_examples=20)(draw, 0)
    parts = [terms[name] for name in ("mutual_information", "total_correlation", "dimension_wise_kl")]
    expected = kl(draw.latent, "k1").mean().detach()
    torch.testing.assert_close(sum(parts), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(terms["rate"], expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(terms["distortion"], -draw.log_px.mean().detach())
    torch.testing.assert_close(terms["elbo"], draw.log_w.mean().detach(), rtol=0, atol=1e-10)
    weighed = 0.3 * parts[0] + 4 * parts[1] + 2 * parts[2] - draw.log_px.mean().detach()
    torch.testing.assert_close(terms["loss"].detach(), weighed, rtol=0, atol=1e-10)


@ESTIMATORS
def test_with_all_weights_one_it_is_the_elbo(estimator):
    """Value and gradient of ELBO(kl=k1)."""
    draw = draw_of(random_q(7, 3), standard(3), num_samples=2)
    losses = [BetaTC(1.0, 1.0, 1.0, estimator, num_examples=20)(draw, 0)["loss"], ELBO(kl="k1")(draw, 0)["loss"]]
    torch.testing.assert_close(*losses, rtol=0, atol=1e-10)
    gradients = [torch.autograd.grad(loss, draw.latent.q.base_dist.loc, retain_graph=True)[0] for loss in losses]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


def test_the_parts_are_those_of_the_formula():
    """As loops over i, j, d."""
    draw = draw_of(random_q(4, 2), standard(2))
    z, q = draw.latent.z[0], draw.latent.q.base_dist
    weights = stratified(4, 9)
    mi, tc, dims = 0.0, 0.0, 0.0
    for i in range(4):
        density = [[Normal(q.loc[j, d], q.scale[j, d]).log_prob(z[i, d]).exp().item() for d in range(2)] for j in range(4)]
        joint = math.log(sum(weights[i][j] * density[j][0] * density[j][1] for j in range(4)))
        marginals = [math.log(sum(weights[i][j] * density[j][d] for j in range(4))) for d in range(2)]
        mi += (math.log(density[i][0] * density[i][1]) - joint) / 4
        tc += (joint - sum(marginals)) / 4
        dims += (sum(marginals) - Normal(0.0, 1.0).log_prob(z[i]).sum().item()) / 4
    terms = BetaTC(num_examples=9)(draw, 0)
    found = [terms[name].item() for name in ("mutual_information", "total_correlation", "dimension_wise_kl")]
    assert found == pytest.approx([mi, tc, dims], abs=1e-10)


def test_equal_posteriors_have_no_total_correlation():
    """q(z | x) = N(0, I_10) for 10,000 examples: z is independent of x and so are its dimensions, MI = TC = KL = 0, not 82.9 (PITFALLS).

    Weights that sum to 1 / N instead of 1 are off by log N for each logarithm, which is a constant.
    """
    draw = draw_of(product(torch.zeros(100, 10), torch.ones(100, 10)), standard(10), num_samples=3)
    for estimator, log_n in (("mss", 0.0), ("mws", math.log(10_000))):
        terms = BetaTC(estimator=estimator, num_examples=10_000)(draw, 0)
        assert terms["mutual_information"].item() == pytest.approx(log_n, abs=1e-10)
        assert terms["total_correlation"].item() == pytest.approx(9 * log_n, abs=1e-10)
        assert terms["dimension_wise_kl"].item() == pytest.approx(-10 * log_n, abs=1e-10)


def test_the_whole_data_set_in_one_batch_gives_the_parts_themselves():
    """With M = N the "mws" estimate is log q(z) - log N: up to that constant, MI, TC and KL_dim are integrals, taken on a grid."""
    loc, scale = torch.tensor([[-1.0, -0.8], [-0.2, 0.1], [0.7, 0.5], [1.5, 1.6]]), torch.tensor([0.5, 0.4])
    axis = torch.linspace(-6, 6, 1201)
    each = Normal(loc[:, :, None], scale[:, None]).log_prob(axis).exp()  # (N, D, grid)
    grid = each[:, 0, :, None] * each[:, 1, None, :]  # (N, grid, grid)
    joint, marginals = grid.mean(0), each.mean(0)
    mi = (grid * (grid / joint).log()).sum() * 0.01**2 / 4
    tc = (joint * (joint / marginals[0][:, None] / marginals[1]).log()).sum() * 0.01**2
    dims = (marginals * (marginals.log() - Normal(0.0, 1.0).log_prob(axis))).sum() * 0.01
    assert mi > 0.3
    assert tc > 0.3

    q, objective, constant = product(loc, scale.expand(4, 2)), BetaTC(estimator="mws", num_examples=4), math.log(4)
    terms = [objective(draw_of(q, standard(2), num_samples=200), 0) for _ in range(100)]
    for name, expected in (
        ("mutual_information", mi + constant),
        ("total_correlation", tc + constant),
        ("dimension_wise_kl", dims - 2 * constant),
    ):
        assert_mean(torch.stack([one[name] for one in terms]), expected)


def test_beta_tc_refuses_what_it_cannot_estimate():
    """A batch of one or of more than there are; an unknown N; what does not factorise; an estimator that does not exist."""
    one, three = (draw_of(random_q(num, 2), standard(2)) for num in (1, 3))
    with pytest.raises(ValueError, match=r"batches of 2 to N = 10 examples, but one has 1"):
        BetaTC(num_examples=10)(one, 0)
    with pytest.raises(ValueError, match=r"batches of 2 to N = 2 examples, but one has 3"):
        BetaTC(num_examples=2)(three, 0)
    with pytest.raises(ValueError, match=r"set objective.num_examples"):
        BetaTC()(three, 0)
    with pytest.raises(ValueError, match=r"estimator=exact is unknown: choose mss or mws"):
        BetaTC(estimator="exact")
    full = MultivariateNormal(torch.zeros(3, 2), torch.eye(2))
    for draw in (draw_of(full, standard(2)), draw_of(random_q(3, 2), MultivariateNormal(torch.zeros(2), torch.eye(2)))):
        with pytest.raises(ValueError, match=r"needs q and p that factorise .* MultivariateNormal.*: use posterior=gaussian"):
            BetaTC(num_examples=10)(draw, 0)


# Total correlation by a discriminator (Kim & Mnih, 2018).


def small_discriminator(in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> nn.Module:
    return MLP(in_shape, out_shape, hidden=(8,))


class LogRatio(nn.Module):
    """scale log q(z) / prod_d q(z_d) + shift for z ~ N(0, S): with (1, 0), the logit of the optimal discriminator."""

    def __init__(self, covariance: Tensor) -> None:
        super().__init__()
        self.joint = MultivariateNormal(torch.zeros(len(covariance)), covariance)
        self.product = product(torch.zeros(len(covariance)), covariance.diagonal().sqrt())
        self.scale, self.shift = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        return (self.scale * (self.joint.log_prob(z) - self.product.log_prob(z)) + self.shift)[:, None]


def test_the_optimal_discriminator_measures_the_total_correlation():
    """TC of N(0, S) is -1/2 log det of the correlations; and no scale or shift of that logit has a smaller loss.

    q(z | x) = N(mu(x), I / 2) with Cov(mu) = S - I / 2 makes z ~ N(0, S).
    """
    root = torch.tensor([[0.9, 0.0, 0.0], [0.8, 0.5, 0.0], [-0.3, 0.4, 0.7]])
    covariance = root @ root.T + 0.5 * torch.eye(3)
    objective = FactorTC((3,), lambda in_shape, out_shape: LogRatio(covariance))
    found, gradients = [], []
    for _ in range(100):
        draw = draw_of(product(torch.randn(2000, 3) @ root.T, torch.full((2000, 3), 0.5**0.5)), standard(3), num_samples=2)
        terms = objective(draw, 0)
        found.append(terms["total_correlation"])
        gradients.append(torch.stack(torch.autograd.grad(terms["loss"], list(objective.parameters()))))
    deviations = covariance.diagonal().sqrt()
    assert_mean(torch.stack(found), -0.5 * torch.logdet(covariance / deviations / deviations[:, None]))
    assert_mean(torch.stack(gradients), 0.0)
    with torch.no_grad():
        objective.discriminator.scale.fill_(0.5)
    draw = draw_of(product(torch.randn(4000, 3) @ root.T, torch.full((4000, 3), 0.5**0.5)), standard(3), num_samples=50)
    (slope,) = torch.autograd.grad(objective(draw, 0)["loss"], [objective.discriminator.scale])
    assert slope < -0.01


def test_a_discriminator_that_knows_nothing():
    """D = 1/2 for every z: TC = 0, and its cross-entropy is log 2."""
    objective = FactorTC((2,), small_discriminator)
    nn.init.zeros_(objective.discriminator.layers[-2].weight)
    nn.init.zeros_(objective.discriminator.layers[-2].bias)
    terms = objective(draw_of(random_q(6, 2), standard(2)), 0)
    assert terms["total_correlation"].item() == 0
    assert terms["discriminator_loss"].item() == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize("z_shape", [(3,), (2, 2)])
def test_the_two_players_do_not_leak_into_one_another(z_shape):
    """One backward pass: D gets the gradient of its cross-entropy alone, z that of the mean logit alone; the loss is the TC in value."""
    objective = FactorTC(z_shape, small_discriminator)
    draw = draw_of(random_q(9, *z_shape), standard(*z_shape), num_samples=2)
    parameters, loc = list(objective.parameters()), draw.latent.q.base_dist.loc
    state = torch.get_rng_state()
    terms = objective(draw, 0)
    assert terms["loss"].item() == pytest.approx(terms["total_correlation"].item(), abs=1e-12)
    *found, of_loc = torch.autograd.grad(terms["loss"], [*parameters, loc], retain_graph=True)

    torch.set_rng_state(state)  # the same permutations
    z = draw.latent.z.flatten(0, 1).flatten(1)
    logits = objective.discriminator(z)
    real, shuffled = logits.sigmoid(), objective.discriminator(permuted(z).detach()).sigmoid()
    cross_entropy = -(real.log().mean() + (1 - shuffled).log().mean()) / 2
    assert terms["discriminator_loss"].item() == pytest.approx(cross_entropy.item(), abs=1e-12)
    for one, other in zip(found, torch.autograd.grad(cross_entropy, parameters, retain_graph=True), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
        assert one.any()
    torch.testing.assert_close(of_loc, torch.autograd.grad(logits.mean(), loc, retain_graph=True)[0], rtol=0, atol=1e-12)
    assert of_loc.any()
    assert torch.autograd.grad(cross_entropy, loc)[0].any()  # which is what would have leaked


def test_factor_vae_is_a_sum():
    """The encoder follows the ELBO plus w TC, the decoder the ELBO alone, and D's optimizer group carries its own options."""
    theory = orthogonal()
    model = theory.vae((6,), shift=0.4)
    draw = model(theory.sample(8))
    elbo, tc = ELBO(), FactorTC((2,), small_discriminator, optimizer={"lr": 1e-4, "betas": [0.5, 0.9]})
    objective = Sum(weights={"tc": 35.0}, elbo=elbo, tc=tc)

    def gradients(loss: Tensor, part: nn.Module) -> Tensor:
        found = torch.autograd.grad(loss, list(part.parameters()), retain_graph=True, materialize_grads=True)
        return torch.cat([gradient.flatten() for gradient in found])

    terms, plain = objective(draw, 0), elbo(draw, 0)
    assert set(terms) == set(plain) | {"total_correlation", "discriminator_loss"}
    mean_logit = tc.discriminator(draw.latent.z[0]).mean()
    for part in (model.posterior, model.likelihood):
        expected = gradients(plain["loss"], part) + 35 * gradients(mean_logit, part)
        torch.testing.assert_close(gradients(terms["loss"], part), expected, rtol=0, atol=1e-10)
    assert not gradients(mean_logit, model.likelihood).any()
    (group,) = objective.parameter_groups()
    assert group["params"] == list(tc.discriminator.parameters())
    assert {name: value for name, value in group.items() if name != "params"} == {"lr": 1e-4, "betas": [0.5, 0.9]}
    optimizer = torch.optim.Adam([{"params": list(model.parameters())}, *objective.parameter_groups()], lr=1e-3)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 1e-4]


def test_permuting_keeps_the_marginals_and_breaks_the_dependence():
    """Each column holds the same numbers in another order, and not all columns in the same one."""
    z = torch.randn(5000, 1) + 0.1 * torch.randn(5000, 3)
    shuffled = permuted(z)
    torch.testing.assert_close(shuffled.sort(0).values, z.sort(0).values, rtol=0, atol=0)
    assert torch.corrcoef(z.T).min() > 0.9
    off_diagonal = torch.corrcoef(shuffled.T)[~torch.eye(3, dtype=torch.bool)]
    assert off_diagonal.abs().max() < 5 / math.sqrt(5000)


# The covariance of the aggregate posterior (Kumar et al., 2018).


@pytest.mark.parametrize("z_shape", [(1,), (3,), (2, 2)])
def test_covariances_are_those_of_numpy(z_shape):
    """I: Cov(mu), divided by B; II: that of z by the law of total variance. The penalty is the squared distance from I, weighed apart."""
    q = random_q(50, *z_shape)
    draw = draw_of(q, standard(*z_shape))
    size = math.prod(z_shape)
    first = np.cov(q.mean.detach().flatten(1).numpy(), rowvar=False, bias=True).reshape(size, size)
    second = first + np.diag(q.variance.flatten(1).mean(0).numpy())
    for covariance, expected in (("i", first), ("ii", second)):
        objective = DIP(covariance, lambda_od=3.0, lambda_d=0.5)
        torch.testing.assert_close(objective.covariance_of(q).detach(), torch.from_numpy(expected))
        terms = objective(draw, 0)
        diagonal, everything = ((np.diag(expected) - 1) ** 2).sum(), ((expected - np.eye(size)) ** 2).sum()
        assert terms["dip_diagonal"].item() == pytest.approx(diagonal, rel=1e-10)
        assert terms["dip_off_diagonal"].item() == pytest.approx(everything - diagonal, rel=1e-10, abs=1e-12)
        assert terms["loss"].item() == pytest.approx(3 * (everything - diagonal) + 0.5 * diagonal, rel=1e-10)


def test_the_second_covariance_is_that_of_z():
    """Of a million samples of z ~ q(z), within 5 standard errors."""
    q = random_q(20, 2)
    z = q.sample((50_000,))
    centred = z - q.mean.mean(0)
    products = centred[..., :, None] * centred[..., None, :]
    assert_mean(products.mean(1), DIP("ii").covariance_of(q).detach())
    assert (errors_off(products.mean(1), DIP("i").covariance_of(q).detach()).diagonal() > 10).all()


def test_a_white_batch_costs_nothing():
    """Cov(mu) = I for type I, and Cov(mu) = I - E diag sigma^2 for type II, whose posteriors have a width."""
    loc = torch.randn(30, 3)
    white = (loc - loc.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(loc.T.cov(correction=0))).T
    scale = torch.full((30, 3), 0.6)
    for covariance, means in (("i", white), ("ii", 0.8 * white)):
        assert DIP(covariance)(draw_of(product(means, scale), standard(3)), 0)["loss"].item() == pytest.approx(0, abs=1e-12)
        assert DIP(covariance)(draw_of(product(1.1 * means, scale), standard(3)), 0)["loss"].item() > 0.1


def test_dip_refuses():
    """A covariance that does not exist, and posteriors whose dimensions are not independent."""
    with pytest.raises(ValueError, match=r"covariance=iii is unknown: choose i or ii"):
        DIP("iii")
    with pytest.raises(ValueError, match=r"DIP needs .* independent, not MultivariateNormal: use posterior=gaussian"):
        DIP()(draw_of(MultivariateNormal(torch.zeros(3, 2), torch.eye(2)), standard(2)), 0)


# The maximum mean discrepancy (Gretton et al., 2012).


def test_kernels_by_hand():
    """C = 2 D s: for D = 2, s = 1/2 and |a - b|^2 = 8, exp(-8 / 2) and 2 / (2 + 8); scales add up."""
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 2.0]])
    assert kernel(a, b, "rbf", [0.5]).item() == pytest.approx(math.exp(-4))
    assert kernel(a, b, "imq", [0.5]).item() == pytest.approx(0.2)
    assert kernel(a, b, "rbf", [0.5, 2.0]).item() == pytest.approx(math.exp(-4) + math.exp(-1))
    assert kernel(a, b, "imq", [0.5, 2.0]).item() == pytest.approx(0.2 + 0.5)


def test_mmd_by_hand():
    """Of two points with themselves: k(a, b) - 1, which is negative as an unbiased estimate of 0 must be at times; and as loops."""
    points = torch.tensor([[1.0, 0.0], [-1.0, 2.0]])
    assert mmd(points, points, "rbf", [0.5]).item() == pytest.approx(math.exp(-4) - 1)
    z, u = torch.randn(5, 3), torch.randn(5, 3)

    def k(a: Tensor, b: Tensor) -> float:
        return math.exp(-(a - b).square().sum().item() / 6)

    pairs = [(i, j) for i in range(5) for j in range(5)]
    within = sum(k(z[i], z[j]) + k(u[i], u[j]) for i, j in pairs if i != j) / 20
    assert mmd(z, u, "rbf", [1.0]).item() == pytest.approx(within - 2 * sum(k(z[i], u[j]) for i, j in pairs) / 25)


def gaussian_mmd(distance: float, variance: float, dims: int, scale: float) -> float:
    """MMD^2 of N(m, v I) and N(0, I) with |m| = distance, for the RBF kernel.

    E exp(-|a - b|^2 / C) = (1 + 2 w / C)^(-D/2) exp(-|m|^2 / (C + 2 w)), where a - b ~ N(m, w I).
    """
    c = 2 * dims * scale

    def expected(square: float, w: float) -> float:
        return (1 + 2 * w / c) ** (-dims / 2) * math.exp(-square / (c + 2 * w))

    return expected(0, 2 * variance) - 2 * expected(distance**2, variance + 1) + expected(0, 2)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.5, 1.0), (0.0, 0.4), (1.0, 1.5)])
def test_mmd_is_unbiased(shift, scale):
    """Within 5 standard errors of its closed form for two Gaussians in three dimensions, which is 0 where they are equal."""
    objective = MMD("rbf", [0.5])
    q = product(torch.tensor([shift, 0.0, 0.0]).expand(40, 3), torch.full((40, 3), scale))
    found = torch.stack([objective(draw_of(q, standard(3)), 0)["mmd"] for _ in range(2000)])
    exact = gaussian_mmd(shift, scale**2, 3, 0.5)
    assert_mean(found, exact)
    assert (errors_off(found, 0.0) > 10) == (exact > 0)
    assert exact >= 0


def test_mmd_of_several_samples_of_each_example_is_unbiased():
    """Two samples of one q(z | x) are not independent samples of q(z): here q(z) = N(0, 1) = p(z), of ten examples and five samples."""
    found = []
    for _ in range(2000):
        q = product(0.9**0.5 * torch.randn(10, 1), torch.full((10, 1), 0.1**0.5))
        found.append(MMD("rbf", [1.0])(draw_of(q, standard(1), num_samples=5), 0)["mmd"])
    assert_mean(torch.stack(found), 0.0)


def test_mmd_of_the_inverse_multiquadratic():
    """Its expectation is an integral over the distance of two draws in one dimension; 0 for equal laws."""
    axis = torch.linspace(-30, 30, 100_001)

    def expected(shift: float, variance: float) -> float:
        density = Normal(shift, math.sqrt(variance)).log_prob(axis).exp()
        return torch.trapezoid(sum(2 * s / (2 * s + axis.square()) for s in (0.2, 2.0)) * density, axis).item()

    for shift, scale in ((0.0, 1.0), (0.8, 0.5)):
        exact = expected(0, 2 * scale**2) - 2 * expected(shift, 1 + scale**2) + expected(0, 2)
        q = product(torch.full((40, 1), shift), torch.full((40, 1), scale))
        found = torch.stack([MMD("imq", [0.2, 2.0])(draw_of(q, standard(1)), 0)["loss"] for _ in range(1000)])
        assert_mean(found, exact)


def test_mmd_under_a_prior_for_each_example():
    """A prior given y has batch shape (B,): as many points of it are drawn as of q. Here both are the same points."""
    means = torch.tensor([[0.0], [1.0], [3.0]])
    points = product(means, torch.full((3, 1), 1e-12))
    k = kernel(means, means, "rbf", [1.0])
    expected = 2 * (k.sum() - 3) / 6 - 2 * k.mean()
    torch.testing.assert_close(MMD("rbf", [1.0])(draw_of(points, points), 0)["loss"], expected, rtol=0, atol=1e-9)
    one = product(torch.zeros(3, 1), torch.full((3, 1), 1e-12))
    assert MMD("rbf", [1.0])(draw_of(one, one, num_samples=4), 0)["loss"].item() == pytest.approx(0, abs=1e-9)


def test_mmd_pulls_on_posterior_and_prior():
    """With reparameterised samples of the prior, a learned prior gets a gradient as well."""
    q, loc = random_q(20, 2), torch.zeros(2, requires_grad=True)
    terms = MMD()(draw_of(q, product(loc, torch.ones(2)), num_samples=2), 0)
    assert all(gradient.any() for gradient in torch.autograd.grad(terms["loss"], [q.base_dist.loc, loc]))
    assert not terms["mmd"].requires_grad


def test_mmd_refuses():
    for build, message in (
        (lambda: MMD("laplace"), "kernel=laplace is unknown: choose rbf or imq"),
        (lambda: MMD(scales=[]), r"scales=\[\] must hold at least one number"),
        (lambda: MMD(scales=[1.0, 0.0]), r"scales=\[1.0, 0.0\] must be positive"),
        (lambda: MMD()(draw_of(random_q(1, 2), standard(2)), 0), "set data.batch_size to at least 2"),
    ):
        with pytest.raises(ValueError, match=message):
            build()


# Sums of objectives.


def test_objectives_add_up():
    """loss = sum_i w_i(step) loss_i, in value and in gradient; parts without a weight weigh 1."""
    draw = draw_of(random_q(9, 2), standard(2))
    elbo, dip, discrepancy = ELBO(), DIP(), MMD("rbf", [1e9])  # with so wide a kernel, whatever is drawn from the prior matters little
    objective = Sum(weights={"dip": Linear(0.0, 4.0, steps=4), "mmd": 0.5}, elbo=elbo, dip=dip, mmd=discrepancy)
    for step, weight in ((0, 0.0), (1, 1.0), (9, 4.0)):
        found, plain, penalty = objective(draw, step), elbo(draw, step), dip(draw, step)
        rest = 0.5 * found["mmd"]
        torch.testing.assert_close(found["loss"], plain["loss"] + weight * penalty["loss"] + rest, rtol=0, atol=1e-12)
        assert set(found) == {"loss", "elbo", "distortion", "rate", "dip_diagonal", "dip_off_diagonal", "mmd"}
        assert all(torch.equal(found[name], plain[name]) for name in ("elbo", "distortion", "rate"))


def test_terms_of_one_name_are_told_apart():
    """The second gets the name of its part in front."""
    draw = draw_of(random_q(9, 2), standard(2))
    terms = Sum(first=DIP("i"), second=DIP("ii"))(draw, 0)
    assert set(terms) == {"loss", "dip_off_diagonal", "dip_diagonal", "second_dip_off_diagonal", "second_dip_diagonal"}
    torch.testing.assert_close(terms["dip_diagonal"], DIP("i")(draw, 0)["dip_diagonal"])
    torch.testing.assert_close(terms["second_dip_diagonal"], DIP("ii")(draw, 0)["dip_diagonal"])


class Counting(Objective):
    """loss = the mean of z; remembers how many samples it got, and that it drew the model."""

    def __init__(self, num_samples: int) -> None:
        super().__init__()
        self.num_samples, self.drawn = num_samples, 0

    def draw(self, model: Callable[..., Draw], x: Tensor, y: Tensor | None = None) -> Draw:
        self.drawn += 1
        return model(x, y, num_samples=self.num_samples)

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        return {"loss": draw.latent.z.mean(), "count": torch.tensor(len(draw.latent.z))}


def test_the_parts_share_one_draw():
    """Of as many samples as the one that asks for most; the first part draws it."""
    theory = orthogonal()
    model, x = theory.vae((6,)), theory.sample(3)
    first, second = Counting(2), Counting(7)
    objective = Sum(first=first, second=second)
    assert objective.num_samples == 7
    terms = objective(objective.draw(model, x), 0)
    assert (terms["count"].item(), terms["second_count"].item()) == (7, 7)
    assert (first.drawn, second.drawn) == (1, 0)
    assert Sum(elbo=ELBO(num_samples=3), bound=IWAE(5)).draw(model, x).log_w.shape == (5, 3)


@pytest.mark.parametrize("part", [MIWAE, PIWAE])
def test_bounds_that_group_their_samples_refuse_another_number_of_them(part):
    """Eight samples are not three groups of two."""
    theory = orthogonal()

    def shared() -> dict[str, Tensor]:
        objective = Sum(a=part(3, 2), b=IWAE(8))
        return objective(objective.draw(theory.vae((6,)), theory.sample(3)), 0)

    with pytest.raises(ValueError, match=r"num_samples"):
        shared()


def test_sums_refuse_weights_of_nothing():
    with pytest.raises(ValueError, match=r"the weights are of tc, but the parts are elbo, mmd"):
        Sum(weights={"tc": 1.0}, elbo=ELBO(), mmd=MMD())
    with pytest.raises(ValueError, match=r"the weights are of nothing, but the parts are none"):
        Sum()
