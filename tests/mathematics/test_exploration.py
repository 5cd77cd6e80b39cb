"""Walks through the latent space whose ends, angles and norms are known; dimensions whose rates are; neighbours by brute force."""

import math
from functools import partial

import pytest
import torch
from linear_gaussian import orthogonal, set_affine
from torch import nn

from vaelab.applications import by_rate, interpolate, manifold, nearest, pairs, slerp, traverse
from vaelab.likelihoods import Gaussian
from vaelab.models import VAE
from vaelab.networks import MLP
from vaelab.posteriors import Gaussian as GaussianPosterior
from vaelab.priors import StandardNormal


@pytest.fixture(autouse=True)
def in_double_precision(double):
    torch.manual_seed(0)


def angle(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = a.flatten(1), b.flatten(1)
    return torch.acos(torch.nn.functional.cosine_similarity(a, b).clamp(-1, 1))


@pytest.mark.parametrize("shape", [(2,), (50,), (2, 3, 4)], ids=str)
def test_a_spherical_walk_has_constant_speed_in_angle_and_norm(shape):
    start, end = torch.randn(7, *shape), 3 * torch.randn(7, *shape)
    whole, norms = angle(start, end), [z.flatten(1).norm(dim=1) for z in (start, end)]
    for t in (0.0, 0.2, 0.5, 0.9, 1.0):
        z = slerp(start, end, t)
        torch.testing.assert_close(z.flatten(1).norm(dim=1), (1 - t) * norms[0] + t * norms[1])
        torch.testing.assert_close(angle(start, z), t * whole, atol=1e-7, rtol=1e-7)
        torch.testing.assert_close(angle(z, end), (1 - t) * whole, atol=1e-7, rtol=1e-7)
    torch.testing.assert_close(slerp(start, end, 0.0), start)
    torch.testing.assert_close(slerp(start, end, 1.0), end)


def test_a_quarter_of_a_circle():
    halfway = slerp(torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1]]), 1 / 3)
    torch.testing.assert_close(halfway, torch.tensor([[math.cos(math.pi / 6), math.sin(math.pi / 6)]]))


def test_without_one_great_circle_the_walk_is_straight():
    """From 0, between equals and between opposites; beside an ordinary pair in the same batch."""
    start = torch.tensor([[0.0, 0], [1, 2], [1, 2], [1, 0]])
    end = torch.tensor([[3.0, 4], [2, 4], [-1, -2], [0, 1]])
    z = slerp(start, end, 0.25)
    torch.testing.assert_close(z[:3], torch.lerp(start, end, 0.25)[:3])
    torch.testing.assert_close(z[3].norm(), torch.tensor(1.0))


@pytest.mark.parametrize("walk", [torch.lerp, slerp])
def test_interpolations_begin_and_end_with_reconstructions(walk):
    exact = orthogonal(latent_dims=3)
    model, x = exact.vae((6,)), exact.sample(8)
    steps = interpolate(model, x[:4], x[4:], steps=5, walk=walk)
    assert steps.shape == (4, 5, 6)
    torch.testing.assert_close(steps[:, 0], model.reconstruct(x[:4]))
    torch.testing.assert_close(steps[:, -1], model.reconstruct(x[4:]))
    between = walk(model.encode(x[:4]).mean, model.encode(x[4:]).mean, 0.25)
    torch.testing.assert_close(steps[:, 1], between @ exact.weight.T + exact.bias)
    if walk is torch.lerp:  # and the decoder is affine
        torch.testing.assert_close(steps.diff(dim=1), steps.diff(dim=1)[:, :1].expand(-1, 4, -1))


class Correlated(nn.Module):
    """q(z | x) = N(A x, L L^T), which does not factorise."""

    def __init__(self, posterior: nn.Module) -> None:
        super().__init__()
        self.posterior = posterior

    def forward(self, x, y=None):
        q = self.posterior(x)
        return torch.distributions.MultivariateNormal(q.mean, scale_tril=torch.eye(3) + 0.1 * torch.ones(3, 3).tril(-1))


def with_rates() -> VAE:
    """q(z_d | x) = N(m_d x_d, s_d^2), d = 1, 2, 3."""
    network = partial(MLP, hidden=())
    model = VAE(GaussianPosterior(network, (3,), (3,)), Gaussian(network, (3,), (3,)), StandardNormal((3,)))
    scales = torch.tensor([0.9, 0.1, 1.0])
    set_affine(
        model.posterior,
        torch.cat([torch.diag(torch.tensor([0.5, 1.0, 0.1])), torch.zeros(3, 3)]),
        torch.cat([torch.zeros(3), scales.log()]),
    )
    return model


def test_pairs_are_apart_or_in_a_chain_and_of_one_class():
    y = torch.tensor([0, 1, 0, 2, 1, 0, 0, 1])

    def found(*options):
        return list(zip(*(places.tolist() for places in pairs(y, *options)), strict=True))

    assert found(3) == [(0, 3), (1, 4), (2, 5)]
    assert found(3, True) == [(0, 1), (1, 2), (2, 3)]
    assert found(4, False, True) == [(0, 5), (1, 4), (2, 6), (3, 3)]  # the only one of its class stays where it is
    assert found(3, True, True) == [(0, 2), (1, 4), (2, 5)]
    assert pairs(y[:4], 2, False, True)[1].tolist() == [2, 1]


def test_dimensions_in_the_order_of_their_rates():
    """KL(N(m, s^2) || N(0, 1)) = (m^2 + s^2 - 1) / 2 - log s."""
    x = torch.randn(20, 3)
    order = by_rate(with_rates(), x)
    m, s = x * torch.tensor([0.5, 1.0, 0.1]), torch.tensor([0.9, 0.1, 1.0])
    rates = ((m.square() + s.square() - 1) / 2 - s.log()).mean(0)
    assert (order.dims.tolist(), order.measure) == ([1, 0, 2], "rate")
    torch.testing.assert_close(order.values, rates[[1, 0, 2]])


def test_dimensions_without_rates_in_the_order_of_their_variances():
    x, model = torch.randn(20, 3), with_rates()
    model.posterior = Correlated(model.posterior)
    order = by_rate(model, x)
    variances = (x * torch.tensor([0.5, 1.0, 0.1])).var(0, correction=0)
    assert (order.dims.tolist(), order.measure) == (variances.argsort(descending=True).tolist(), "variance")
    torch.testing.assert_close(order.values, variances.sort(descending=True).values)


def test_a_traversal_moves_one_dimension():
    """x moves along a column of W, and is that of the other dimensions' centres where the walk passes 0."""
    exact = orthogonal(latent_dims=3)
    model, x = exact.vae((6,)), exact.sample(1)
    walks = traverse(model, x, torch.tensor([2, 0]), steps=5, extent=2.0)
    assert walks.shape == (2, 5, 6)
    for walk, dim in zip(walks, (2, 0), strict=True):
        z = model.encode(x).mean.clone()
        z[0, dim] = 0
        torch.testing.assert_close(walk[2], (z @ exact.weight.T + exact.bias)[0])
        torch.testing.assert_close(walk.diff(dim=0), exact.weight[:, dim].expand(4, -1))


def test_the_plane_is_of_equal_probability():
    """z_1 grows to the right and z_2 upwards, between quantiles (i + 1/2) / n of N(0, 1)."""
    exact = orthogonal()
    grid = manifold(exact.vae((6,)), side=4)
    z = (grid - exact.bias) @ torch.linalg.pinv(exact.weight).T
    quantiles = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor([0.125, 0.375, 0.625, 0.875]))
    torch.testing.assert_close(z[..., 0], quantiles.expand(4, 4))
    torch.testing.assert_close(z[..., 1], quantiles.flip(0)[:, None].expand(4, 4))
    with pytest.raises(ValueError, match=r"needs two latent dimensions, but z has shape \(3,\)"):
        manifold(orthogonal(latent_dims=3).vae((6,)))


def test_neighbours_are_those_of_brute_force():
    """Whatever the batches; a memorised example is at distance 0, and comes first."""
    references, queries = torch.rand(50, 1, 4, 4), torch.rand(6, 1, 4, 4)
    queries[2] = references[31]
    every = torch.cdist(queries.flatten(1), references.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    distances, indices = every.topk(4, largest=False)
    for size in (1, 7, 50):
        found = nearest(queries, references.split(size), num_neighbours=4)
        assert torch.equal(found.indices, indices)
        torch.testing.assert_close(found.distances, distances, atol=1e-6, rtol=1e-6)
        assert torch.equal(found.x, references[indices])
    assert (found.indices[2, 0], found.distances[2, 0] < 1e-6) == (31, True)


def test_neighbours_in_a_space_of_features():
    """By the mean of an image, and not by its pixels."""
    references = torch.stack([torch.full((1, 2, 2), value) for value in (0.0, 0.4, 1.0)])
    query = torch.tensor([[[[0.9, 0.0], [0.9, 0.0]]]])  # of mean 0.45
    assert nearest(query, [references], features=lambda x: x.mean((1, 2, 3))[:, None]).indices.tolist() == [[1]]


def test_what_has_no_neighbours_is_refused():
    x = torch.rand(3, 2)
    assert nearest(x, [x], num_neighbours=5).indices.shape == (3, 3)
    with pytest.raises(ValueError, match="num_neighbours=0 must be at least 1"):
        nearest(x, [x], num_neighbours=0)
    with pytest.raises(ValueError, match="nothing to look through: the references have no batch"):
        nearest(x, [])
