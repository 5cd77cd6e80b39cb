"""Every prior: a distribution over z_shape. A new prior is one new line below."""

import math
from functools import partial

import pytest
import torch

from vaelab import flows, priors
from vaelab.priors import StandardNormal

PRIORS = {
    "standard_normal": StandardNormal,
    "standard_laplace": priors.StandardLaplace,
    "mixture": partial(priors.Mixture, num_components=3),
    "flow": partial(priors.Flow, flow=partial(flows.autoregressive_density, hidden=(16,))),
    "autoregressive_mixture": partial(priors.AutoregressiveMixture, channels=8, num_layers=1, num_components=3),
    "coupling_flow": partial(priors.Flow, flow=partial(flows.coupling_density, hidden=(16,))),
}
DISCRETE = {
    priors.UniformCategorical,
    priors.RelaxedCategorical,
    priors.UniformCodes,
    priors.AutoregressiveCodes,
}  # test_discrete_latents.py
NOT_OF_Z_SHAPE_ALONE = {priors.ConditionalGaussian, priors.VampPrior, priors.UniformSphere}  # mathematics/test_prior_densities.py
Z_SHAPES = [(4,), (2, 3, 3), ()]

every_prior = pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS.keys())
every_shape = pytest.mark.parametrize("z_shape", Z_SHAPES, ids=str)


def test_every_prior_is_tested():
    tested = {prior.func if isinstance(prior, partial) else prior for prior in PRIORS.values()} | DISCRETE | NOT_OF_Z_SHAPE_ALONE
    assert tested == {getattr(priors, name) for name in priors.__all__}


@every_shape
@every_prior
def test_sample_and_log_prob(prior, z_shape):
    p = prior(z_shape=z_shape)()
    assert (p.batch_shape, p.event_shape) == ((), z_shape)
    assert p.sample().shape == z_shape
    z = p.sample((3, 5))
    assert z.shape == (3, 5, *z_shape)
    assert z.isfinite().all()
    assert p.log_prob(z).shape == (3, 5)
    assert p.log_prob(z).isfinite().all()


@every_shape
@every_prior
def test_accepts_labels(prior, z_shape):
    """A prior that does not look at y gives one distribution for all of them; one that does has the batch shape of y."""
    y = torch.tensor([0, 1, 2, 0, 1])
    p = prior(z_shape=z_shape)(y)
    assert p.event_shape == z_shape
    assert p.batch_shape in ((), (5,))
    assert p.log_prob(torch.randn(3, 5, *z_shape)).shape == (3, 5)


@every_shape
@every_prior
def test_expands_over_a_batch(prior, z_shape):
    p = prior(z_shape=z_shape)()
    many = p.expand((5,))
    assert (many.batch_shape, many.event_shape) == ((5,), z_shape)
    z = many.sample((3,))
    assert z.shape == (3, 5, *z_shape)
    assert len(z.flatten(0, 1).unique(dim=0)) == 15
    torch.testing.assert_close(many.log_prob(z), p.log_prob(z))


@every_shape
@every_prior
def test_moves_with_the_module(prior, z_shape):
    p = prior(z_shape=z_shape).double()()
    assert p.sample().dtype == p.log_prob(p.sample()).dtype == torch.float64
    assert prior(z_shape=z_shape).to("meta")().log_prob(torch.zeros(z_shape, device="meta")).device.type == "meta"


@every_shape
@every_prior
def test_state_dict_holds_what_is_learned_and_no_more(prior, z_shape):
    module = prior(z_shape=z_shape)
    assert set(module.state_dict()) == {name for name, _ in module.named_parameters()}
    other = prior(z_shape=z_shape)
    other.load_state_dict(module.state_dict())
    z = torch.randn(5, *z_shape)
    assert torch.equal(module().log_prob(z), other().log_prob(z))


@every_prior
def test_integrates_to_one(prior, double):
    z = torch.linspace(-30, 30, 60_001)
    density = prior(z_shape=(1,))().log_prob(z[:, None]).exp()
    simpson = (density[:-2:2] + 4 * density[1:-1:2] + density[2::2]).sum() * 1e-3 / 3  # exact at a kink at 0, where two panels meet
    assert simpson.item() == pytest.approx(1, abs=1e-8)


@every_prior
def test_samples_agree_with_log_prob(prior, double):
    """The mean of log p over samples is the integral of p log p."""
    p = prior(z_shape=(1,))()
    z = torch.linspace(-30, 30, 60_001)
    log_p = p.log_prob(z[:, None])
    exact = torch.trapezoid(log_p.exp() * log_p, z)
    drawn = p.log_prob(p.sample((20_000,)))
    assert (drawn.mean() - exact).abs() < 4 * drawn.std() / math.sqrt(20_000)


@every_prior
def test_density_has_a_gradient_in_z(prior):
    z = torch.randn(5, 4, requires_grad=True)
    prior(z_shape=(4,))().log_prob(z).sum().backward()
    assert z.grad.all()
