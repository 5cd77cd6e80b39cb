"""The aggregate posterior and the parts of the rate, where all of them are known."""

import math

import pytest
import torch
from standard_errors import assert_mean
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Laplace, MixtureSameFamily, MultivariateNormal, Normal

from vaelab.distributions import FlowDistribution, HypersphericalUniform, OneHot, Quantized, Table, VonMisesFisher
from vaelab.metrics.latent.aggregate import aggregate_log_prob, parts_of_rate

pytestmark = pytest.mark.usefixtures("double")

STANDARD = Independent(Normal(torch.zeros(2).double(), torch.ones(2).double()), 1)


def gaussians(loc: Tensor, scale: Tensor) -> Independent:
    return Independent(Normal(loc, scale), loc.ndim - 1)


def parts(q: Distribution, p: Distribution, z: Tensor | None = None, chunk_size: int = 100) -> dict[str, Tensor | None]:
    """Those of one batch, at a sample of each posterior if not elsewhere."""
    z = q.sample() if z is None else z
    return parts_of_rate(z, q.log_prob(z), p.log_prob(z), [q], p, chunk_size)


@pytest.mark.parametrize("num", [2, 50, 51])
def test_posteriors_that_are_far_apart_have_a_mutual_information_of_ln_n(num):
    """Each z says which x it is of; a batch of 50 in place of all would say ln 50 = 3.912."""
    terms = parts(gaussians(1e3 * torch.arange(2 * num).reshape(num, 2).double(), torch.ones(num, 2)), STANDARD)
    torch.testing.assert_close(terms["mutual_information"], torch.full((num,), math.log(num)))


def test_posteriors_that_are_all_the_prior_have_none_of_anything():
    """10,000 identical N(0, I_10) posteriors give 0 for each z, and not -82.9 = 9 ln 10,000 (a TC without its constant)."""
    loc = torch.zeros(10_000, 10)
    q, p = gaussians(loc, torch.ones_like(loc)), Independent(Normal(torch.zeros(10), torch.ones(10)), 1)
    z = q.sample()[:20]
    log_q = p.log_prob(z)
    for values in parts_of_rate(z, log_q, log_q, q_in_batches(loc, torch.ones_like(loc), 700), p).values():
        torch.testing.assert_close(values, torch.zeros(20), rtol=0, atol=1e-10)


def q_in_batches(loc: Tensor, scale: Tensor, batch_size: int) -> list[Independent]:
    return [gaussians(a, b) for a, b in zip(loc.split(batch_size), scale.split(batch_size), strict=True)]


def test_the_terms_add_up_and_none_is_above_ln_n():
    """For each z: rate = MI + marginal KL, marginal KL = TC + dimension-wise KL, and q(z) >= q(z | x_n) / N bounds the MI of each."""
    loc, scale = 3 * torch.randn(40, 2), torch.rand(40, 2) + 0.1
    terms = parts(gaussians(loc, scale), STANDARD)
    torch.testing.assert_close(terms["rate_monte_carlo"], terms["mutual_information"] + terms["marginal_kl"])
    torch.testing.assert_close(terms["marginal_kl"], terms["total_correlation"] + terms["dimension_wise_kl"])
    assert terms["mutual_information"].max() <= math.log(40)


@pytest.mark.parametrize(("batch_size", "chunk_size"), [(1, 1), (7, 3), (40, 40), (13, 1000)])
def test_neither_chunks_nor_batches_change_anything(batch_size, chunk_size):
    """Against all 40 x 40 densities at once, and log mean exp by hand."""
    loc, scale = 3 * torch.randn(40, 2, 3), torch.rand(40, 2, 3) + 0.1
    z = torch.randn(23, 2, 3)
    densities = Normal(loc, scale).log_prob(z[:, None]).exp().flatten(2)
    joint, marginals = aggregate_log_prob(z, q_in_batches(loc, scale, batch_size), chunk_size)
    torch.testing.assert_close(joint, densities.prod(2).mean(1).log())
    torch.testing.assert_close(marginals, densities.mean(1).log())


def test_it_equals_the_mixture_that_it_is():
    """torch's own mixture of N equal components, for Laplace posteriors."""
    base = Laplace(torch.randn(6, 3), torch.rand(6, 3) + 0.1)
    mixture = MixtureSameFamily(Categorical(torch.ones(6)), Independent(base, 1))
    z = torch.randn(9, 3)
    torch.testing.assert_close(aggregate_log_prob(z, [Independent(base, 1)])[0], mixture.log_prob(z))


def test_three_gaussians_by_quadrature():
    """One dimension, three posteriors that overlap: MI and marginal KL by a Riemann sum, and z from each posterior in turn."""
    q, p = gaussians(torch.tensor([[-1.0], [0.5], [2.0]]), torch.tensor([[0.7], [0.4], [1.0]])), Independent(Normal(torch.zeros(1), 1.0), 1)
    grid = torch.linspace(-12, 14, 200_001)[:, None, None]
    log_each = q.log_prob(grid)
    log_mixture = log_each.logsumexp(1) - math.log(3)
    width = 26 / 200_000
    information = (log_each.exp() * (log_each - log_mixture[:, None])).sum() * width / 3
    divergence = (log_mixture.exp() * (log_mixture - p.log_prob(grid[:, 0]))).sum() * width
    z = q.sample((20_000,))
    terms = parts_of_rate(z.flatten(0, 1), q.log_prob(z).flatten(), p.log_prob(z).flatten(), [q], p, chunk_size=20_000)
    for name, exact in (("mutual_information", information), ("marginal_kl", divergence)):
        assert_mean(terms[name].reshape(20_000, 3).mean(1), exact)
    torch.testing.assert_close(terms["total_correlation"], torch.zeros(60_000), rtol=0, atol=1e-10)  # of one dimension


def test_a_gaussian_aggregate_in_closed_form():
    """q(z | x) = N(A x, s^2 I) with x ~ N(0, I) has q(z) = N(0, A A^T + s^2 I), of which every term is known.

    From 3,000 posteriors, which stand for all, with z of other x: log q(z) is then off by some 1 / N, far below the standard errors.
    """
    a, s, num = torch.tensor([[1.0, 0.0], [0.8, 0.6]]), 0.5, 3000
    covariance = a @ a.T + s**2 * torch.eye(2)
    variances = covariance.diagonal()
    entropy = covariance.logdet() / 2
    exact = {
        "mutual_information": entropy - 2 * math.log(s),
        "total_correlation": variances.log().sum() / 2 - entropy,
        "dimension_wise_kl": (variances - 1 - variances.log()).sum() / 2,
    }
    exact["marginal_kl"] = exact["total_correlation"] + exact["dimension_wise_kl"]
    exact["rate_monte_carlo"] = exact["marginal_kl"] + exact["mutual_information"]
    q = gaussians(torch.randn(num, 2) @ a.T, torch.full((num, 2), s))
    others = gaussians(torch.randn(num, 2) @ a.T, torch.full((num, 2), s))
    z = others.sample()
    for name, values in parts_of_rate(z, others.log_prob(z), STANDARD.log_prob(z), [q], STANDARD).items():
        assert_mean(values, exact[name])


def test_a_full_covariance_has_its_marginals():
    """Diagonal ones are as those that factorise; one that is correlated has its own total correlation, ln(1 - r^2) / -2, for N = 1."""
    loc, scale = torch.randn(9, 2), torch.rand(9, 2) + 0.1
    z, p = torch.randn(9, 2), STANDARD
    full = parts(MultivariateNormal(loc, scale_tril=scale.diag_embed()), p, z)
    for name, values in parts(gaussians(loc, scale), p, z).items():
        torch.testing.assert_close(full[name], values)
    correlated = MultivariateNormal(torch.zeros(1, 2), torch.tensor([[4.0, 1.2], [1.2, 1.0]]))
    z = correlated.sample((20_000,))[:, 0]
    assert_mean(parts_of_rate(z, correlated.log_prob(z), p.log_prob(z), [correlated], p)["total_correlation"], -math.log(1 - 0.36) / 2)


def test_one_hot_variables_by_enumeration():
    """Two variables of three classes: all nine z, each with its probability, give every term without noise."""
    logits = 2 * torch.randn(4, 2, 3)
    q, p = Independent(OneHot(logits), 1), Independent(OneHot(torch.zeros(2, 3)), 1)
    eye = torch.eye(3)
    z = torch.stack([torch.stack([a, b]) for a in eye for b in eye])
    each = q.log_prob(z[:, None])  # (9, 4)
    weights = each.exp() / 4
    aggregate = weights.sum(1)
    one, two = aggregate.reshape(3, 3).sum(1), aggregate.reshape(3, 3).sum(0)
    product = torch.outer(one, two).flatten()
    exact = {
        "mutual_information": (weights * (each - aggregate.log()[:, None])).sum(),
        "marginal_kl": (aggregate * (aggregate * 9).log()).sum(),
        "total_correlation": (aggregate * (aggregate / product).log()).sum(),
        "dimension_wise_kl": (aggregate * (product * 9).log()).sum(),
    }
    for n in range(4):  # z with the log q of the x_n that it came from
        terms = parts_of_rate(z, each[:, n], p.log_prob(z), [q], p)
        for name in exact:
            exact[name] = exact[name] - (weights[:, n] * terms[name]).sum()
    for rest in exact.values():
        assert abs(float(rest)) < 1e-12


def test_on_a_sphere_there_is_information_and_no_dimension():
    """The MI is that of densities on the sphere, here by a loop; z_1, ..., z_m are not free to be taken by themselves."""
    loc = torch.nn.functional.normalize(torch.randn(5, 3), dim=1)
    q, p = VonMisesFisher(loc, torch.rand(5) + 1), HypersphericalUniform(torch.zeros(3))
    z = q.sample()
    terms = parts(q, p, z)
    by_hand = [VonMisesFisher(m.expand(5, 3), k.expand(5)).log_prob(z).exp() for m, k in zip(loc, q.concentration, strict=True)]
    torch.testing.assert_close(terms["mutual_information"], q.log_prob(z) - torch.stack(by_hand).mean(0).log())
    torch.testing.assert_close(terms["rate_monte_carlo"], terms["mutual_information"] + terms["marginal_kl"])
    assert terms["total_correlation"] is terms["dimension_wise_kl"] is None


def test_what_is_not_defined_is_none():
    """A flow has no density at other z; a code is a point; p(z | y) is no p(z); a mixture is no product, but q's TC needs none."""
    flow = FlowDistribution(gaussians(torch.zeros(3, 2), torch.ones(3, 2)), lambda z: (z, torch.zeros(z.shape[:-1])), (2,))
    code = Quantized(torch.randn(3, 2), Table(torch.randn(4, 2)), 1)
    for q in (flow, code):
        terms = parts_of_rate(torch.zeros(3, 2), torch.zeros(3), torch.ones(3), [q], STANDARD)
        assert terms.pop("rate_monte_carlo").tolist() == [-1, -1, -1]
        assert set(terms.values()) == {None}
    q = gaussians(torch.randn(3, 2), torch.ones(3, 2))
    terms = parts(q, gaussians(torch.randn(3, 2), torch.ones(3, 2)))
    assert [name for name, values in terms.items() if values is None] == ["marginal_kl", "dimension_wise_kl"]
    terms = parts(q, MixtureSameFamily(Categorical(torch.ones(2)), gaussians(torch.randn(2, 2), torch.ones(2, 2))))
    assert [name for name, values in terms.items() if values is None] == ["dimension_wise_kl"]
