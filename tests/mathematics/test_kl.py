"""The KL against torch and pen and paper, and Schulman's estimators against their closed-form means and variances (PAPERS 5.1)."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
    kl_divergence,
)

from vaelab import Draw, Latent
from vaelab.distributions import StandardNormal
from vaelab.divergences import factorised, kl, kl_per_dimension
from vaelab.metrics.bound import rate
from vaelab.objectives import ELBO

pytestmark = pytest.mark.usefixtures("double")

NUM = 1_000_000


def latent_of(q: Distribution, p: Distribution, num_samples: int = 1) -> Latent:
    z = q.rsample((num_samples,))
    return Latent(z=z, q=q, p=p, log_q=q.log_prob(z))


def product(loc: Tensor, scale: Tensor) -> Independent:
    """N(loc, diag scale^2) over the last dimension."""
    return Independent(Normal(loc, scale), 1)


def joint(loc: Tensor, scale: Tensor) -> MultivariateNormal:
    """The same law, but a distribution that does not say that it factorises."""
    return MultivariateNormal(loc, torch.diag_embed(scale.square()))


def assert_mean(samples: Tensor, expected: float) -> None:
    """The mean of independent samples is within 5 of its own standard errors of the expected value."""
    samples = samples.detach().flatten()
    error = samples.std().item() / math.sqrt(len(samples))
    assert error > 0
    assert abs(samples.mean().item() - expected) < 5 * error


def gaussian_kl(q_loc: Tensor, q_scale: Tensor, p_loc: Tensor, p_scale: Tensor) -> Tensor:
    """log(s_p / s_q) + (s_q^2 + (m_q - m_p)^2) / (2 s_p^2) - 1/2, of each dimension."""
    return (p_scale / q_scale).log() + (q_scale.square() + (q_loc - p_loc).square()) / (2 * p_scale.square()) - 0.5


@pytest.mark.parametrize("z_shape", [(3,), (2, 2, 2)])
def test_analytic_is_torch_and_the_formula(z_shape):
    """One number for each example, the same for its K samples; dimensions sum to it."""
    q_loc, q_scale = torch.randn(4, *z_shape), torch.rand(4, *z_shape) + 0.2
    p_loc, p_scale = torch.randn(z_shape), torch.rand(z_shape) + 0.2
    q, p = Independent(Normal(q_loc, q_scale), len(z_shape)), Independent(Normal(p_loc, p_scale), len(z_shape))
    latent = latent_of(q, p, num_samples=5)
    expected = gaussian_kl(q_loc, q_scale, p_loc, p_scale)
    assert factorised(latent)
    torch.testing.assert_close(kl_per_dimension(latent), expected.expand(5, 4, *z_shape))
    torch.testing.assert_close(kl(latent), expected.flatten(1).sum(-1).expand(5, 4))
    torch.testing.assert_close(kl(latent), kl_divergence(q, p).expand(5, 4))


def test_analytic_under_the_standard_normal_is_that_of_kingma_and_welling():
    """-KL = 1/2 sum (1 + log sigma^2 - mu^2 - sigma^2) (Kingma & Welling, 2014, appendix B); 0 for q = p."""
    loc, scale = torch.randn(4, 3), torch.rand(4, 3) + 0.2
    standard = product(torch.zeros(3), torch.ones(3))
    expected = -0.5 * (1 + 2 * scale.log() - loc.square() - scale.square()).sum(-1, keepdim=True).T
    torch.testing.assert_close(kl(latent_of(product(loc, scale), standard)), expected)
    same = latent_of(product(torch.zeros(4, 3), torch.ones(4, 3)), standard)
    for estimator in ("analytic", "k1", "k2", "k3"):
        assert (kl(same, estimator) == 0).all()


def test_analytic_of_a_full_covariance():
    """1/2 (tr S_p^-1 S_q + (m_p - m_q)^T S_p^-1 (m_p - m_q) - d + log |S_p| / |S_q|), where nothing factorises."""
    root_q, root_p = torch.randn(4, 3, 3), torch.randn(3, 3)
    s_q, s_p = root_q @ root_q.mT + torch.eye(3), root_p @ root_p.mT + torch.eye(3)
    m_q, m_p = torch.randn(4, 3), torch.randn(3)
    latent = latent_of(MultivariateNormal(m_q, s_q), MultivariateNormal(m_p, s_p), num_samples=2)
    precision = torch.linalg.inv(s_p)
    trace = (precision @ s_q).diagonal(dim1=-2, dim2=-1).sum(-1)
    square = torch.einsum("bi,ij,bj->b", m_q - m_p, precision, m_q - m_p)
    expected = 0.5 * (trace + square - 3 + torch.logdet(s_p) - torch.logdet(s_q))
    assert not factorised(latent)
    torch.testing.assert_close(kl(latent), expected.expand(2, 4))


@pytest.mark.parametrize("mu", [0.1, 1.0])
@pytest.mark.parametrize("q_of", [product, joint])
def test_means_and_variances_of_the_estimators(mu, q_of):
    """q = N(0, 1), p = N(mu, 1): KL = mu^2 / 2, k2 is biased by KL mu^2 / 4, and the standard deviations are those of PAPERS 5.1."""
    latent = latent_of(q_of(torch.zeros(1, 1), torch.ones(1, 1)), product(torch.tensor([mu]), torch.ones(1)), NUM)
    exact = mu**2 / 2
    moments = {
        "k1": (exact, exact * 2 / mu),
        "k2": (exact * (1 + mu**2 / 4), exact * math.sqrt(2 + mu**2)),
        "k3": (exact, exact * 2 * math.sqrt(math.exp(mu**2) - 1 - mu**2) / mu**2),
    }
    for estimator, (mean, deviation) in moments.items():
        samples = kl(latent, estimator)
        assert samples.shape == (NUM, 1)
        assert_mean(samples, mean)
        assert_mean((samples - mean).square(), deviation**2)


@pytest.mark.parametrize("scale", [0.9, 1.2])
def test_k1_and_k3_are_unbiased_for_other_scales(scale):
    """Where sigma_q is well above sigma_p / sqrt 2, so that k3 has the fourth moment that its standard error needs."""
    q_loc, q_scale, p_loc, p_scale = torch.tensor([[0.3]]), torch.tensor([[scale]]), torch.zeros(1), torch.ones(1)
    latent = latent_of(product(q_loc, q_scale), product(p_loc, p_scale), NUM)
    exact = gaussian_kl(q_loc, q_scale, p_loc, p_scale).item()
    assert_mean(kl(latent, "k1"), exact)
    assert_mean(kl(latent, "k3"), exact)


def test_k2_and_k3_are_never_negative():
    """k2 is a square and r - 1 >= log r; k1 is negative at times."""
    latent = latent_of(product(torch.zeros(1, 3), torch.ones(1, 3)), product(torch.ones(3), torch.ones(3)), 1000)
    assert (kl_per_dimension(latent, "k2") >= 0).all()
    assert (kl_per_dimension(latent, "k3") >= 0).all()
    assert (kl(latent, "k1") < 0).any()


def test_per_dimension_and_joint():
    """k1 is the same; k2's bias and k3's variance are sums over dimensions where both factorise, and of the whole square where not.

    With M^2 = sum mu_j^2: k2 means sum (mu_j^2/2 + mu_j^4/8) against M^2/2 + M^4/8, k3 varies by sum (e^(mu_j^2) - 1 - mu_j^2)
    against e^(M^2) - 1 - M^2.
    """
    mu = torch.tensor([0.6, -0.5, 0.4])
    q = product(torch.zeros(1, 3), torch.ones(1, 3))
    each = latent_of(q, product(mu, torch.ones(3)), NUM)
    whole = Latent(z=each.z, q=q, p=joint(mu, torch.ones(3)), log_q=each.log_q)
    assert factorised(each)
    assert not factorised(whole)
    torch.testing.assert_close(kl(each, "k1"), kl(whole, "k1"))
    square, total = mu.square(), mu.square().sum()
    for latent, of in ((each, square), (whole, total)):
        assert_mean(kl(latent, "k2"), (of / 2 + of.square() / 8).sum().item())
        assert_mean(kl(latent, "k3"), (total / 2).item())
        assert_mean((kl(latent, "k3") - total / 2).square(), (of.exp() - 1 - of).sum().item())
    for estimator in ("k1", "k2", "k3"):
        torch.testing.assert_close(kl_per_dimension(each, estimator).sum(-1), kl(each, estimator))


def gradients(estimator: str, p: Independent, reparameterised: bool) -> tuple[Tensor, Tensor]:
    """The gradient of a one-sample estimate by the mean and the log-scale of q = N(0.5, 0.9^2), NUM independent times."""
    loc = torch.full((NUM, 1), 0.5, requires_grad=True)
    log_scale = torch.full((NUM, 1), math.log(0.9), requires_grad=True)
    q = product(loc, log_scale.exp())
    z = q.rsample((1,)) if reparameterised else q.sample((1,))
    kl(Latent(z=z, q=q, p=p, log_q=q.log_prob(z)), estimator).sum().backward()
    return loc.grad, log_scale.grad


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_the_reparameterised_gradient_is_that_of_the_kl(estimator):
    """Under N(0, 1): d KL / d mu = mu, d KL / d log sigma = sigma^2 - 1. Unbiased estimators have unbiased derivatives."""
    by_loc, by_log_scale = gradients(estimator, product(torch.zeros(1), torch.ones(1)), reparameterised=True)
    assert_mean(by_loc, 0.5)
    assert_mean(by_log_scale, 0.9**2 - 1)


def test_the_reparameterised_gradient_of_k2_is_that_of_its_own_mean():
    """With log r = a + b eps + c eps^2 for the noise eps, E k2 = (a^2 + b^2 + 2 a c + 3 c^2) / 2, differentiated here by autograd."""
    loc, log_scale = torch.tensor(0.5, requires_grad=True), torch.tensor(math.log(0.9), requires_grad=True)
    scale = log_scale.exp()
    a, b, c = log_scale - loc.square() / 2, -loc * scale, (1 - scale.square()) / 2
    ((a.square() + b.square() + 2 * a * c + 3 * c.square()) / 2).backward()
    by_loc, by_log_scale = gradients("k2", product(torch.zeros(1), torch.ones(1)), reparameterised=True)
    assert_mean(by_loc, loc.grad.item())
    assert_mean(by_log_scale, log_scale.grad.item())
    assert abs(loc.grad.item() - 0.5) > 0.01  # which is not the gradient of the KL


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_the_gradient_with_the_samples_fixed(estimator):
    """k1's has mean 0, k2's is that of KL(q || p), k3's is that of KL(p || q) (PAPERS 5.1)."""
    by_loc, by_log_scale = gradients(estimator, product(torch.zeros(1), torch.ones(1)), reparameterised=False)
    loc, scale = 0.5, 0.9
    forward = (loc / scale**2, 1 - (1 + loc**2) / scale**2)
    expected = {"k1": (0.0, 0.0), "k2": (loc, scale**2 - 1), "k3": forward}[estimator]
    assert_mean(by_loc, expected[0])
    assert_mean(by_log_scale, expected[1])


def mixture() -> MixtureSameFamily:
    """A prior of two components: no product, and no closed form."""
    return MixtureSameFamily(Categorical(torch.ones(2)), product(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.ones(2, 2)))


def test_no_closed_form_says_what_to_do():
    """A ValueError with both names and the option, where q and p factorise and where they do not; k1 then serves."""
    q = product(torch.zeros(3, 2), torch.ones(3, 2))
    for p, name in ((mixture(), "MixtureSameFamily"), (Independent(StudentT(torch.full((2,), 5.0)), 1), "StudentT")):
        latent = latent_of(q, p, num_samples=4)
        with pytest.raises(ValueError, match=f"no closed-form KL between Normal and {name}: set objective.kl=k1"):
            kl(latent)
        torch.testing.assert_close(kl(latent, "k1"), q.log_prob(latent.z) - p.log_prob(latent.z))
        torch.testing.assert_close(rate(latent), kl(latent, "k1").mean(0))  # what the metrics report then


def test_unknown_estimator():
    """The message names the four that exist, for products, for joints and when the objective is built."""
    q = product(torch.zeros(3, 2), torch.ones(3, 2))
    for p in (product(torch.zeros(2), torch.ones(2)), mixture()):
        with pytest.raises(ValueError, match=r"estimator=k4 is unknown: choose analytic, k1, k2 or k3"):
            kl(latent_of(q, p), "k4")
    with pytest.raises(ValueError, match=r"k4 is unknown: choose analytic, k1, k2 or k3"):
        ELBO(kl="k4")


def test_dimensions_of_what_does_not_factorise():
    """Neither a KL per dimension nor free bits exist for a mixture or a full covariance, whichever of q and p it is."""
    diagonal = product(torch.zeros(3, 2), torch.ones(3, 2))
    full = joint(torch.zeros(3, 2), torch.ones(3, 2))
    standard = product(torch.zeros(2), torch.ones(2))
    for q, p in ((diagonal, mixture()), (full, standard), (full, full)):
        latent = latent_of(q, p)
        draw = Draw(x=torch.zeros(3, 2), y=None, p_x=product(latent.z, torch.ones(2)), latents=(latent,))
        for estimator in ("analytic", "k1"):
            with pytest.raises(ValueError, match="does not factorise over z"):
                kl_per_dimension(latent, estimator)
        with pytest.raises(ValueError, match="does not factorise over z"):
            ELBO(kl="k1", free_bits=0.1)(draw, step=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_standard_normal_is_a_normal_bit_for_bit(dtype: torch.dtype) -> None:
    """Its density, its KL and their gradients, though it leaves out arithmetic with 0 and 1."""
    found = []
    for kind in (Normal, StandardNormal):
        loc, log_scale, z = torch.randn(3, 100, generator=torch.Generator().manual_seed(0), dtype=dtype).requires_grad_().unbind()
        q, p = Normal(loc, log_scale.exp()), kind(torch.zeros(100, dtype=dtype), torch.ones(100, dtype=dtype))
        log_p, rate = p.log_prob(z), kl_divergence(q, p)
        found.append([log_p, rate, *torch.autograd.grad(log_p.sum() + rate.square().sum(), (loc, log_scale, z))])
    for usual, standard in zip(*found, strict=True):
        assert torch.equal(usual, standard)
