"""Flows: determinants against autograd, densities that integrate to one, maps that can be inverted, and where they start."""

import ast
import itertools
import math
import subprocess
import sys
from functools import partial

import pytest
import torch
from forked_scripts import ROOT
from standard_errors import assert_mean
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from vaelab import flows, posteriors, priors
from vaelab.distributions import FlowDistribution
from vaelab.flows.planar import invertible
from vaelab.networks import MLP

FLOWS = {
    "planar": flows.Planar,
    **{kind: partial(flows.Sylvester, kind=kind, num_vectors=3) for kind in ("orthogonal", "householder", "triangular")},
    "iaf": partial(flows.Autoregressive, hidden=(16,), num_context=5),
    "spline": partial(flows.Spline, hidden=(16,), num_context=5),
}
REAL = {  # in the sizes of conf/posterior
    "planar": flows.Planar,
    **{kind: partial(flows.Sylvester, kind=kind) for kind in ("orthogonal", "householder", "triangular")},
    "iaf": flows.Autoregressive,
    "spline": flows.Spline,
}
AMORTISED = ["planar", "orthogonal", "householder", "triangular"]  # all of their parameters come from the encoder
MASKED = ["iaf", "spline"]
DENSITIES = {"autoregressive": flows.autoregressive_density, "coupling": flows.coupling_density}

every_flow = pytest.mark.parametrize("name", FLOWS)
every_density = pytest.mark.parametrize("name", DENSITIES)
every_size = pytest.mark.parametrize("features", [1, 2, 5])


def wild(flow: nn.Module, std: float = 0.4) -> nn.Module:
    """The flow with large parameters, so that nothing is checked near the identity, where everything is right."""
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=std)
    return flow.requires_grad_(False)


def built(name: str, features: int, num_flows: int = 4, wildness: float = 1.0) -> tuple[nn.Module, Tensor]:
    """A flow and a context, both away from the identity."""
    flow = wild(FLOWS[name](features, num_flows), 0.4 * wildness)
    return flow, 1.5 * wildness * torch.randn(flow.num_context)


def jacobian(flow: nn.Module, z: Tensor, context: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(lambda z: flow(z, context)[0], z)


def jacobians(z: Tensor, z0: Tensor) -> Tensor:
    """dz_i / dz0_j for each of N points."""
    return torch.stack([torch.autograd.grad(z[:, i].sum(), z0, retain_graph=True)[0] for i in range(z.shape[1])], dim=1)


def inverse(flow: nn.Module, z: Tensor, context: Tensor) -> Tensor:
    """z0 with f(z0) = z for each of N points: zuko's where it has one, else by Newton's method, with shorter steps where it overshoots."""
    if isinstance(flow, flows.Autoregressive):
        for each in reversed(flow.maps):
            z = each(context).inv(z)
        return z
    z0 = z.clone()
    for _ in range(100):
        z0 = z0.detach().requires_grad_()
        image = flow(z0, context)[0]
        error = (image - z).detach()
        distance = error.norm(dim=1)
        if distance.max() < 1e-11:
            break
        step = torch.linalg.solve(jacobians(image, z0), error[..., None]).squeeze(-1)
        length = torch.ones(len(z))
        for _ in range(20):
            farther = (flow(z0.detach() - length[:, None] * step, context)[0] - z).norm(dim=1) > distance
            if not (farther & (distance > 1e-12)).any():
                break
            length = torch.where(farther, length / 2, length)
        z0 = z0 - length[:, None] * step
    return z0.detach()


def grid(reach: float, step: float) -> Tensor:
    line = torch.arange(-reach, reach, step)
    return torch.cartesian_prod(line, line)


class TestPosteriors:
    pytestmark = pytest.mark.usefixtures("double")

    @every_size
    @every_flow
    def test_log_determinant_is_autograds(self, name, features):
        moved, changed = [], []
        for _ in range(5):
            flow, context = built(name, features)
            z = torch.randn(features)
            image, ladj = flow(z, context)
            torch.testing.assert_close(ladj, torch.linalg.slogdet(jacobian(flow, z, context)).logabsdet, rtol=0, atol=1e-8)
            moved.append((image - z).norm().item())
            changed.append(ladj.abs().item())
        assert max(moved) > 0.2  # or nothing is tested here
        assert max(changed) > 0.2

    @every_flow
    def test_maps_preserve_orientation(self, name):
        """det > 0 everywhere: where it changed its sign, the map would fold."""
        for _ in range(20):
            flow, context = built(name, 3)
            assert all(jacobian(flow, 3 * torch.randn(3), context).det() > 0 for _ in range(5))

    @every_flow
    def test_every_point_has_a_preimage_and_the_density_integrates_to_one(self, name):
        """q(z) = q0(f^-1(z)) / |det f'(f^-1(z))| on a grid of z, with the inverse found numerically."""
        flow, context = built(name, 2, num_flows=2, wildness=0.5) if name in MASKED else built(name, 2, num_flows=1, wildness=2 / 3)
        base = MultivariateNormal(torch.tensor([0.3, -0.2]), torch.diag(torch.tensor([0.6, 0.8]) ** 2))
        reach = flow(base.sample((20_000,)), context)[0].abs().max().item() + 1
        step = reach / 150
        z = grid(reach, step)
        z0 = inverse(flow, z, context)
        torch.testing.assert_close(flow(z0, context)[0], z, rtol=0, atol=1e-9)
        total = (base.log_prob(z0) - flow(z0, context)[1]).exp().sum() * step**2
        assert total.item() == pytest.approx(1, abs=1e-3 if name in MASKED else 1e-6)  # masked networks have kinks

    @every_flow
    def test_samples_agree_with_their_density(self, name):
        """E[g(z) / q(z)] is the integral of g, for a bump g well inside q so that the ratio has no heavy tail."""
        flow, context = built(name, 2, num_flows=2, wildness=0.5)
        base = Independent(Normal(torch.zeros(2), 1.5 * torch.ones(2)), 1)
        q = FlowDistribution(base, lambda z0: flow(z0, context), (2,), validate_args=False)
        others = q.sample((10_000,))
        bump = MultivariateNormal(others.mean(0), 0.1 * others.T.cov())
        z, log_q = q.rsample_and_log_prob((100_000,))
        assert_mean((bump.log_prob(z) - log_q).exp(), 1.0)

    @every_flow
    def test_leading_axes(self, name):
        """K samples for each of B contexts are those of each by itself."""
        flow = wild(FLOWS[name](4))
        context, z = torch.randn(5, flow.num_context), torch.randn(3, 5, 4)
        together = flow(z, context)
        assert (together[0].shape, together[1].shape) == ((3, 5, 4), (3, 5))
        for k in range(3):
            for b in range(5):
                torch.testing.assert_close((together[0][k, b], together[1][k, b]), flow(z[k, b], context[b]), rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("name", AMORTISED)
    def test_an_encoder_that_says_nothing_gives_the_identity(self, name):
        flow, z = FLOWS[name](4), torch.randn(6, 4)
        image, ladj = flow(z, torch.zeros(flow.num_context))
        assert torch.equal(image, z)
        assert torch.equal(ladj, torch.zeros(6))

    @every_size
    @pytest.mark.parametrize("name", MASKED)
    def test_a_masked_network_that_says_nothing_gives_the_identity(self, name, features):
        flow, z = FLOWS[name](features), torch.randn(6, features)
        for parameter in flow.parameters():
            nn.init.zeros_(parameter)
        image, ladj = flow(z, torch.randn(flow.num_context))
        torch.testing.assert_close(image, z)
        torch.testing.assert_close(ladj, torch.zeros(6), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("event_shape", [(1,), (40,), (2, 3, 3)], ids=str)
    @every_flow
    def test_training_starts_near_the_diagonal_gaussian(self, name, event_shape):
        """KL(q || q0) = E[log q - log q0], with an encoder of pictures."""
        posterior = posteriors.Flow(partial(MLP, hidden=(300, 300)), (1, 28, 28), event_shape, REAL[name])
        with torch.no_grad():
            q = posterior((torch.rand(100, 1, 28, 28) < 0.13).double())
            z, log_q = q.rsample_and_log_prob((20,))
        ratio = log_q - q.base.log_prob(z.flatten(2))
        assert ratio.any()  # it is a flow
        assert ratio.mean().abs() < 0.3

    @pytest.mark.parametrize("name", MASKED)
    def test_jacobian_is_triangular(self, name):
        """Each map in its own order, which is the reversed one for every second."""
        flow, context = built(name, 5, num_flows=2)
        z = torch.randn(5)
        for each, reverse in zip(flow.maps, (False, True), strict=True):
            j = torch.autograd.functional.jacobian(each(context), z)
            j = j.flip(0, 1) if reverse else j
            assert not j.triu(1).any()
            assert j.diagonal().gt(0).all()
            assert j.tril(-1).any()
        both = jacobian(flow, z, context)
        assert both.triu(1).any()
        assert both.tril(-1).any()

    @pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
    def test_planar_maps_are_invertible_whatever_the_encoder_says(self, scale):
        """w^T u > -1, by a move along w, which is m(w^T u) - w^T u."""
        u, w = scale * torch.randn(1000, 3), scale * torch.randn(1000, 3)
        moved, slope = invertible(u, w)
        assert slope.gt(0).all() or scale == 100  # exp(-800) is zero to a computer
        assert slope.ge(0).all()
        product = (w * u).sum(-1, keepdim=True)
        expected = 1 + (1 + (math.e - 1) * product.clamp(max=30).exp()).log() - 1  # 1 + m
        torch.testing.assert_close(slope.where(product < 30, 0.0), expected.where(product < 30, 0.0), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(1 + (w * moved).sum(-1, keepdim=True), slope, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(torch.linalg.cross(moved - u, w), torch.zeros(1000, 3), rtol=0, atol=1e-9 * scale**2)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    @pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
    @pytest.mark.parametrize("name", AMORTISED)
    def test_extreme_parameters_have_a_finite_density(self, name, scale, dtype):
        """The diagonals' tanh is 1 and softplus is 0 in floating point; where log 0 would be -inf."""
        flow = FLOWS[name](4)
        context, z = scale * torch.randn(20_000, flow.num_context, dtype=dtype), torch.randn(20_000, 4, dtype=dtype)
        context.requires_grad_()
        image, ladj = flow(z, context)
        assert image.isfinite().all()
        assert ladj.isfinite().all()
        ladj.sum().backward()
        assert context.grad.isfinite().all()

    def test_log_determinant_survives_float32(self):
        """Where w^T u is almost -1 and z near the fold: 1 - (1 - 1e-8) is nothing in float32."""
        flow = flows.Planar(1, num_flows=1)
        context, z = torch.tensor([-4.0, 4.0, 0.0]), torch.tensor([1e-4])
        exact, single = flow(z, context)[1], flow(z.float(), context.float())[1]
        assert exact < -13
        torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=0)

    @pytest.mark.parametrize("features", [3, 40])
    @pytest.mark.parametrize("kind", ["orthogonal", "householder", "triangular"])
    def test_q_is_orthonormal(self, kind, features):
        """Also where its columns start out almost the same, or tiny, and in float32."""
        flow = flows.Sylvester(features, kind=kind, num_vectors=8)
        same = torch.randn(features).repeat(flow.num_vectors)
        for basis in (
            torch.randn(6, flow.basis),
            1e-6 * torch.randn(6, flow.basis),
            (same[: flow.basis] + 1e-3 * torch.randn(6, flow.basis)),
        ):
            # |Q^T Q - I| of n reflections, each of them off by some roundings: at most 5 n eps, which is 4.8e-6 for 8 in float32
            for flipped, dtype in itertools.product((False, True), (torch.float32, torch.float64)):
                q = flow.orthonormal(basis.to(dtype), flipped).double()
                assert q.shape[-2:] == (features, flow.size)
                off = (q.mT @ q - torch.eye(flow.size)).abs().max()
                assert off <= 5 * max(flow.num_vectors, 1) * torch.finfo(dtype).eps

    def test_orthogonal_q_spans_the_columns_of_the_encoder(self):
        flow = flows.Sylvester(7, kind="orthogonal", num_vectors=3)
        basis = torch.randn(21)
        columns, q = basis.reshape(3, 7).T, flow.orthonormal(basis, False)
        torch.testing.assert_close(q @ q.T @ columns, columns)

    @pytest.mark.parametrize("kind", ["orthogonal", "householder"])
    def test_q_is_continuous_in_x(self, kind):
        """LAPACK's columns jump to their opposites where a number of the encoder changes its sign."""
        flow, jump = flows.Sylvester(5, kind=kind, num_vectors=3), 1e-7
        for i in range(flow.basis):
            left, right = (torch.randn(flow.basis, generator=torch.Generator().manual_seed(i)) for _ in range(2))
            left[i], right[i] = -jump, jump
            torch.testing.assert_close(flow.orthonormal(left, False), flow.orthonormal(right, False), rtol=0, atol=1e-4)

    def test_orders_of_the_triangular_flow_alternate(self):
        """Upper triangular in one map, lower triangular in the next."""
        for i, triangle in enumerate((torch.tril, torch.triu)):
            flow = flows.Sylvester(4, num_flows=2, kind="triangular")
            context = torch.zeros(2, flow.num_context // 2)
            context[i] = torch.randn(flow.num_context // 2)
            assert not triangle(jacobian(flow, torch.randn(4), context.flatten()), (-1, 1)[i]).any()

    def test_a_linear_flow_is_a_gaussian(self):
        """z = A z0 + b has the density N(A mu + b, A S A^T), which is known in full."""
        mu, sigma, b = torch.randn(5, 6), torch.rand(5, 6) + 0.5, torch.randn(6)
        a = torch.randn(6, 6)
        ladj = torch.linalg.slogdet(a).logabsdet
        base = Independent(Normal(mu, sigma), 1)
        q = FlowDistribution(base, lambda z0: (z0 @ a.T + b, ladj.expand(z0.shape[:-1])), (2, 3), validate_args=False)
        z, log_q = q.rsample_and_log_prob((3,))
        exact = MultivariateNormal(mu @ a.T + b, a @ torch.diag_embed(sigma**2) @ a.T)
        assert (z.shape, log_q.shape) == ((3, 5, 2, 3), (3, 5))
        torch.testing.assert_close(log_q, exact.log_prob(z.flatten(2)))
        torch.testing.assert_close(q.centre, exact.mean.unflatten(-1, (2, 3)))

    @pytest.mark.parametrize("name", AMORTISED)
    def test_an_identity_is_the_gaussian_posterior(self, name):
        """Same network, same noise: the same z and the same log q."""
        posterior = posteriors.Flow(partial(MLP, hidden=()), (3,), (4,), FLOWS[name])
        layer = posterior.network.layers[-2]
        with torch.no_grad():
            layer.weight[8:] = 0
            layer.bias[8:] = 0
        gaussian = posteriors.Gaussian(partial(MLP, hidden=()), (3,), (4,))
        gaussian.network.layers[-2].weight.data, gaussian.network.layers[-2].bias.data = layer.weight.data[:8], layer.bias.data[:8]
        x = torch.randn(5, 3)
        torch.manual_seed(1)
        z, log_q = posterior(x).rsample_and_log_prob((7,))
        torch.manual_seed(1)
        expected = gaussian(x).rsample((7,))
        torch.testing.assert_close(z, expected)
        torch.testing.assert_close(log_q, gaussian(x).log_prob(expected))

    @pytest.mark.parametrize("kind", ["orthogonal", "householder", "triangular"])
    def test_sylvester_by_hand(self, kind):
        """z + Q R1 tanh(R2 Q^T z + b), with the whole D x D determinant and not the M x M one."""
        flow = flows.Sylvester(4, num_flows=1, kind=kind, num_vectors=2)
        context, z = torch.randn(flow.num_context), torch.randn(4)
        basis, upper1, upper2, d1, d2, b = context.split([flow.basis, flow.triangle, flow.triangle, flow.size, flow.size, flow.size])
        q = flow.orthonormal(basis, False)
        r1, r2 = torch.diag(d1.tanh()), torch.diag(d2.tanh())
        above = [(i, j) for i in range(flow.size) for j in range(i + 1, flow.size)]
        for (i, j), one, two in zip(above, upper1, upper2, strict=True):
            r1[i, j], r2[i, j] = one, two
        h = torch.tanh(r2 @ q.T @ z + b)
        image, ladj = flow(z, context)
        torch.testing.assert_close(image, z + q @ r1 @ h)
        torch.testing.assert_close(ladj, (torch.eye(4) + q @ r1 @ torch.diag(1 - h**2) @ r2 @ q.T).logdet())

    @pytest.mark.parametrize("settings", [{"num_flows": 0}, {"num_flows": -1}], ids=str)
    @every_flow
    def test_no_maps_are_refused(self, name, settings):
        with pytest.raises(ValueError, match="num_flows"):
            FLOWS[name](4, **settings)

    def test_unknown_sylvester_is_refused(self):
        with pytest.raises(ValueError, match="kind=qr is unknown: choose orthogonal, householder or triangular"):
            flows.Sylvester(4, kind="qr")


def prior(name: str, features: int, num_classes: int = 0, num_flows: int = 2, std: float = 0.4) -> priors.Flow:
    """Away from the identity."""
    made = priors.Flow((features,), partial(DENSITIES[name], num_flows=num_flows, hidden=(16,)), num_classes)
    wild(made, std)
    return made


class TestPriors:
    pytestmark = pytest.mark.usefixtures("double")

    @every_density
    def test_integrates_to_one(self, name):
        p = prior(name, 2)()
        reach = p.sample((20_000,)).abs().max().item() * 1.5
        step = reach / 600
        assert (p.log_prob(grid(reach, step)).exp().sum() * step**2).item() == pytest.approx(1, abs=1e-4)

    @every_density
    def test_log_prob_is_the_change_of_variables_by_autograd(self, name):
        """log N(f(z); 0, I) + log |det df/dz|."""
        p = prior(name, 5)()
        z = torch.randn(5)
        ladj = torch.linalg.slogdet(torch.autograd.functional.jacobian(p.transform, z)).logabsdet
        torch.testing.assert_close(p.log_prob(z), Normal(0, 1).log_prob(p.transform(z)).sum() + ladj, rtol=0, atol=1e-8)
        assert ladj.abs() > 0.01

    @pytest.mark.parametrize("features", [2, 5])
    @every_density
    def test_samples_are_the_inverse_of_the_score(self, name, features):
        """What is sampled from noise is scored as that noise."""
        p = prior(name, features)()
        torch.manual_seed(3)
        z = p.sample((100,))
        torch.manual_seed(3)
        noise = torch.randn(100, features)
        torch.testing.assert_close(p.transform(z), noise, rtol=0, atol=1e-8)

    @every_density
    def test_samples_agree_with_log_prob(self, name):
        """The mean of log p, and the first two moments, against integrals over a grid."""
        p = prior(name, 2)()
        z = p.sample((50_000,))
        reach = z.abs().max().item() * 1.3
        points = grid(reach, reach / 500)
        log_p = p.log_prob(points)
        weight = (log_p.exp() * (reach / 500) ** 2)[:, None]
        assert_mean(p.log_prob(z), (weight[:, 0] * log_p).sum())
        assert_mean(z, (weight * points).sum(0))
        assert_mean(z[:, :1] * z, (weight * points[:, :1] * points).sum(0))

    @every_density
    def test_each_class_has_a_density_of_its_own(self, name):
        """p(z | y) of z (K, B) under y (B,): each integrates to one, and they differ."""
        module = prior(name, 2, num_classes=3)
        y = torch.tensor([0, 2, 1, 2])
        p = module(y)
        assert (p.batch_shape, p.event_shape) == ((4,), (2,))
        samples = p.sample((5_000,))
        reach = samples.abs().max().item() * 1.5
        step = reach / 200
        points = grid(reach, step)
        log_p = p.log_prob(points[:, None])
        torch.testing.assert_close(log_p.exp().sum(0) * step**2, torch.ones(4), rtol=0, atol=1e-3)
        assert torch.equal(log_p[:, 1], log_p[:, 3])
        assert min((log_p[:, i] - log_p[:, j]).abs().max() for i, j in [(0, 1), (1, 2), (0, 2)]) > 0.1
        mean = (log_p.exp()[..., None] * points[:, None]).sum(0) * step**2
        assert_mean(samples, mean)

    @every_density
    def test_label_is_needed_where_there_are_classes(self, name):
        with pytest.raises(ValueError, match="Flow was built with num_classes=3, so it needs y"):
            prior(name, 2, num_classes=3)()

    @every_density
    def test_event_of_any_shape(self, name):
        """It is the flow over D numbers, in the order in which they lie in memory."""
        module = priors.Flow((2, 3), partial(DENSITIES[name], hidden=(16,)))
        wild(module, 0.3)
        z = torch.randn(4, 5, 2, 3)
        torch.testing.assert_close(module().log_prob(z), module.flow(None).log_prob(z.flatten(2)))

    @pytest.mark.parametrize("num_classes", [0, 3])
    @every_density
    def test_gradients_reach_every_parameter(self, name, num_classes):
        module = priors.Flow((4,), DENSITIES[name], num_classes)
        y = torch.randint(3, (16,)) if num_classes else None
        module(y).log_prob(torch.randn(3, 16, 4)).mean().backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())

    @pytest.mark.parametrize("num_classes", [0, 3])
    @pytest.mark.parametrize("z_shape", [(1,), (40,), (2, 3, 3)], ids=str)
    @every_density
    def test_training_starts_near_the_standard_normal(self, name, z_shape, num_classes):
        module = priors.Flow(z_shape, DENSITIES[name], num_classes)
        z = torch.randn(2000, *z_shape)
        log_normal = Normal(0, 1).log_prob(z).flatten(1).sum(1)
        difference = log_normal - module(torch.randint(3, (2000,)) if num_classes else None).log_prob(z)
        assert difference.mean().abs() < 0.1
        assert difference.any()  # it is a flow

    @every_density
    def test_is_a_density_under_autocast_from_outside(self, name):
        """A network in half precision gives another density, but a density: the determinant is that of the map."""
        module = priors.Flow((2,), partial(DENSITIES[name], num_flows=1, hidden=(16,))).float()
        wild(module, 0.5)
        with torch.autocast("cpu", torch.bfloat16):
            p = module()
            reach = p.sample((20_000,)).abs().max().item() * 1.5
            points = grid(reach, reach / 400).float()
            log_p = p.log_prob(points)
        assert log_p.dtype == torch.float32
        assert not torch.equal(log_p, module().log_prob(points))  # or nothing is tested here
        assert (log_p.double().exp().sum() * (reach / 400) ** 2).item() == pytest.approx(1, abs=1e-5)

    @every_density
    def test_no_maps_are_refused(self, name):
        with pytest.raises(ValueError, match="num_flows=0"):
            DENSITIES[name](2, num_flows=0)


def test_importing_flows_leaves_the_validation_of_others_alone():
    """zuko turns it off for the whole process."""
    code = """
import sys
from torch.distributions import Distribution
for default in (True, False):
    for name in [name for name in sys.modules if name.split(".")[0] in ("zuko", "vaelab")]:
        del sys.modules[name]
    Distribution.set_default_validate_args(default)
    import vaelab.flows, vaelab.posteriors, vaelab.priors
    assert "zuko" in sys.modules
    assert Distribution._validate_args is default
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_zuko_is_imported_in_one_place():
    """Where validation is restored."""
    importing = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""]
            if isinstance(node, ast.Import | ast.ImportFrom) and any(name.split(".")[0] == "zuko" for name in names):
                importing.add(path.name)
    assert importing == {"autoregressive.py"}
    assert not [path for path in (ROOT / "conf").rglob("*.yaml") if "_target_: zuko" in path.read_text()]


def test_a_prior_that_is_a_flow_asks_nothing_of_its_numbers(monkeypatch):
    """Validation would make a GPU wait at each step; on the meta device it cannot be answered at all."""
    monkeypatch.setattr(Distribution, "_validate_args", True)  # torch.compile turns it off for the whole process
    for make in DENSITIES.values():
        p = priors.Flow((3,), make).to("meta")()
        assert p.log_prob(torch.zeros(2, 3, device="meta")).device.type == "meta"
