"""Priors that are no flows, against densities and moments written out."""

import math
from functools import partial

import pytest
import torch
from standard_errors import assert_mean
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Laplace, MixtureSameFamily, Normal

from vaelab import flows, posteriors
from vaelab.networks import MLP, CausalTransformer
from vaelab.networks.masked_conv import PixelCNN
from vaelab.priors import AutoregressiveMixture, ConditionalGaussian, Mixture, StandardLaplace, UniformSphere, VampPrior
from vaelab.priors.vamp import Clamp

pytestmark = pytest.mark.usefixtures("double")

NUM = 100_000


def log_normal(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Of a vector with independent entries."""
    return (-((z - loc) / scale).square() / 2 - scale.log() - math.log(2 * math.pi) / 2).sum(-1)


def test_standard_laplace():
    """exp(-|z_1| - ... - |z_D|) / 2^D."""
    z = torch.randn(5, 2, 3)
    torch.testing.assert_close(StandardLaplace((2, 3))().log_prob(z), -z.abs().sum((1, 2)) - 6 * math.log(2))


class TestAutoregressiveMixture:
    """prod_i sum_m w_im N(z_i; mu_im, sigma_im^2) of the numbers before z_i."""

    @staticmethod
    def prior(z_shape: tuple[int, ...], network: type[nn.Module] = CausalTransformer) -> AutoregressiveMixture:
        """One whose conditionals differ, with standard deviations from .3 to 2."""
        return AutoregressiveMixture(z_shape, channels=8, num_layers=2, num_components=3, network=network)

    @pytest.mark.parametrize("network", [CausalTransformer, PixelCNN])
    @pytest.mark.parametrize("z_shape", [(2,), (2, 1), (1, 2), (1, 2, 1)], ids=str)
    @torch.no_grad()
    def test_density_integrates_to_one(self, z_shape, network):
        side = torch.linspace(-10, 10, 201)
        p = self.prior(z_shape, network)()
        values = p.log_prob(torch.cartesian_prod(side, side).reshape(-1, *z_shape)).exp()
        assert values.sum().item() * 0.1**2 == pytest.approx(1, abs=1e-6)

    @pytest.mark.parametrize("network", [CausalTransformer, PixelCNN])
    def test_a_number_depends_on_those_before_it(self, network):
        """Place by place, and within a place channel by channel."""
        prior, z = self.prior((3, 2, 2), network), torch.randn(1, 3, 2, 2, requires_grad=True)
        order = z.movedim(1, -1).flatten(1)
        for i, term in enumerate(prior.parameters_of(order)[1].sum(1)[0]):
            gradient = torch.autograd.grad(term, order, retain_graph=True)[0][0]
            assert not gradient[i:].any()
            assert network is PixelCNN or gradient[:i].all()
        torch.testing.assert_close(prior().log_prob(z), by_hand(order, *prior.parameters_of(order)))

    @torch.no_grad()
    def test_samples_have_the_density(self):
        """Moments by quadrature, of both numbers together, too."""
        p = self.prior((2,))()
        side = torch.linspace(-10, 10, 201)
        grid = torch.cartesian_prod(side, side)
        mass = p.log_prob(grid).exp() * 0.1**2
        z = p.sample((NUM // 4,))
        for moment in (z, grid), (z.square(), grid.square()), (z * z.flip(1).cos(), grid * grid.flip(1).cos()):
            assert_mean(moment[0], (moment[1] * mass[:, None]).sum(0))


def by_hand(z: Tensor, log_w: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
    p = MixtureSameFamily(Categorical(logits=log_w.movedim(1, -1)), Normal(loc.movedim(1, -1), log_scale.exp().movedim(1, -1)))
    return p.log_prob(z).sum(-1)


class TestMixture:
    """sum_c pi_c N(mu_c, diag sigma_c^2)."""

    @staticmethod
    def of_two() -> Mixture:
        """Weights 1/4 and 3/4."""
        prior = Mixture((2,), num_components=2)
        with torch.no_grad():
            prior.logits.copy_(torch.tensor([0.0, math.log(3)]) + 5)
            prior.loc.copy_(torch.tensor([[-2.0, 0.0], [1.0, 3.0]]))
            prior.log_scale.copy_(torch.tensor([[0.5, 1.0], [2.0, 0.3]]).log())
        return prior

    def test_density(self):
        z = 3 * torch.randn(5, 4, 2)
        one = log_normal(z, torch.tensor([-2.0, 0.0]), torch.tensor([0.5, 1.0]))
        two = log_normal(z, torch.tensor([1.0, 3.0]), torch.tensor([2.0, 0.3]))
        torch.testing.assert_close(self.of_two()().log_prob(z), (one.exp() / 4 + two.exp() * 3 / 4).log())

    def test_density_of_a_picture_is_that_of_its_numbers(self):
        flat, folded = Mixture((6,), 3), Mixture((2, 3), 3)
        folded.load_state_dict({name: value.reshape(folded.state_dict()[name].shape) for name, value in flat.state_dict().items()})
        z = torch.randn(5, 6)
        torch.testing.assert_close(folded().log_prob(z.reshape(5, 2, 3)), flat().log_prob(z))

    def test_moments_of_samples(self):
        z = self.of_two()().sample((NUM,))
        assert_mean(z, torch.tensor([-2 / 4 + 3 / 4, 9 / 4]))
        assert_mean(z.square(), torch.tensor([(4 + 0.25) / 4 + (1 + 4) * 3 / 4, 1 / 4 + (9 + 0.09) * 3 / 4]))
        assert_mean(z[:, 0] * z[:, 1], 3 * 3 / 4)

    def test_components_start_apart(self):
        """Or they would have the same gradient, and stay one."""
        prior = Mixture((4,), 10)
        prior().log_prob(torch.randn(20, 4)).sum().backward()
        assert len(prior.loc.unique(dim=0)) == len(prior.loc.grad.unique(dim=0)) == 10

    def test_no_component_is_refused(self):
        with pytest.raises(ValueError, match=r"num_components=0 must be at least 1"):
            Mixture((2,), 0)


class Encoder(nn.Module):
    """q(z | x) with mean w x and standard deviations that differ, so that a variance taken for a log-variance would show."""

    def __init__(self, family: type = Normal) -> None:
        super().__init__()
        self.family, self.weight = family, nn.Parameter(torch.tensor(10.0))
        self.register_buffer("scale", torch.tensor([0.5, 2.0]))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return Independent(self.family(self.weight * x, self.scale.expand_as(x)), 1)


class TestVampPrior:
    """(1/C) sum_c q(z | u_c)."""

    @staticmethod
    def of_two(encoder: Encoder, **settings: float | None) -> VampPrior:
        prior = VampPrior(encoder, (2,), num_components=2, **settings)
        prior.initialise(torch.tensor([[0.1, 0.3], [0.9, 0.8]]))
        return prior

    @pytest.mark.parametrize("family", [Normal, Laplace])
    def test_density(self, family):
        encoder = Encoder(family)
        z = 5 * torch.randn(6, 4, 2)
        one, two = (family(torch.tensor(loc), encoder.scale).log_prob(z).sum(-1) for loc in ([1.0, 3.0], [9.0, 8.0]))
        torch.testing.assert_close(self.of_two(encoder)().log_prob(z), torch.logaddexp(one, two) - math.log(2))

    def test_samples_are_those_of_the_mixture(self):
        z = self.of_two(Encoder())().sample((NUM,))
        assert_mean(z, torch.tensor([5.0, 5.5]))
        assert_mean(z.square(), torch.tensor([(1 + 81) / 2 + 0.25, (9 + 64) / 2 + 4]))
        assert_mean(z[:, 0] * z[:, 1], (3 + 72) / 2)

    def test_gradients_reach_the_pseudo_inputs_and_the_encoder(self):
        encoder = Encoder()
        prior = self.of_two(encoder)
        prior().log_prob(torch.randn(5, 2)).sum().backward()
        assert prior.pseudo_inputs.grad.all()
        assert encoder.weight.grad != 0

    def test_the_posterior_stays_the_models(self):
        """It is saved, trained and counted once."""
        prior = self.of_two(Encoder())
        assert set(prior.state_dict()) == {name for name, _ in prior.named_parameters()} == {"pseudo_inputs"}
        assert [type(module) for module in prior.modules()] == [VampPrior]

    def test_pseudo_inputs_are_clamped(self):
        prior = self.of_two(Encoder())
        prior.initialise(torch.tensor([[-1.0, 0.3], [0.9, 7.0]]))
        torch.testing.assert_close(prior().component_distribution.mean, torch.tensor([[0.0, 3.0], [9.0, 10.0]]))
        free = self.of_two(Encoder(), low=None, high=None)
        free.initialise(torch.tensor([[-1.0, 0.3], [0.9, 7.0]]))
        torch.testing.assert_close(free().component_distribution.mean, torch.tensor([[-10.0, 3.0], [9.0, 70.0]]))

    def test_descent_leads_back_from_a_bound(self):
        """Where the pseudo-inputs of binary data start; and never further out. Inside, the gradient is untouched."""
        x = torch.tensor([-0.5, 0.0, 0.4, 1.0, 1.5], requires_grad=True)
        for sign, passed in ((1.0, [0.0, 0.0, 1.0, 1.0, 1.0]), (-1.0, [-1.0, -1.0, -1.0, 0.0, 0.0])):
            (gradient,) = torch.autograd.grad(sign * Clamp.apply(x, 0.0, 1.0).sum(), x)
            assert gradient.tolist() == passed
        prior = self.of_two(Encoder())
        prior.initialise(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        optimizer = torch.optim.SGD([prior.pseudo_inputs], 1e-3)
        for _ in range(300):
            optimizer.zero_grad()
            (-prior().log_prob(torch.tensor([[4.0, 6.0]])).sum()).backward()
            optimizer.step()
        torch.testing.assert_close(prior.pseudo_inputs[0], torch.tensor([0.4, 0.6]), atol=1e-3, rtol=0)

    def test_bounds_the_wrong_way_round_are_refused(self):
        with pytest.raises(ValueError, match=r"low=1.0 must be below high=0.0"):
            VampPrior(Encoder(), (2,), 3, low=1.0, high=0.0)

    def test_where_they_start(self):
        """From as many examples as it asks for, a missing value as 0; or as noise around the middle, no two the same."""
        assert VampPrior(Encoder(), (2,), 7).num_initial == 7
        prior = VampPrior(Encoder(), (2,), 1)
        prior.initialise(torch.tensor([[torch.nan, 0.5]]))
        assert torch.equal(prior.pseudo_inputs, torch.tensor([[0.0, 0.5]]))
        noise = VampPrior(Encoder(), (2,), 500, low=-1.0, high=1.0, from_data=False)
        assert noise.num_initial == 0
        assert len(noise.pseudo_inputs.unique(dim=0)) == 500
        assert_mean(noise.pseudo_inputs, 0.0)

    def test_a_flow_is_refused_when_it_is_asked(self):
        network = partial(MLP, hidden=(8,))
        flow = posteriors.Flow(network, (2,), (2,), flow=flows.Planar)
        with pytest.raises(ValueError, match=r"along its samples only: set posterior=gaussian, or prior=flow"):
            VampPrior(flow, (2,), 3)()

    def test_what_has_no_density_or_needs_labels_is_refused(self):
        network = partial(MLP, hidden=(8,))
        with pytest.raises(ValueError, match=r"not conditional on y: set prior=conditional_gaussian"):
            VampPrior(posteriors.Gaussian(network, (2,), (2,), num_classes=3), (2,))
        with pytest.raises(ValueError, match=r"set prior=uniform_codes"):
            VampPrior(posteriors.VectorQuantized(network, (2,), (2,)), (2,))
        with pytest.raises(ValueError, match=r"num_components=0 must be at least 1"):
            VampPrior(Encoder(), (2,), 0)


class TestConditionalGaussian:
    """N(mu_y, diag sigma_y^2)."""

    def test_density(self):
        prior = ConditionalGaussian((2,), num_classes=3)
        z, y = torch.randn(5, 4, 2), torch.tensor([2, 0, 2, 1])
        torch.testing.assert_close(prior(y).log_prob(z), log_normal(z, torch.zeros(2), torch.ones(2)))  # where all start
        loc, scale = torch.randn(3, 2), torch.rand(3, 2) + 0.2
        with torch.no_grad():
            prior.loc.copy_(loc)
            prior.log_scale.copy_(scale.log())
        p = prior(y)
        assert (p.batch_shape, p.event_shape) == ((4,), (2,))
        expected = torch.stack([log_normal(z[:, b], loc[y[b]], scale[y[b]]) for b in range(4)], dim=1)
        torch.testing.assert_close(p.log_prob(z), expected)

    def test_a_class_learns_from_its_own_examples(self):
        prior = ConditionalGaussian((2,), num_classes=3)
        prior(torch.tensor([2, 0, 2])).log_prob(torch.randn(3, 2)).sum().backward()
        assert [bool(grad.any()) for grad in prior.loc.grad] == [True, False, True]

    @pytest.mark.parametrize("num_classes", [0, -1])
    def test_no_class_is_refused(self, num_classes):
        with pytest.raises(ValueError, match=rf"num_classes={num_classes}: set num_classes"):
            ConditionalGaussian((2,), num_classes)

    def test_labels_that_are_no_classes_are_refused(self):
        prior = ConditionalGaussian((2,), 3)
        with pytest.raises(ValueError, match=r"num_classes=3, so it needs y"):
            prior()
        for y in ([0, 3], [-1, 0]):
            with pytest.raises(ValueError, match=r"num_classes=3, so y must hold one label in 0 \.\.\. 2"):
                prior(torch.tensor(y))


class TestUniformSphere:
    """1 / area."""

    @pytest.mark.parametrize(("size", "area"), [(2, 2 * math.pi), (3, 4 * math.pi), (4, 2 * math.pi**2), (6, math.pi**3)])
    def test_density(self, size, area):
        p = UniformSphere((size,))()
        z = p.sample((5, 4))
        torch.testing.assert_close(p.log_prob(z), torch.full((5, 4), -math.log(area)))
        assert p.support.check(z).all()

    def test_moments_of_samples(self):
        """Mean 0, covariance I / m; fourth moments 3 / (m (m + 2)), which tell it from other laws with the same covariance."""
        p = UniformSphere((3,))()
        z = p.sample((NUM,))
        assert_mean(z, p.mean)
        assert_mean(z[:, :, None] * z[:, None], torch.eye(3) / 3)
        assert_mean(z**4, 3 / 15)
        torch.testing.assert_close(p.variance, torch.full((3,), 1 / 3))

    def test_it_learns_nothing_and_moves_with_the_module(self):
        prior = UniformSphere((3,))
        assert not prior.state_dict()
        assert prior.float()().sample().dtype == prior().log_prob(torch.ones(3)).dtype == torch.float32
        assert prior().expand((5,)).sample((2,)).shape == (2, 5, 3)

    @pytest.mark.parametrize("z_shape", [(1,), (2, 3), ()], ids=str)
    def test_other_shapes_are_refused(self, z_shape):
        with pytest.raises(ValueError, match="needs a vector z of at least 2 numbers"):
            UniformSphere(z_shape)
