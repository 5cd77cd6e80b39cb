"""Every flow as a posterior: what `test_conditionals` asks, of a density that is known along its own samples only."""

import math
from copy import deepcopy
from functools import partial
from typing import NamedTuple

import pytest
import torch

from vaelab import flows, likelihoods, models, objectives, posteriors, priors
from vaelab.conditional import NetworkFactory
from vaelab.distributions import centre, detach, rsample_and_log_prob
from vaelab.networks import MLP, ConvEncoder
from vaelab.training.speed import accelerate

FLOWS = {
    "planar": flows.Planar,
    **{kind: partial(flows.Sylvester, kind=kind, num_vectors=2) for kind in ("orthogonal", "householder", "triangular")},
    "iaf": partial(flows.Autoregressive, hidden=(16,), num_context=7),
    "spline": partial(flows.Spline, hidden=(16,), num_context=7),
}
DENSITIES = {"autoregressive_density", "coupling_density"}  # of priors: see test_priors.py


class Given(NamedTuple):
    """What a distribution is over, and given what."""

    in_shape: tuple[int, ...]
    event_shape: tuple[int, ...]
    network: NetworkFactory


GIVENS = {
    "image_to_vector": Given((2, 6, 5), (4,), partial(ConvEncoder, channels=(8, 8))),
    "vector_to_number": Given((3,), (1,), partial(MLP, hidden=(16,))),
    "image_to_image": Given((2, 6, 5), (3, 2, 2), partial(MLP, hidden=(16,))),
}
BATCHES = [(), (5,), (3, 5), (2, 3, 5)]

every_flow = pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS.keys())
givens = pytest.mark.parametrize("given", GIVENS.values(), ids=GIVENS.keys())


def build(flow, given, num_classes=0):
    return posteriors.Flow(given.network, given.in_shape, given.event_shape, flow, num_classes)


def test_every_flow_is_tested():
    tested = {getattr(flow, "func", flow).__name__ for flow in FLOWS.values()}
    assert tested | DENSITIES == set(flows.__all__)


class Transposed(torch.nn.ConvTranspose2d):
    """A network of one transposed convolution."""

    def __init__(self, in_shape, out_shape):
        super().__init__(in_shape[0], out_shape[0] * out_shape[1], kernel_size=1)
        self.out_shape = out_shape

    def forward(self, x):
        return super().forward(x).unflatten(1, self.out_shape[:2])


class AlongTime(torch.nn.Sequential):
    """A network that ends in a convolution of one axis, behind a linear layer."""

    def __init__(self, in_shape, out_shape):
        linear = torch.nn.Linear(in_shape[1], in_shape[1])
        conv = torch.nn.Conv1d(in_shape[0], out_shape[0] * out_shape[1], kernel_size=1)
        super().__init__(linear, torch.nn.ReLU(), conv, torch.nn.Unflatten(1, out_shape[:2]))


OTHERS = {"transposed": Given((2, 3, 3), (4, 3, 3), Transposed), "along_time": Given((2, 6), (4, 6), AlongTime)}


@pytest.mark.parametrize("given", [*GIVENS.values(), *OTHERS.values()], ids=[*GIVENS, *OTHERS])
@every_flow
def test_centre_and_scale_start_as_the_network_makes_them_and_the_context_small(flow, given):
    """Outputs of a last layer without bias: mu and log sigma are those of the network alone, the context is a tenth."""
    x = torch.randn(5, *given.in_shape)
    torch.manual_seed(0)
    features = math.prod(given.event_shape)
    num_params = 2 + -(-flow(features=features).num_context // features)
    torch.manual_seed(0)
    flow(features=features)  # draws what it draws inside the posterior
    alone = given.network(in_shape=given.in_shape, out_shape=(num_params, *given.event_shape))
    torch.manual_seed(0)
    inside = build(flow, given).network
    for network in (alone, inside):
        last = [layer for layer in network.modules() if hasattr(layer, "bias") and isinstance(layer.weight, torch.Tensor)][-1]
        torch.nn.init.zeros_(last.bias)
    torch.testing.assert_close(inside(x)[:, :2], alone(x)[:, :2])
    torch.testing.assert_close(inside(x)[:, 2:], 0.1 * alone(x)[:, 2:])


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@givens
@every_flow
def test_batch_and_event(flow, given, batch):
    q = build(flow, given)(torch.randn(*batch, *given.in_shape))
    assert (q.batch_shape, q.event_shape) == (batch, given.event_shape)
    z, log_q = rsample_and_log_prob(q, 6)
    assert (z.shape, log_q.shape) == ((6, *batch, *given.event_shape), (6, *batch))
    assert z.dtype == log_q.dtype == torch.float32
    assert z.isfinite().all()
    assert log_q.isfinite().all()
    assert centre(q).shape == q.sample().shape == q.rsample().shape == (*batch, *given.event_shape)
    assert q.sample((6,)).shape == z.shape
    assert z.requires_grad
    assert q.rsample().requires_grad
    assert not q.sample().requires_grad


@givens
@every_flow
def test_samples_are_those_of_rsample(flow, given):
    q = build(flow, given)(torch.randn(5, *given.in_shape))
    drawn = []
    for draw in (q.sample, q.rsample, lambda shape: q.rsample_and_log_prob(shape)[0]):
        torch.manual_seed(1)
        drawn.append(draw((3,)))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
    assert len(drawn[0].flatten(0, 1).unique(dim=0)) == 15


@givens
@every_flow
def test_gradients_reach_every_parameter(flow, given):
    posterior = build(flow, given)
    z, log_q = rsample_and_log_prob(posterior(torch.randn(16, *given.in_shape)), 3)
    (log_q + z.square().flatten(2).sum(2)).mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in posterior.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in posterior.parameters())


@givens
@every_flow
def test_gradients_reach_what_is_given(flow, given):
    x = torch.randn(16, *given.in_shape, requires_grad=True)
    z, log_q = rsample_and_log_prob(build(flow, given)(x), 3)
    (log_q + z.square().flatten(2).sum(2)).mean().backward()
    assert x.grad.any(0).all()


@givens
@every_flow
def test_samples_score_as_each_sample_alone(flow, given, double):
    posterior, x = build(flow, given), torch.randn(5, *given.in_shape)
    q = posterior(x)
    z0 = q.base.sample((3,))
    z, ladj = q.push(z0)
    for k in range(3):
        for b in range(5):
            torch.testing.assert_close(posterior(x[b]).push(z0[k, b]), (z[k, b], ladj[k, b]), rtol=1e-10, atol=1e-10)


@givens
@every_flow
def test_probabilities_stay_float32_under_bfloat16(flow, given):
    exact = build(flow, given)
    half = deepcopy(exact)
    accelerate(half, bf16=True)
    dtypes = []
    half.network.register_forward_hook(lambda module, args, out: dtypes.append(out.dtype))
    x, drawn = torch.randn(5, *given.in_shape), []
    for posterior in (exact, half):
        torch.manual_seed(1)
        drawn.append(rsample_and_log_prob(posterior(x), 3))
    assert dtypes == [torch.bfloat16]  # or nothing is tested here
    assert drawn[1][0].dtype == drawn[1][1].dtype == torch.float32
    torch.testing.assert_close(drawn[0], drawn[1], rtol=0.02, atol=0.05)  # bfloat16 has 8 bits


@givens
@every_flow
def test_probabilities_stay_float32_under_autocast_from_outside(flow, given):
    """As with trainer.precision=bf16-mixed: the map and its determinant are computed as they are without."""
    posterior = build(flow, given)
    with torch.autocast("cpu", torch.bfloat16):
        q = posterior(torch.randn(5, *given.in_shape))
        z0 = q.base.sample((3,))
        z, ladj = q.push(z0)
        assert q.rsample_and_log_prob((3,))[1].dtype == torch.float32
    assert z.dtype == ladj.dtype == torch.float32
    outside = q.push(z0)
    assert torch.equal(z, outside[0])
    assert torch.equal(ladj, outside[1])


@givens
@every_flow
def test_state_dict_round_trip(flow, given):
    one, other = build(flow, given), build(flow, given)
    assert set(one.state_dict()) == {name for name, _ in one.named_parameters()}
    x = torch.randn(5, *given.in_shape)
    assert not torch.equal(centre(one(x)), centre(other(x)))
    other.load_state_dict(one.state_dict())
    assert torch.equal(centre(one(x)), centre(other(x)))


@givens
@every_flow
def test_label_matters_to_its_own_example_only(flow, given):
    posterior, x = build(flow, given, num_classes=3), torch.randn(4, *given.in_shape)
    one, other = (centre(posterior(x, torch.tensor(y))) for y in ([0, 1, 2, 0], [0, 1, 2, 1]))
    torch.testing.assert_close(one[:3], other[:3], rtol=0, atol=0)
    assert not torch.allclose(one[3], other[3], atol=1e-5)
    with pytest.raises(ValueError, match="num_classes=3, so it needs y"):
        posterior(x)


@every_flow
def test_density_elsewhere_is_refused_in_words(flow):
    """And there is no mean, no mode and no closed form to fall back on."""
    given = GIVENS["image_to_vector"]
    q = build(flow, given)(torch.randn(5, *given.in_shape))
    with pytest.raises(ValueError, match=r"its density along its own samples only.*objective=iwae"):
        q.log_prob(torch.zeros(5, 4))
    with pytest.raises(ValueError, match="no density with detached parameters: use objective=iwae, or posterior=gaussian"):
        detach(q)
    for name in ("mean", "mode", "variance"):
        with pytest.raises(NotImplementedError):
            getattr(q, name)


@every_flow
def test_bounds_of_a_model(flow):
    """ELBO and IWAE ask for no density elsewhere; a KL in closed form there is not."""
    given = GIVENS["image_to_image"]
    likelihood = likelihoods.Bernoulli(partial(MLP, hidden=(16,)), given.event_shape, given.in_shape)
    model = models.VAE(build(flow, given), likelihood, priors.StandardNormal(given.event_shape))
    x = torch.rand(5, *given.in_shape).round()
    draw = model(x, num_samples=3)
    (latent,) = draw.latents
    log_w = draw.log_px + latent.p.log_prob(latent.z) - latent.log_q
    torch.testing.assert_close(objectives.ELBO(kl="k1")(draw, 0)["loss"], -log_w.mean())
    torch.testing.assert_close(objectives.IWAE(num_samples=3)(draw, 0)["loss"], -(log_w.exp().mean(0)).log().mean())
    assert model.reconstruct(x).shape == x.shape
    with pytest.raises(ValueError, match=r"no closed-form KL between FlowDistribution and StandardNormal: set objective\.kl=k1"):
        objectives.ELBO()(draw, 0)
