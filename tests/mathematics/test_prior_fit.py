"""A prior fitted to a frozen model: what it minimises, whom it leaves alone, and the mixture that it finds."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from linear_gaussian import orthogonal, set_affine
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from vaelab import VAE, Latent, likelihoods, posteriors, priors
from vaelab.networks import MLP
from vaelab.objectives import PriorFit

pytestmark = pytest.mark.usefixtures("double")


class LearnedGaussian(nn.Module):
    """N(mu, diag sigma^2), whose best mu and sigma for given z are their mean and standard deviation."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.loc, self.log_scale = nn.Parameter(torch.zeros(dims)), nn.Parameter(torch.zeros(dims))

    def forward(self, y: Tensor | None = None) -> Independent:
        return Independent(Normal(self.loc, self.log_scale.exp(), validate_args=False), 1, validate_args=False)


def trained() -> tuple[VAE, Tensor]:
    """A model with a running sigma, which moves in training mode, and a learned prior; and data."""
    theory = orthogonal()
    model = theory.vae((6,))
    model.likelihood = likelihoods.Gaussian(partial(MLP, hidden=(4,)), (2,), (6,), sigma="optimal")
    model.likelihood.variance.fill_(0.3)
    model.prior = LearnedGaussian(2)
    return model, theory.sample(50)


def test_the_loss_is_the_cross_entropy():
    """-mean log p(z) over samples and examples, and the other terms are those of the ELBO."""
    model, x = trained()
    objective = PriorFit(num_samples=3)
    draw = objective.draw(model, x)
    terms = objective(draw, 0)
    expected = -Normal(0.0, 1.0).log_prob(draw.latent.z).sum(-1).mean()
    assert draw.latent.z.shape == (3, 50, 2)
    torch.testing.assert_close(terms["loss"], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(terms["cross_entropy"], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(terms["elbo"], draw.log_w.mean().detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(terms["elbo"], -terms["distortion"] - terms["rate"], rtol=0, atol=1e-12)


def test_the_prior_alone_is_trained():
    """Its gradient is that of minus the ELBO; every other part is frozen, in evaluation mode, and what it was, again in every epoch."""
    model, x = trained()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(2):
        model.train()
        objective = PriorFit(num_samples=2)
        draw = objective.draw(model, x)
        assert not draw.latent.z.requires_grad
        gradients = torch.autograd.grad(objective(draw, 0)["loss"], list(model.prior.parameters()), retain_graph=True)
        of_elbo = torch.autograd.grad(-draw.log_w.mean(), list(model.prior.parameters()))
        assert all(torch.allclose(one, other, rtol=0, atol=1e-12) for one, other in zip(gradients, of_elbo, strict=True))
        assert all(gradient.any() for gradient in gradients)
        assert {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad} == {"prior"}
        assert (model.prior.training, model.posterior.training, model.likelihood.training) == (True, False, False)
        torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    model.eval()
    objective.draw(model, x)
    assert not model.prior.training


def test_the_best_gaussian_has_the_moments_of_the_samples():
    """There the gradient is zero, and the loss the entropy of that Gaussian: 1/2 log 2 pi e sigma^2 for each dimension."""
    model, x = trained()
    objective = PriorFit(num_samples=3)
    draw = objective.draw(model, x)
    z = draw.latent.z.flatten(0, 1)
    with torch.no_grad():
        model.prior.loc.copy_(z.mean(0))
        model.prior.log_scale.copy_(z.std(0, correction=0).log())
    fixed = replace(draw, latents=(Latent(z=draw.latent.z, q=draw.latent.q, p=model.prior(), log_q=draw.latent.log_q),))
    terms = objective(fixed, 0)
    gradients = torch.autograd.grad(terms["loss"], list(model.prior.parameters()))
    assert all(gradient.abs().max() < 1e-10 for gradient in gradients)
    entropy = (0.5 * (2 * math.pi * math.e * z.var(0, correction=0)).log()).sum()
    torch.testing.assert_close(terms["loss"].detach(), entropy, rtol=0, atol=1e-10)


def test_a_mixture_finds_the_aggregate_posterior():
    """Half of the x are encoded as N(-3, 0.5^2), a fourth each as N(1, .) and N(4, .): the fitted mixture has those weights and moments.

    The cross-entropy falls to the entropy of that mixture, 1/2 log 2 pi e 0.5^2 + H(1/2, 1/4, 1/4) since its components hardly overlap.
    """
    affine = partial(MLP, hidden=())
    model = VAE(posteriors.Gaussian(affine, (1,), (1,)), likelihoods.Gaussian(affine, (1,), (1,)), priors.Mixture((1,), num_components=3))
    set_affine(model.posterior, torch.tensor([[1.0], [0.0]]), torch.tensor([0.0, math.log(0.5)]))
    with torch.no_grad():
        model.prior.loc.copy_(torch.tensor([[-2.0], [0.0], [2.0]]))
    x = torch.tensor([-3.0, -3.0, 1.0, 4.0])[:, None]
    objective = PriorFit(num_samples=2000)
    first = objective(objective.draw(model, x), 0)["loss"].item()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    for step in range(300):
        optimizer.zero_grad()
        terms = objective(objective.draw(model, x), step)
        terms["loss"].backward()
        optimizer.step()
        scheduler.step()
    entropy = 0.5 * math.log(2 * math.pi * math.e) + math.log(0.5) + 0.5 * math.log(2) + 0.5 * math.log(4)
    assert terms["loss"].item() == pytest.approx(entropy, abs=0.05)
    assert first > entropy + 0.5
    assert model.prior.loc.flatten().tolist() == pytest.approx([-3, 1, 4], abs=0.1)
    assert model.prior.log_scale.exp().flatten().tolist() == pytest.approx([0.5, 0.5, 0.5], abs=0.05)
    assert model.prior.logits.softmax(0).tolist() == pytest.approx([0.5, 0.25, 0.25], abs=0.02)


def test_a_prior_without_parameters_is_refused():
    theory = orthogonal()
    with pytest.raises(ValueError, match=r"has nothing to fit: this prior has no parameters. Set prior=flow or prior=mixture"):
        PriorFit().draw(theory.vae((6,)), theory.sample(3))
