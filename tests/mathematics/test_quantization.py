"""Quantisers: bijections by enumeration, entropies by brute force, gradients in closed form, sums of residuals, use of codes."""

import copy
import math
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian

from vaelab.distributions import ESTIMATORS, Quantized, Table, entropy_of_codes
from vaelab.draw import Draw, Latent
from vaelab.likelihoods import Bernoulli
from vaelab.metrics.latent.usage import CodeCounts, counting_codes, counts_of, perplexity, usage
from vaelab.models import VAE
from vaelab.networks import MLP, CausalTransformer
from vaelab.objectives import VQ
from vaelab.posteriors import FSQ, BinarySpherical, Hierarchical, LookupFree, Residual, SimVQ, VectorQuantized
from vaelab.posteriors.fsq import LEVELS
from vaelab.posteriors.k_means import k_means
from vaelab.priors import AutoregressiveCodes, UniformCodes

pytestmark = pytest.mark.usefixtures("double")


def as_given(in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> nn.Module:
    """A network that does nothing: z_e is x."""
    return nn.Unflatten(0, (-1, 1))


def of_vectors(family: Any, dim: int, **options: Any) -> Any:
    """A quantiser of single vectors."""
    return family(as_given, (dim,), (dim,), **options)


# --- codes and indices


@pytest.mark.parametrize("levels", [*LEVELS, (2, 3), (2,), (8, 6, 5)], ids=str)
def test_levels_are_enumerated(levels):
    """All K codes are different, in the product of the levels, each is that of its index, and there is a z_e that it stands for."""
    dim = len(LEVELS[levels]) if isinstance(levels, int) else len(levels)
    posterior = of_vectors(FSQ, dim, levels=levels)
    indices = torch.arange(posterior.codes.num_codes)
    codes = posterior.decode_indices(indices)
    assert torch.equal(posterior.codes.nearest(codes), indices)
    for level, numbers in zip(posterior.levels, codes.T, strict=True):
        half = level // 2
        torch.testing.assert_close(numbers.unique(), (torch.arange(level) - half).to(codes) / half)
    sizes = torch.tensor(posterior.levels)
    offset, reach = (sizes % 2 == 0) / 2, (sizes - 1) * 1.001 / 2
    z_e = torch.atanh((codes * (sizes // 2) + offset) / reach) - torch.atanh(offset / reach)
    assert torch.equal(posterior(z_e).indices, indices)


def test_sizes_are_those_of_the_paper():
    """Within an eighth of their names, and no level below 5 but in the smallest."""
    for name, levels in LEVELS.items():
        assert abs(math.prod(levels) / name - 1) < 1 / 8
        assert min(levels) >= (3 if name == 16 else 5)
    assert math.prod(LEVELS[256]) == 240
    assert math.prod(LEVELS[1024]) == 1000


@pytest.mark.parametrize(("family", "radius"), [(LookupFree, 1.0), (BinarySpherical, 5**-0.5)])
def test_bits_are_enumerated(family, radius):
    posterior = of_vectors(family, 5)
    codes = posterior.decode_indices(torch.arange(32))
    assert {tuple(code.tolist()) for code in (codes / radius).round()} == set(product((-1.0, 1.0), repeat=5))
    assert torch.equal(posterior(3 * codes).indices, torch.arange(32))
    x = torch.randn(100, 5)
    torch.testing.assert_close(posterior(x).mode, radius * x.sign())
    nearest = (posterior.prepare(x)[:, None] - codes).square().sum(-1).argmin(-1)
    assert torch.equal(posterior(x).indices, nearest)


def test_batch_norm_comes_before_the_codes():
    posterior, x = of_vectors(FSQ, 3, levels=[8, 6, 5], batch_norm=True), 100 + 30 * torch.randn(50, 3)
    plain = of_vectors(FSQ, 3, levels=[8, 6, 5])
    standardised = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
    assert torch.equal(posterior(x).indices, plain(standardised).indices)
    assert len(posterior(x).indices.unique()) > 20
    assert len(plain(x).indices.unique()) == 1


# --- entropies


@pytest.mark.parametrize("family", [LookupFree, BinarySpherical])
@pytest.mark.parametrize("space", [(), (3,), (2, 2)], ids=str)
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_entropies_are_those_of_all_codes(family, space, dim):
    """Softmax over the distances to all codes, by brute force; the gradient, too. On the sphere it is times tau."""
    posterior = family(as_given, (dim, *space), (dim, *space), entropy="exact", diversity=0.7, temperature=0.9)
    x = torch.randn(4, dim, *space, requires_grad=True)
    found = posterior(x).losses()["entropy"]
    u, codes = posterior.vectors_of(posterior.prepare(x)), posterior.codes.vectors(torch.arange(2**dim))
    log_p = (-(u[:, None] - codes).square().sum(-1) / 0.9).log_softmax(-1)
    each, mean = -(log_p.exp() * log_p).sum(-1).mean(), log_p.exp().mean(0)
    expected = (0.9 if family is BinarySpherical else 1) * math.prod(space) * (each + 0.7 * (mean * mean.log()).sum())
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, x), torch.autograd.grad(expected, x))


@pytest.mark.parametrize(("family", "grows"), [(LookupFree, True), (BinarySpherical, False)])
def test_steepest_slope_of_the_entropy(family, grows):
    """It grows with 1 / tau, or not: max |dH / d logit| is a number, and a logit is 4 r u / tau."""
    steepest = []
    for temperature in (0.1, 0.01):
        posterior = of_vectors(family, 1, diversity=0.0, temperature=temperature)
        u = torch.linspace(-0.2, 0.2, 4001)[:, None].requires_grad_()
        slopes = torch.autograd.grad(len(u) * posterior.losses(u, u)["entropy"], u)[0]
        steepest.append(slopes.abs().max().item())
    assert steepest[1] / steepest[0] == pytest.approx(10 if grows else 1, rel=1e-3)


def test_factorised_entropy():
    """Equal for bits that are independent over the batch, larger by their total correlation else."""
    marginals = torch.tensor([[-1.0, 0.5, 2.0]])
    torch.testing.assert_close(entropy_of_codes(marginals, exact=True), entropy_of_codes(marginals, exact=False))
    logits = 30 * torch.tensor([[1.0, 1.0], [-1.0, -1.0]])  # two bits that are always the same
    (each, exact), (_, factorised) = entropy_of_codes(logits, exact=True), entropy_of_codes(logits, exact=False)
    torch.testing.assert_close(torch.stack([each, exact, factorised]), torch.tensor([0.0, math.log(2), 2 * math.log(2)]))


def test_sure_choices_have_finite_gradients():
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    for exact in (True, False):
        each, of_all = entropy_of_codes(logits, exact)
        assert torch.autograd.grad(each - of_all, logits)[0].isfinite().all()


# --- gradients


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("shape", [(4,), (4, 3)], ids=str)
def test_jacobians_of_the_estimators(name, shape):
    """Place by place: I; |q| / |e| times the rotation that takes e to q; I - d d^T, and d d^T for the code."""
    z_e, z_q = torch.randn(shape), torch.randn(shape)
    dim = -len(shape)
    of_z, of_q = jacobian(lambda e, q: ESTIMATORS[name](e, q, dim), (z_e, z_q), strict=False)
    for place in product(*(range(size) for size in shape[1:])):
        own_z, own_q = ((each[(slice(None), *place)][(..., *place)]) for each in (of_z, of_q))
        e, q = z_e[(slice(None), *place)], z_q[(slice(None), *place)]
        d = (q - e) / (q - e).norm()
        if name == "straight_through":
            torch.testing.assert_close(own_z, torch.eye(4))
        elif name == "rotation":
            turn = own_z * e.norm() / q.norm()
            torch.testing.assert_close(turn @ turn.T, torch.eye(4))
            torch.testing.assert_close(torch.linalg.det(turn), torch.tensor(1.0))
            torch.testing.assert_close(own_z @ e, q)
        else:
            torch.testing.assert_close(own_z, torch.eye(4) - torch.outer(d, d))
        torch.testing.assert_close(own_q, torch.outer(d, d) if name == "diveq" else torch.zeros(4, 4))
    if len(shape) == 2:  # other places have no part in it
        assert not of_z[:, 0, :, 1].any()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_where_z_is_its_code_or_zero_gradients_are_finite(name):
    for z_e, z_q in [(torch.ones(3), torch.ones(3)), (torch.zeros(3), torch.ones(3)), (torch.ones(3), torch.zeros(3))]:
        e, q = z_e.requires_grad_(), z_q.clone().requires_grad_()
        stand_in = ESTIMATORS[name](e, q, -1)
        assert all(each.isfinite().all() for each in torch.autograd.grad(stand_in.sum(), (e, q), allow_unused=True) if each is not None)


def test_diveq_trains_codes_by_the_decoder():
    """Without any loss of their own, codes reach the places where the distortion is smallest."""
    posterior = of_vectors(VectorQuantized, 2, num_codes=3, update="gradient", estimator="diveq", start="random", revive_below=None)
    centres = torch.tensor([[4.0, 4.0], [4.0, -4.0], [-4.0, 0.0]])
    posterior.codebook.data.copy_(centres / 4)
    optimizer = torch.optim.SGD([posterior.codebook], lr=0.3)
    x = centres.repeat(5, 1) + 0.1 * torch.randn(15, 2)
    for _ in range(300):
        optimizer.zero_grad()
        q = posterior(x)
        (q.rsample() - x).square().sum(-1).mean().backward()
        optimizer.step()
    assert q.losses() == {}
    torch.testing.assert_close(posterior.codebook.detach(), x.reshape(5, 3, 2).mean(0), atol=0.1, rtol=0)


def test_simvq_moves_all_codes_when_one_is_used():
    posterior = of_vectors(SimVQ, 3, num_codes=9)
    q = posterior(torch.randn(1, 3))
    before = posterior.codes.codes.detach()
    q.losses()["codebook"].backward()
    with torch.no_grad():
        posterior.transform.weight -= 0.1 * posterior.transform.weight.grad
    assert (posterior.codes.codes != before).any(1).all()


# --- residuals


@pytest.mark.parametrize("depth", [1, 3])
def test_residuals_are_quantised_one_after_the_other(depth):
    posterior = of_vectors(partial(Residual, quantizer=partial(VectorQuantized, num_codes=6)), 2, depth=depth).eval()
    x = 2 * torch.randn(40, 2)
    q, rest = posterior(x), x.clone()
    for t, part in enumerate(posterior.quantizers):
        index = (rest[:, None] - part.codebook).square().sum(-1).argmin(-1)
        assert torch.equal(q.indices[:, t], index)
        rest = rest - part.codebook[index]
    torch.testing.assert_close(q.mode, x - rest)
    torch.testing.assert_close(posterior.decode_indices(q.indices), q.mode)
    torch.testing.assert_close(jacobian(lambda z: posterior(z).rsample(), x[:2]).reshape(4, 4), torch.eye(4))


@pytest.mark.parametrize(("family", "dim"), [(partial(FSQ, levels=[3, 5]), 2), (partial(FSQ, levels=[4, 2]), 2), (LookupFree, 3)])
def test_sums_of_a_lattice_are_a_bijection(family, dim):
    """All K^T sums are different, and searching finds the indices of each."""
    posterior = of_vectors(partial(Residual, quantizer=family), dim, depth=2)
    indices = torch.tensor(list(product(range(posterior.codes.num_codes), repeat=2)))
    sums = posterior.decode_indices(indices)
    assert len({tuple(row.tolist()) for row in sums.round(decimals=9)}) == len(indices)
    assert torch.equal(posterior.codes.nearest(sums), indices)


@pytest.mark.parametrize(
    ("family", "dim"), [(partial(FSQ, levels=[5, 5]), 2), (LookupFree, 2), (partial(VectorQuantized, num_codes=64), 2)]
)
def test_more_codes_leave_less_over(family, dim):
    x, errors = torch.rand(500, 2) * 1.8 - 0.9, []
    for depth in (1, 2, 3):
        torch.manual_seed(1)
        posterior = of_vectors(partial(Residual, quantizer=family), dim, depth=depth)
        posterior(x)  # learned codes begin
        q = posterior.eval()(x)
        errors.append((q.z_e - q.mode).square().mean().item())
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_losses_of_residuals_are_sums():
    posterior = of_vectors(partial(Residual, quantizer=partial(VectorQuantized, num_codes=6, update="gradient")), 2, depth=3).eval()
    x = torch.randn(40, 2)
    losses, rest, expected = posterior(x).losses(), x, 0.0
    for part in posterior.quantizers:
        rest = rest - part(rest).mode
        expected = expected + rest.square().sum(-1).mean()
    torch.testing.assert_close(losses["commitment"], expected)
    torch.testing.assert_close(losses["codebook"], expected)


@pytest.mark.parametrize("estimator", ["straight_through", "rotation"])
def test_commitment_of_residuals_pulls_to_each_partial_sum(estimator):
    """Its gradient is that of sum_t |z - sg(z_t)|^2 for the sums z_t of the first t codes (Lee et al., 2022), whatever the estimator."""
    table = partial(VectorQuantized, num_codes=6, estimator=estimator)
    posterior = of_vectors(partial(Residual, quantizer=table), 2, depth=3).eval()
    x = torch.randn(40, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(posterior(x).losses()["commitment"], x)
    indices = posterior(x).indices
    sums = torch.stack([part.codebook[indices[:, t]] for t, part in enumerate(posterior.quantizers)]).cumsum(0)
    torch.testing.assert_close(gradient, 2 * (x - sums).sum(0) / len(x))


def test_losses_of_residual_bits():
    """Distances are in the units of z, though bits are halved from one to the next, and each entropy has a gradient of its own."""
    posterior = of_vectors(partial(Residual, quantizer=LookupFree), 3, depth=2).eval()
    x = torch.randn(40, 3, requires_grad=True)
    losses, signs = posterior(x).losses(), x.detach().sign()
    first, second = (part.losses(u, u.sign()) for part, u in zip(posterior.quantizers, (x, 2 * (x - signs)), strict=True))
    torch.testing.assert_close(losses["commitment"], first["commitment"] + second["commitment"] / 4)
    expected = first["entropy"] + second["entropy"]
    torch.testing.assert_close(losses["entropy"], expected)
    for mine, yours in zip(*(torch.autograd.grad(value, x) for value in (losses["entropy"], expected)), strict=True):
        torch.testing.assert_close(mine, yours)


def test_dropout_leaves_the_first_codes():
    """While training, for its share of the examples: 1 to T codes with equal probability. Gradients pass through those that are left."""
    posterior = of_vectors(partial(Residual, quantizer=partial(FSQ, levels=[5, 5])), 2, depth=3, dropout=0.6)
    x = torch.randn(30_000, 2)
    q = posterior(x)
    assert torch.equal(q.rsample(), q.z_q)
    assert torch.equal(q.log_prob(q.sample()), torch.zeros(len(x)))
    parts = torch.stack([part.codes.vectors(q.indices[:, t]) * 0.2**t for t, part in enumerate(posterior.quantizers)])
    matches = (parts.cumsum(0) - q.z_q).abs().amax(-1) < 1e-9  # (T, n); a code that is 0 matches twice
    assert matches.any(0).all()
    unlike = (parts[1:].abs().amax(-1) > 1e-9).all(0)
    shares = matches[:, unlike].double().mean(1)
    error = 5 * (0.25 / int(unlike.sum())) ** 0.5
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.2, 0.6]), atol=error, rtol=0)
    assert torch.equal(posterior.eval()(x).mode, posterior.decode_indices(q.indices))


# --- start and revival


def test_k_means():
    """Clusters that lie apart: each has its centre; more centres than vectors are allowed."""
    centres = 20 * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]])
    vectors = (centres[:, None] + torch.randn(5, 30, 2)).flatten(0, 1)
    found = k_means(vectors[torch.randperm(150)], 5)
    order = torch.cdist(centres, found).argmin(1)
    torch.testing.assert_close(found[order], vectors.reshape(5, 30, 2).mean(1))
    assert k_means(vectors[:3], 7).isfinite().all()


@pytest.mark.parametrize("start", ["outputs", "k_means"])
def test_vectors_that_are_not_finite_leave_the_codes_alone(start):
    """Of a batch with some, codes follow the others; one that is all NaN changes none, not even at the start."""
    posterior = of_vectors(VectorQuantized, 2, num_codes=5, start=start, revive_below=0.5)
    posterior(torch.full((20, 2), torch.nan))
    assert posterior.codebook.isfinite().all()
    posterior(torch.randn(40, 2))
    posterior.counts[0] = 0  # it is dead
    before = posterior.codebook.clone()
    posterior(torch.full((20, 2), torch.inf))
    assert torch.equal(posterior.codebook, before)
    posterior.revive_below = None
    one, other, x = posterior, copy.deepcopy(posterior), torch.randn(40, 2)
    one(torch.cat([x, torch.full((3, 2), torch.nan)]))
    other(x)
    assert torch.equal(one.codebook, other.codebook)
    assert torch.equal(one.counts, other.counts)


@pytest.mark.parametrize("update", ["ema", "gradient"])
@pytest.mark.parametrize("start", ["outputs", "k_means", "random"])
def test_codes_begin_and_none_is_revived(start, update):
    """With revive_below=None a code is replaced at the start alone, or, if it starts at random, never."""
    posterior = of_vectors(VectorQuantized, 2, num_codes=4, update=update, start=start, revive_below=None, decay=0.9)
    drawn, x = posterior.codebook.detach().clone(), torch.randn(32, 2)
    posterior(x)
    moved = posterior.codebook.detach().clone()
    if start == "random":
        assert update == "ema" or torch.equal(moved, drawn)
    else:
        assert not torch.isclose(moved, drawn).any()
    posterior.counts[2] = 0.0
    posterior.codebook.data[2] = 1000.0  # nobody's nearest
    for _ in range(5):
        posterior(x)
    assert torch.equal(posterior.codebook[2].detach(), torch.full((2,), 1000.0))


# --- two maps


def two_maps(space, top, bottom, dims, channels=3):
    """Of a network that gives its input as features."""
    above, below = dims
    network = partial(MLP, hidden=())
    make = partial(Hierarchical, down=network, up=network, top=top, bottom=bottom, top_dim=above, channels=channels)
    return make(as_given, (channels, *space), (above + below, *space)).eval()


@pytest.mark.parametrize("space", [(3, 5), (4, 2), (1, 1), (5,)], ids=str)
def test_two_maps_by_hand(space):
    """Each top code stands at 2 x 2 places, the bottom is quantised in view of it, and losses and gradients are those of both."""
    posterior = two_maps(space, partial(SimVQ, num_codes=6), partial(SimVQ, num_codes=9, estimator="straight_through"), (2, 4))
    f = torch.randn(7, 3, *space, requires_grad=True)
    q, half = posterior(f), tuple((side + 1) // 2 for side in space)
    top = posterior.top(f)
    decoded = posterior.up(top.rsample()).reshape(f.shape)
    bottom = posterior.bottom(torch.cat([f, decoded], 1))
    assert (top.event_shape, bottom.event_shape) == ((2, *half), (4, *space))
    z = torch.stack(
        [
            torch.cat([top.rsample()[:, :, *(i // 2 for i in place)], bottom.rsample()[:, :, *place]], 1)
            for place in product(*map(range, space))
        ],
        -1,
    ).reshape(7, 6, *space)
    assert torch.equal(q.mode, z)
    grids = q.codebook.split(q.indices)
    assert torch.equal(grids["top"], top.indices)
    assert torch.equal(grids["bottom"], bottom.indices)
    assert torch.equal(q.codebook.join(**grids), q.indices)
    assert torch.equal(q.indices, torch.cat([top.indices.flatten(1), bottom.indices.flatten(1)], 1))
    losses = q.losses()
    assert set(losses) == {"codebook", "commitment"}
    for name, value in losses.items():
        torch.testing.assert_close(value, top.losses()[name] + bottom.losses()[name])
    weights, parameters = torch.randn_like(z), [f, *posterior.parameters()]
    mine, yours = (torch.autograd.grad((found * weights).sum(), parameters, allow_unused=True) for found in (q.rsample(), z))
    for one, other in zip(mine, yours, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


def test_the_bottom_sees_the_top():
    posterior = two_maps((2, 2), partial(SimVQ, num_codes=6), partial(SimVQ, num_codes=500), (2, 4))
    f = torch.randn(20, 3, 2, 2)
    before = posterior(f).codebook.split(posterior(f).indices)
    posterior.top.frozen.mul_(-3)
    after = posterior(f).codebook.split(posterior(f).indices)
    assert not torch.equal(before["bottom"], after["bottom"])
    posterior.up.requires_grad_(False)
    for parameter in posterior.up.parameters():
        parameter.zero_()
    blind = posterior(f).indices
    posterior.top.frozen.mul_(-3)
    maps = posterior(f).codebook.split
    assert torch.equal(maps(posterior(f).indices)["bottom"], maps(blind)["bottom"])


def test_priors_over_two_maps_with_other_numbers_of_codes():
    """Uniform: K_top^-1 K_bottom^-2. A causal one: probabilities sum up to one over the grids that are there, and p(top) has no bottom."""
    posterior = two_maps((2,), partial(FSQ, levels=[5]), partial(FSQ, levels=[3]), (1, 1))
    grids = torch.tensor(list(product(range(5), range(3), range(3))))
    p = UniformCodes(posterior=posterior)()
    torch.testing.assert_close(p.log_prob(posterior.decode_indices(grids)), torch.full((45,), -math.log(45)))
    drawn = p.indices.sample((9000,))
    for place, limit in enumerate((5, 3, 3)):
        shares = torch.bincount(drawn[:, place], minlength=limit) / 9000
        torch.testing.assert_close(shares, torch.full((limit,), 1 / limit), atol=5 * (0.25 / 9000) ** 0.5, rtol=0)
    prior = AutoregressiveCodes(posterior=posterior, channels=8, num_layers=2, network=partial(CausalTransformer, num_heads=2))
    for parameter in prior.parameters():
        parameter.data.mul_(1.7).add_(0.1 * torch.randn_like(parameter))
    with torch.no_grad():
        log_p = prior().indices.log_prob(grids)
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-6)
        assert log_p.std() > 0.1
        top = prior.logits(grids)[:, :, 0].softmax(1)
        torch.testing.assert_close(top, top[:1].expand_as(top))
        torch.testing.assert_close(top[0], log_p.exp().reshape(5, 9).sum(1))
    prior().indices.log_prob(grids).mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in prior.parameters())
    assert (prior().indices.sample((500,)) < torch.tensor([5, 3, 3])).all()


# --- use of codes


def test_perplexity_and_usage():
    """K of an even use; exp H of any other; of several depths, with the mean of H."""
    assert perplexity(torch.tensor([[2, 2, 2]])) == pytest.approx(3)
    assert perplexity(torch.tensor([[0, 5, 0]])) == pytest.approx(1)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert perplexity(torch.tensor([[3, 0, 1, 0]])) == pytest.approx(math.exp(entropy))
    assert perplexity(torch.tensor([[3, 1], [1, 1]])) == pytest.approx(math.exp((entropy + math.log(2)) / 2))
    assert usage(torch.tensor([[3, 0, 1, 0]])) == 0.5
    assert usage(torch.tensor([[3, 0], [1, 1]])) == 0.75


@pytest.mark.parametrize("depth", [None, 3])
@pytest.mark.parametrize("batch_size", [7, 100])
def test_usage_is_that_of_the_whole_split(depth, batch_size):
    """By brute force over all examples, whatever the batches."""
    table = partial(VectorQuantized, num_codes=50)
    quantizer = table if depth is None else partial(Residual, quantizer=table, depth=depth)
    model = VAE(quantizer(as_given, (2, 3), (2, 3)), Bernoulli(partial(MLP, hidden=()), (2, 3), (2, 3)), partial(UniformCodes)).eval()
    x = torch.rand(100, 2, 3)
    with counting_codes(model) as codes:
        for batch in x.split(batch_size):
            model(batch)
    model(10 + x)  # outside, nothing is counted
    indices = model.posterior(x).indices.reshape(-1, depth or 1)
    used = [set(column.tolist()) for column in indices.T]
    assert codes.report()["code_usage"] == pytest.approx(sum(map(len, used)) / (50 * len(used)))
    entropies = []
    for column in indices.T:
        shares = [column.tolist().count(k) / len(column) for k in set(column.tolist())]
        entropies.append(-sum(share * math.log(share) for share in shares))
    assert codes.report()["code_perplexity"] == pytest.approx(math.exp(sum(entropies) / len(entropies)))
    assert torch.equal(codes.counts[""], counts_of(model.posterior(x))[""])


def test_codes_of_several_latent_variables_are_counted_apart():
    """Of other numbers of codes; one that is not quantised has no name."""
    q, p = of_vectors(FSQ, 2, levels=[2, 3])(torch.randn(50, 2)), of_vectors(LookupFree, 4)(torch.randn(50, 4))
    gaussian = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(50, 2), 1.0), 1)
    counts = CodeCounts()
    latents = tuple(Latent(z=each.sample((1,)), q=each, p=each) for each in (q, gaussian, p))
    counts.add(nn.Identity(), (), Draw(x=torch.ones(50, 1), y=None, p_x=gaussian, latents=latents))
    assert torch.equal(counts.counts["latent_0"], counts_of(q)[""])
    assert torch.equal(counts.counts["latent_2"], counts_of(p)[""])
    assert counts.report()["code_usage"] == pytest.approx((len(q.indices.unique()) + len(p.indices.unique())) / 22)
    one = CodeCounts()
    one.add(nn.Identity(), (), Draw(x=torch.ones(50, 1), y=None, p_x=gaussian, latents=latents[:2]))
    assert set(one.report()) == {"code_usage", "code_perplexity"}


def test_without_codes_nothing_is_counted():
    assert CodeCounts().report() == {}


# --- the loss, and priors


def test_the_objective_weighs_the_entropy():
    posterior = of_vectors(LookupFree, 3, temperature=0.5)
    x = torch.randn(20, 3)
    q, likelihood = posterior(x), Bernoulli(partial(MLP, hidden=()), (3,), (4,))
    z = q.rsample((1,))
    latent = Latent(z=z, q=q, p=UniformCodes(posterior=posterior)())
    draw = Draw(x=torch.ones(20, 4), y=None, p_x=likelihood(z), latents=(latent,))
    terms, losses = VQ(commitment=0.3, entropy=0.7)(draw, 0), q.losses()
    assert terms["rate"].item() == pytest.approx(3 * math.log(2))
    torch.testing.assert_close(terms["loss"], -terms["elbo"] + 0.3 * losses["commitment"] + 0.7 * losses["entropy"])
    assert "codebook" not in terms


@pytest.mark.parametrize("network", [None, partial(CausalTransformer, num_heads=2)], ids=["masked", "transformer"])
@pytest.mark.parametrize(("z_shape", "depth"), [((2, 3), None), ((2, 2), 2), ((2,), 3)], ids=str)
def test_probabilities_of_indices_sum_to_one(network, z_shape, depth):
    """Over all grids of indices, those of sums too, and a place depends on those before it alone."""
    levels = partial(FSQ, levels=[2, 2])
    quantizer = levels if depth is None else partial(Residual, quantizer=levels, depth=depth)
    posterior = quantizer(partial(MLP, hidden=()), (1,), z_shape)
    options = {} if network is None else {"network": network}
    prior = AutoregressiveCodes(posterior=posterior, channels=8, num_layers=2, **options)
    for parameter in prior.parameters():
        parameter.data.mul_(1.7).add_(0.1 * torch.randn_like(parameter))
    p = prior()
    shape = p.indices.event_shape
    grids = torch.tensor(list(product(range(4), repeat=shape.numel()))).reshape(-1, *shape)
    with torch.no_grad():
        log_p = p.indices.log_prob(grids)
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)
        assert log_p.std() > 0.1
        torch.testing.assert_close(p.log_prob(posterior.decode_indices(grids)), log_p)
        flat = grids.flatten(1)
        logits = prior.logits(grids).flatten(2)
        for i in range(shape.numel()):
            for prefix in product(range(4), repeat=i):
                same = logits[(flat[:, :i] == torch.tensor(prefix, dtype=torch.long)).all(1), :, i]
                torch.testing.assert_close(same, same[:1].expand_as(same))


def test_transformer_looks_back_only():
    network = CausalTransformer((2, 2, 3), (3, 2, 3), channels=8, num_layers=2, num_heads=2)
    reached = jacobian(lambda x: network(x[None])[0], torch.randn(2, 2, 3)).reshape(3, 6, 2, 6).abs().sum((0, 2)) > 0
    assert torch.equal(reached, torch.ones(6, 6).tril(-1).bool())


def test_quantized_by_hand():
    """What a quantiser may say of itself: indices, a gradient and losses that it knows better."""
    table = Table(torch.randn(5, 2))
    indices = torch.tensor([[0, 1, 2], [4, 4, 4]])
    z_e = torch.randn(2, 2, 3)
    q = Quantized(z_e, table, 2, indices=indices, losses=lambda: {"commitment": torch.ones(())})
    assert torch.equal(q.mode.movedim(1, -1), table.codes[indices])
    assert q.losses()["commitment"] == 1
