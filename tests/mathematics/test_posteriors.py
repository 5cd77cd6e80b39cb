"""Posteriors that are no flows: densities, divergences, samples and their gradients against closed forms and integrals."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from standard_errors import assert_mean
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence
from torch.nn.functional import normalize

from vaelab import Latent, posteriors
from vaelab.distributions import HypersphericalUniform, VonMisesFisher, centre, detach, rsample_and_log_prob
from vaelab.distributions.von_mises_fisher import Angle, log_area
from vaelab.divergences import kl, kl_per_dimension
from vaelab.networks import MLP
from vaelab.priors import StandardLaplace, StandardNormal, UniformSphere

pytestmark = pytest.mark.usefixtures("double")

NUM = 100_000


def posterior(family: type, size: int):
    """Untrained, for the sake of its `distribution`."""
    return family(partial(MLP, hidden=(8,)), (4,), (size,))


def latent_of(q: Distribution, p: Distribution, num_samples: int = 1) -> Latent:
    z, log_q = rsample_and_log_prob(q, num_samples)
    return Latent(z=z, q=q, p=p, log_q=log_q)


class TestFullCovarianceGaussian:
    """N(mu, L L^T)."""

    @staticmethod
    def numbers() -> tuple[Tensor, Tensor]:
        """mu, and the matrix that L is made of, of each of 4 examples."""
        return torch.randn(4, 3), 0.5 * torch.randn(4, 3, 3)

    @staticmethod
    def q_of(loc: Tensor, matrix: Tensor) -> Distribution:
        return posterior(posteriors.FullCovarianceGaussian, 3).distribution(loc, *matrix.unbind(-2))

    @staticmethod
    def covariance_of(matrix: Tensor) -> Tensor:
        """L L^T, entry by entry."""
        lower = torch.zeros_like(matrix)
        for i in range(3):
            for j in range(i + 1):
                lower[:, i, j] = matrix[:, i, i].exp() if i == j else matrix[:, i, j]
        return lower @ lower.mT

    def test_density(self):
        loc, matrix = self.numbers()
        covariance = self.covariance_of(matrix)
        q, z = self.q_of(loc, matrix), torch.randn(5, 4, 3)
        square = torch.einsum("kbi,bij,kbj->kb", z - loc, torch.linalg.inv(covariance), z - loc)
        torch.testing.assert_close(q.log_prob(z), -0.5 * (square + torch.logdet(2 * math.pi * covariance)))
        torch.testing.assert_close(q.mean, loc)
        torch.testing.assert_close(q.variance, covariance.diagonal(dim1=-2, dim2=-1))
        torch.testing.assert_close(centre(q), loc)

    def test_what_is_above_the_diagonal_is_not_used(self):
        loc, matrix = self.numbers()
        z = torch.randn(4, 3)
        assert torch.equal(self.q_of(loc, matrix).log_prob(z), self.q_of(loc, matrix.tril()).log_prob(z))

    def test_moments_of_samples(self):
        loc, matrix = self.numbers()
        z = self.q_of(loc, matrix).rsample((NUM,))
        assert_mean(z, loc)
        assert_mean((z - loc).unsqueeze(-1) * (z - loc).unsqueeze(-2), self.covariance_of(matrix))

    def test_kl_from_the_standard_normal(self):
        """1/2 (tr L L^T + mu^2 - D - log det L L^T)."""
        loc, matrix = self.numbers()
        covariance = self.covariance_of(matrix)
        trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
        expected = 0.5 * (trace + loc.square().sum(-1) - 3 - torch.logdet(covariance))
        latent = latent_of(self.q_of(loc, matrix), StandardNormal((3,))(), NUM)
        torch.testing.assert_close(kl(latent)[0], expected)
        assert_mean(kl(latent, "k1"), expected)

    def test_kl_from_any_diagonal_gaussian(self):
        """As torch's, of two full matrices; one p for all and one for each example."""
        loc, matrix = self.numbers()
        q, full = self.q_of(loc, matrix), MultivariateNormal(loc, self.covariance_of(matrix))
        for batch in ((), (4,)):
            p_loc, p_scale = torch.randn(*batch, 3), torch.rand(*batch, 3) + 0.3
            p = Independent(Normal(p_loc, p_scale), 1)
            torch.testing.assert_close(kl_divergence(q, p), kl_divergence(full, MultivariateNormal(p_loc, p_scale.square().diag_embed())))

    def test_is_the_diagonal_gaussian_if_its_matrix_is_diagonal(self):
        loc, log_scale = torch.randn(4, 3), 0.5 * torch.randn(4, 3)
        full, p = self.q_of(loc, log_scale.diag_embed()), StandardNormal((3,))()
        diagonal = posterior(posteriors.Gaussian, 3).distribution(loc, log_scale)
        z = torch.randn(5, 4, 3)
        torch.testing.assert_close(full.log_prob(z), diagonal.log_prob(z))
        torch.testing.assert_close(kl_divergence(full, p), kl_divergence(diagonal, p))

    def test_detached_density_has_a_gradient_in_z_alone(self):
        loc, matrix = (value.requires_grad_() for value in self.numbers())
        q, z = self.q_of(loc, matrix), torch.randn(4, 3, requires_grad=True)
        constant = detach(q).log_prob(z)
        torch.testing.assert_close(constant, q.log_prob(z))
        assert torch.autograd.grad(constant.sum(), (z, loc, matrix), allow_unused=True)[1:] == (None, None)

    def test_no_closed_form_with_a_laplace(self):
        latent = latent_of(self.q_of(*self.numbers()), StandardLaplace((3,))())
        with pytest.raises(ValueError, match=r"no closed-form KL between MultivariateNormal and Laplace: set objective\.kl=k1"):
            kl(latent)

    def test_other_shapes_are_refused(self):
        with pytest.raises(ValueError, match=r"needs a vector z, but z_shape=\[2, 3\]"):
            posteriors.FullCovarianceGaussian(partial(MLP, hidden=(8,)), (4,), (2, 3))


class TestLaplace:
    """exp(-|z - mu| / b) / 2b."""

    def test_density(self):
        loc, log_scale, z = torch.randn(4, 3), torch.randn(4, 3), torch.randn(5, 4, 3)
        q = posterior(posteriors.Laplace, 3).distribution(loc, log_scale)
        expected = (-(z - loc).abs() / log_scale.exp() - log_scale - math.log(2)).sum(-1)
        torch.testing.assert_close(q.log_prob(z), expected)
        torch.testing.assert_close(centre(q), loc)

    def test_kl_from_the_standard_laplace(self):
        """|mu| + b exp(-|mu| / b) - 1 - log b, of each dimension."""
        loc, log_scale = torch.randn(4, 3), torch.randn(4, 3)
        scale = log_scale.exp()
        latent = latent_of(posterior(posteriors.Laplace, 3).distribution(loc, log_scale), StandardLaplace((3,))(), NUM)
        expected = loc.abs() + scale * (-loc.abs() / scale).exp() - 1 - log_scale
        torch.testing.assert_close(kl_per_dimension(latent)[0], expected)
        assert_mean(kl(latent, "k1"), expected.sum(-1))

    def test_kl_from_the_standard_normal(self):
        """(mu^2 + 2 b^2 + log 2 pi) / 2 - 1 - log 2b: minus the entropy 1 + log 2b, and E z^2 = mu^2 + 2 b^2."""
        loc, log_scale = torch.randn(4, 3), torch.randn(4, 3)
        latent = latent_of(posterior(posteriors.Laplace, 3).distribution(loc, log_scale), StandardNormal((3,))())
        square = loc.square() + 2 * (2 * log_scale).exp()
        torch.testing.assert_close(kl_per_dimension(latent)[0], (square + math.log(2 * math.pi)) / 2 - 1 - math.log(2) - log_scale)


KAPPAS = [1e-2, 0.3, 1.0, 9.0, 100.0, 1e4]
every_kappa = pytest.mark.parametrize("kappa", KAPPAS)


def log_bessel(order: float, kappa: Tensor) -> Tensor:
    """log I_v(kappa) = kappa + log Z + v log(kappa / 2) - log(pi) / 2 - log Gamma(v + 1/2), as Z is Poisson's integral of it."""
    dimension = round(2 * order) + 2
    constant = math.log(math.pi) / 2 + math.lgamma(order + 0.5)
    return kappa + Angle(kappa, dimension).log_normalizer + order * (kappa / 2).log() - constant


def marginal(kappa: float, dimension: int) -> tuple[Tensor, Tensor]:
    """1 - w and log weights for integrals over w, by trapezoids in t = -artanh w, where dw (1 - w^2)^((m-3)/2) = -sech(t)^(m-1) dt."""
    t = torch.linspace(-45, 45, 9001)
    log_sech = math.log(2) - t.abs() - torch.log1p((-2 * t.abs()).exp())
    one_minus_w = 2 * torch.sigmoid(2 * t)
    return one_minus_w, -kappa * one_minus_w + (dimension - 1) * log_sech + math.log(1e-2)


# KL(vMF(kappa) || uniform) in R^m by mpmath with 60 digits: kappa A + log C(kappa) + log |S^(m-1)|, with besseli
RATES = [
    (11, 1.0, 0.04498407946065731),
    (11, 1e4, 34.89566426290043),
    (100, 1.5, 0.01124627936215705),
    (100, 100.0, 24.13496463421923),
    (1000, 1.0, 0.0004999992514986627),
    (1000, 5.0, 0.0124995322115132),
    (1000, 30.0, 0.4493949174885994),
    (1000, 1000.0, 240.6798903849635),
    (1000, 1e4, 1175.879277760844),
]


def vmf(kappa: float, dimension: int, num: int = 1) -> VonMisesFisher:
    """Around some direction."""
    mu = normalize(torch.arange(1.0, dimension + 1).cos(), dim=0)
    return VonMisesFisher(mu.expand(num, dimension), torch.full((num,), kappa), validate_args=False)


class TestVonMisesFisher:
    """exp(kappa mu . z) / C on the sphere."""

    def test_bessel_functions_of_torch(self):
        kappa = torch.tensor(KAPPAS)
        torch.testing.assert_close(log_bessel(0, kappa) - kappa, torch.special.i0e(kappa).log(), rtol=1e-11, atol=1e-10)
        torch.testing.assert_close(log_bessel(1, kappa) - kappa, torch.special.i1e(kappa).log(), rtol=1e-11, atol=1e-10)

    def test_bessel_function_of_order_one_half(self):
        """sqrt(2 / (pi kappa)) sinh(kappa)."""
        kappa = torch.tensor(KAPPAS)
        log_sinh = kappa + torch.log(-torch.expm1(-2 * kappa)) - math.log(2)
        torch.testing.assert_close(log_bessel(0.5, kappa), (2 / (math.pi * kappa)).log() / 2 + log_sinh, rtol=1e-11, atol=1e-10)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    @pytest.mark.parametrize("dimension", [2, 3, 5, 10, 51, 200])
    def test_normaliser_and_its_gradient_at_any_dimension(self, dimension, dtype):
        """d log Z / d kappa = E[cos theta] - 1, to ten digits, whatever the precision of kappa."""
        kappa = torch.tensor(KAPPAS, dtype=dtype, requires_grad=True)
        angle = Angle(kappa, dimension)
        (gradient,) = torch.autograd.grad(angle.log_normalizer.sum(), kappa)
        expected, versed = [], []
        for value in kappa.tolist():
            one_minus_w, log_weight = marginal(value, dimension)
            expected.append(log_weight.logsumexp(0))
            versed.append((log_weight.softmax(0) * one_minus_w).sum())
        torch.testing.assert_close(angle.log_normalizer, torch.stack(expected), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(angle.versed_mean, torch.stack(versed), rtol=1e-10, atol=0)
        torch.testing.assert_close(gradient, -torch.stack(versed).to(dtype), rtol=1e-10 if dtype == torch.float64 else 1e-6, atol=0)

    @pytest.mark.parametrize("order", [0, 0.5, 1.5, 4, 24.5, 99])
    def test_derivative_of_the_bessel_function(self, order):
        """d log I_v / d kappa = I_(v+1) / I_v + v / kappa."""
        kappa = torch.tensor(KAPPAS, requires_grad=True)
        (gradient,) = torch.autograd.grad(log_bessel(order, kappa).sum(), kappa)
        ratio = (log_bessel(order + 1, kappa) - log_bessel(order, kappa)).exp()
        torch.testing.assert_close(gradient, ratio + order / kappa, rtol=1e-8, atol=0)

    @pytest.mark.parametrize("kappa", [0.3, 9.0, 100.0])
    def test_density_integrates_to_one_on_the_circle(self, kappa):
        angle = 2 * math.pi * torch.arange(2000) / 2000
        z = torch.stack([angle.cos(), angle.sin()], dim=-1)
        assert vmf(kappa, 2).log_prob(z).exp().mean().item() * 2 * math.pi == pytest.approx(1, abs=1e-10)

    @pytest.mark.parametrize("kappa", [0.3, 9.0, 100.0])
    def test_density_integrates_to_one_on_the_sphere(self, kappa):
        """Over the height, whose measure is uniform (Archimedes), and the longitude."""
        height, weight = map(torch.as_tensor, np.polynomial.legendre.leggauss(200))
        longitude = 2 * math.pi * torch.arange(200) / 200
        radius = (1 - height.square()).sqrt()[:, None]
        z = torch.stack([radius * longitude.cos(), radius * longitude.sin(), height[:, None].expand(-1, 200)], dim=-1)
        density = vmf(kappa, 3).log_prob(z).exp().mean(1)
        assert (density @ weight).item() * 2 * math.pi == pytest.approx(1, abs=1e-10)

    @every_kappa
    @pytest.mark.parametrize("dimension", [10, 200])
    def test_density_integrates_to_one_in_many_dimensions(self, kappa, dimension):
        """Over w = mu . z: the points with one w are a sphere in one dimension less, of radius sqrt(1 - w^2)."""
        q = vmf(kappa, dimension)
        one_minus_w, log_weight = marginal(kappa, dimension)
        aside = torch.randn(dimension)
        aside = normalize(aside - (aside * q.loc).sum() * q.loc, dim=-1)
        radius = (one_minus_w * (2 - one_minus_w)).sqrt()[:, None]
        log_q = q.log_prob((1 - one_minus_w)[:, None] * q.loc + radius * aside)
        total = (log_q + log_weight + kappa * one_minus_w).logsumexp(0) + log_area(dimension - 1)
        assert total.exp().item() == pytest.approx(1, abs=1e-8)

    @every_kappa
    @pytest.mark.parametrize("dimension", [2, 3, 10, 200])
    def test_kl_from_the_uniform_distribution(self, kappa, dimension):
        """The integral of q log(q / p) over w, and its derivative kappa A'(kappa) with A' = 1 - A^2 - (m - 1) A / kappa."""
        one_minus_w, log_weight = marginal(kappa, dimension)
        weight = log_weight.softmax(0)
        log_ratio = -kappa * one_minus_w - log_weight.logsumexp(0) + log_area(dimension) - log_area(dimension - 1)
        scale = torch.tensor([kappa], requires_grad=True)
        latent = latent_of(VonMisesFisher(vmf(kappa, dimension).loc, scale, validate_args=False), UniformSphere((dimension,))(), 3)
        torch.testing.assert_close(kl(latent), (weight * log_ratio).sum().expand(3, 1), rtol=1e-7, atol=1e-9)
        (gradient,) = torch.autograd.grad(kl(latent)[0].sum(), scale)
        variance = (weight * (one_minus_w - (weight * one_minus_w).sum()).square()).sum()  # of w, which A' is
        torch.testing.assert_close(gradient, (kappa * variance).expand(1), rtol=1e-7, atol=1e-12)

    @pytest.mark.parametrize("dimension", [2, 3, 5, 50])
    def test_moments_of_samples(self, dimension):
        """Mean A mu, and all second moments; A from the Bessel functions. The variances are the diagonal."""
        q = vmf(4.0, dimension)
        z, mu = q.rsample((NUM,))[:, 0], q.loc[0]
        kappa = torch.tensor(4.0)
        resultant = (log_bessel(dimension / 2, kappa) - log_bessel(dimension / 2 - 1, kappa)).exp()
        assert_mean(z, resultant * mu)
        assert_mean(z @ mu, resultant)
        second = resultant / 4 * torch.eye(dimension) + (1 - dimension * resultant / 4) * mu[:, None] * mu
        assert_mean(z[:, :5, None] * z[:, None, :5], second[:5, :5])
        torch.testing.assert_close(q.mean[0], resultant * mu)
        torch.testing.assert_close(q.variance[0], second.diagonal() - (resultant * mu).square())
        assert torch.equal(centre(q), q.loc)

    @pytest.mark.parametrize("kappa", [1e-2, 1.0, 100.0, 1e4])
    def test_distribution_function_of_samples(self, kappa):
        """On the sphere F(w) = expm1(-kappa (1 + w)) / expm1(-2 kappa) in closed form; F(w) is uniform (Kolmogorov-Smirnov, p < 1e-6)."""
        q = vmf(kappa, 3)
        one_minus_w = (q.rsample((NUM,)) - q.loc).square().sum((-2, -1)) / 2
        above = (torch.expm1(-kappa * one_minus_w) / math.expm1(-2 * kappa)).sort().values
        steps = torch.arange(NUM) / NUM
        assert max((above - steps).abs().max().item(), (above - steps - 1 / NUM).abs().max().item()) < 2.7 / math.sqrt(NUM)

    @every_kappa
    def test_each_sample_is_the_inverse_of_its_uniform_number(self, kappa):
        """F(theta) = expm1(-kappa (1 - cos theta)) / expm1(-2 kappa) on the sphere; statistics would not see missing digits."""
        angle = Angle(torch.tensor([kappa]), 3)
        state = torch.get_rng_state()
        theta = angle.rsample(10_000)
        torch.set_rng_state(state)
        below = torch.expm1(-2 * kappa * (theta / 2).sin().square()) / math.expm1(-2 * kappa)
        torch.testing.assert_close(below, torch.rand(1, 10_000), rtol=0, atol=1e-10)

    @pytest.mark.parametrize("kappa", [0.3, 5.0, 100.0, 1e4])
    def test_derivative_of_each_sample(self, kappa):
        """On the sphere w = 1 + log(u + (1 - u) e^(-2 kappa)) / kappa for a fixed u, differentiated here by autograd."""
        scale = torch.full((500,), kappa, requires_grad=True)
        q = VonMisesFisher(vmf(kappa, 3, 500).loc, scale, validate_args=False)
        w = (q.rsample() * q.loc).sum(-1)
        (found,) = torch.autograd.grad(w.sum(), scale)
        u = ((kappa * (w.detach() - 1)).exp() - math.exp(-2 * kappa)) / -math.expm1(-2 * kappa)
        each = torch.full((500,), kappa, requires_grad=True)
        (expected,) = torch.autograd.grad((1 + (u + (1 - u) * (-2 * each).exp()).log() / each).sum(), each)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("dimension", [2, 3, 5, 50])
    def test_gradients_through_samples(self, dimension):
        """Of E[a . z + (b . z)^2] = A a . mu + A / kappa b^2 + (1 - m A / kappa) (b . mu)^2, by kappa and by a vector along mu."""
        a, b = torch.randn(dimension), torch.randn(dimension)
        along, kappa = vmf(1.0, dimension).loc[0] * 2, torch.tensor(3.0)

        def expectation(along: Tensor, kappa: Tensor) -> Tensor:
            mu = normalize(along, dim=-1)
            resultant = (log_bessel(dimension / 2, kappa) - log_bessel(dimension / 2 - 1, kappa)).exp()
            around = resultant / kappa
            return resultant * (a @ mu) + around * (b @ b) + (1 - dimension * around) * (b @ mu).square()

        by_along, by_kappa = torch.autograd.functional.jacobian(expectation, (along, kappa))
        each_along, each_kappa = along.repeat(NUM // 10, 1).requires_grad_(), kappa.repeat(NUM // 10).requires_grad_()
        z = VonMisesFisher(normalize(each_along, dim=-1), each_kappa, validate_args=False).rsample()
        (z @ a + (z @ b).square()).sum().backward()
        assert_mean(each_along.grad, by_along)
        assert_mean(each_kappa.grad, by_kappa)

    @pytest.mark.parametrize("kappa", [1.0, 1e4])
    @pytest.mark.parametrize("dimension", [2, 200])
    def test_single_precision(self, dimension, kappa):
        """Samples are on the sphere, and their density keeps its digits where kappa is large."""
        double = vmf(kappa, dimension)
        single = VonMisesFisher(double.loc.float(), double.concentration.float(), validate_args=False)
        z = single.rsample((1000,))
        assert z.dtype == single.log_prob(z).dtype == torch.float32
        assert single.support.check(z).all()
        exact = VonMisesFisher(single.loc.double(), double.concentration, validate_args=False).log_prob(z.double())
        torch.testing.assert_close(single.log_prob(z).double(), exact, rtol=2e-6, atol=2e-5)

    @pytest.mark.parametrize(("dimension", "kappa", "expected"), RATES)
    def test_kl_in_single_precision(self, dimension, kappa, expected):
        """To five digits also where the two entropies share more than float32 has."""
        loc, scale = vmf(kappa, dimension).loc.float(), torch.tensor([kappa], dtype=torch.float32, requires_grad=True)
        rate = kl_divergence(VonMisesFisher(loc, scale), HypersphericalUniform(loc))
        assert rate.dtype == torch.float32
        assert rate.item() == pytest.approx(expected, rel=1e-5)

    def test_detached_density_and_expanded_batch(self):
        q = VonMisesFisher(normalize(torch.randn(4, 3), dim=-1), torch.rand(4, requires_grad=True) + 1, validate_args=False)
        z = q.rsample((5,))
        assert not detach(q).log_prob(z.detach()).requires_grad
        torch.testing.assert_close(detach(q).log_prob(z), q.log_prob(z))
        many = q.expand((2, 4))
        assert (many.batch_shape, many.rsample((6,)).shape) == ((2, 4), (6, 2, 4, 3))
        torch.testing.assert_close(many.log_prob(z[:2]), q.log_prob(z[:2]))

    def test_gradients_after_samples_without_them(self):
        """The integrals are found once for q; a sample drawn for a picture must not cost the loss its gradient."""
        kappa = torch.tensor([2.0], requires_grad=True)
        q = VonMisesFisher(vmf(2.0, 3).loc, kappa, validate_args=False)
        q.sample()
        (gradient,) = torch.autograd.grad(kl_divergence(q, HypersphericalUniform(torch.zeros(3))).sum(), kappa)
        cosine = 1 / math.tanh(2) - 1 / 2  # coth kappa - 1 / kappa
        assert gradient.item() == pytest.approx(2 * (1 - cosine**2 - cosine))

    def test_posterior_is_made_of_what_the_network_says(self):
        """mu is normalised; kappa = 1 + log(1 + exp of the mean)."""
        direction, rest = torch.tensor([[3.0, 0.0, -4.0]]), torch.tensor([[1.0, 2.0, -6.0]])
        q = posterior(posteriors.VonMisesFisher, 3).distribution(direction, rest)
        torch.testing.assert_close(q.mode, torch.tensor([[0.6, 0.0, -0.8]]))
        torch.testing.assert_close(q.concentration, torch.tensor([1 + math.log1p(math.exp(-1))]))

    @pytest.mark.parametrize("z_shape", [(1,), (2, 3), ()], ids=str)
    def test_other_shapes_are_refused(self, z_shape):
        with pytest.raises(ValueError, match="needs a vector z of at least 2 numbers"):
            posteriors.VonMisesFisher(partial(MLP, hidden=(8,)), (4,), z_shape)
