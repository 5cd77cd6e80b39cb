"""What networks make of their input: logarithms of counts, and standardised values; and that counts can be learned from."""

from functools import partial

import pytest
import torch
from torch.distributions import Gamma
from torch.distributions import Poisson as Counts

from vaelab.likelihoods import NegativeBinomial
from vaelab.models import VAE
from vaelab.networks import MLP, ConvEncoder, ResNetEncoder
from vaelab.networks.inputs import Log1p, Standardize
from vaelab.objectives import ELBO
from vaelab.posteriors import Gaussian
from vaelab.priors import StandardNormal


def test_log1p():
    x = torch.tensor([0.0, 1.0, 999.0, -3.0])
    torch.testing.assert_close(Log1p()(x), torch.tensor([0.0, 2.0, 1000.0, -4.0]).abs().clamp(min=1).log() * x.sign())


def test_standardize_is_by_the_first_training_batch_and_no_other():
    """Mean 0 and standard deviation 1, value by value; the same map afterwards, in evaluation and in a copy."""
    module, x = Standardize((3, 2)), 50 + 7 * torch.randn(64, 3, 2)
    x[:, 0, 0] = 5.0  # which tells nothing of its scale
    assert torch.equal(module.eval()(x), x)
    out = module.train()(x)
    torch.testing.assert_close(out.mean(0), torch.zeros(3, 2), rtol=0, atol=1e-5)
    expected = torch.ones(3, 2)
    expected[0, 0] = 0
    torch.testing.assert_close(out.std(0), expected)
    assert torch.equal(module(10 * x)[1:], ((10 * x - module.mean) / module.sd)[1:])
    assert torch.equal(module.eval()(x), out)
    other = Standardize((3, 2))
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.train()(x), out)


def test_networks_have_no_further_state_unless_they_standardize():
    """So that checkpoints from before can be read."""
    for network in (partial(MLP, (1, 8, 8), (4,)), partial(ConvEncoder, (1, 8, 8), (4,)), partial(ResNetEncoder, (1, 8, 8), (4,))):
        assert network().state_dict().keys() == network(input="log1p").state_dict().keys()
        assert network(input="standardize").state_dict().keys() - network().state_dict().keys() == {
            "input.mean",
            "input.sd",
            "input.is_known",
        }
        with pytest.raises(ValueError, match="input=sqrt is unknown: choose none, log1p or standardize"):
            network(input="sqrt")


def test_two_hundred_genes_with_counts_to_a_thousand_train():
    """Two programmes of expression, with dispersion: the loss of every step is finite, and what is scored are the counts themselves.

    It learns: minus its bound is less than half of minus the log-likelihood of independent Poisson counts with the means of the data.
    """
    torch.manual_seed(0)
    programmes = 1 + 400 * torch.rand(2, 200) ** 4
    rate = programmes[torch.randint(2, (512,))] * Gamma(torch.tensor(2.0), torch.tensor(2.0)).sample((512, 1))
    x = Counts(rate).sample()
    assert x.max() > 1000
    encoder, decoder = partial(MLP, hidden=(64,), input="log1p"), partial(MLP, hidden=(64,))
    model = VAE(Gaussian(encoder, (200,), (2,)), NegativeBinomial(decoder, (2,), (200,)), StandardNormal((2,)))
    draw = model(x)
    torch.testing.assert_close(draw.log_px, draw.p_x.log_prob(x))
    optimizer, objective, losses = torch.optim.Adam(model.parameters(), 1e-2), ELBO(), []
    for step in range(150):
        batch = x[torch.randint(512, (128,))]
        loss = objective(objective.draw(model, batch), step)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(map(torch.isfinite, map(torch.tensor, losses)))
    independent = -Counts(x.mean(0).clamp(min=0.1)).log_prob(x).sum(1).mean().item()
    assert sum(losses[-10:]) / 10 < independent / 2
