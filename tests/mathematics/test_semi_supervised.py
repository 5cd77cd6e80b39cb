"""The model M2 and its objective, against loops over y and a mixture of Gaussians of which everything is known."""

import math
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from linear_gaussian import LinearGaussian, orthogonal, set_affine
from standard_errors import assert_mean
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, OneHotCategorical, kl_divergence

from vaelab import VAE, Draw, Latent, likelihoods, posteriors, priors
from vaelab.divergences import kl as kl_of
from vaelab.evidence import importance_weighted
from vaelab.metrics import bound
from vaelab.models import SemiSupervisedVAE
from vaelab.networks import MLP
from vaelab.objectives import M2

pytestmark = pytest.mark.usefixtures("double")

C = 3  # classes


@dataclass
class Mixture:
    """y uniform, z ~ N(0, I), x = W z + mu_y + b + sigma eps: p(x, y) = N(x; mu_y + b, W W^T + sigma^2 I) / C."""

    within: LinearGaussian
    means: Tensor  # mu, (C, D)

    def sample(self, num: int) -> tuple[Tensor, Tensor]:
        y = torch.randint(C, (num,))
        return self.within.sample(num) + self.means[y], y

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, y) for every y, (C, B)."""
        return torch.stack([self.within.log_prob(x - mean) for mean in self.means]) - math.log(C)

    def model(self, shift: float = 0.0, confusion: float = 1.0) -> SemiSupervisedVAE:
        """Of vaelab's parts; q(z | x, y) is exact but for a shift of its mean, and q(y | x) but for a factor on its logits."""
        (dims, latent_dims), affine = self.within.weight.shape, partial(MLP, hidden=())
        model = SemiSupervisedVAE(
            posteriors.Categorical(affine, (dims,), (C,)),
            posteriors.Gaussian(affine, (dims,), (latent_dims,), C),
            likelihoods.Gaussian(affine, (latent_dims,), (dims,), C, sigma=self.within.sigma),
            priors.StandardNormal((latent_dims,)),
            C,
        )
        covariance = self.within.posterior(torch.zeros(1, dims)).covariance_matrix[0]
        scale, gain = covariance.diagonal().sqrt(), covariance @ self.within.weight.T / self.within.sigma**2
        set_affine(model.likelihood, torch.cat([self.within.weight, self.means.T], dim=1), self.within.bias)
        of_mean = torch.cat([gain, -gain @ self.means.T], dim=1)
        set_affine(model.posterior, torch.cat([of_mean, 0 * of_mean]), torch.cat([shift - gain @ self.within.bias, scale.log()]))
        precision = torch.linalg.inv(self.within.weight @ self.within.weight.T + self.within.sigma**2 * torch.eye(dims))
        slopes = confusion * self.means @ precision
        squares = confusion * (self.means @ precision * self.means).sum(1) / 2
        set_affine(model.classifier, slopes, -slopes @ self.within.bias - squares)
        return model


def mixture() -> Mixture:
    return Mixture(orthogonal(), 0.7 * torch.randn(C, 6))


# The model.


def test_the_exact_posteriors_make_every_weight_the_evidence():
    """p(x, y, z) / (p(y | x) p(z | x, y)) = p(x); with y enumerated, the part of z gives log p(x, y). The labels given change nothing."""
    theory = mixture()
    model, (x, y) = theory.model(), theory.sample(7)
    log_joint = theory.log_joint(x)
    torch.manual_seed(1)
    draw = model(x, y, num_samples=4)
    torch.testing.assert_close(draw.log_w, log_joint.logsumexp(0).expand(4, 7), rtol=0, atol=1e-10)
    torch.manual_seed(1)
    assert torch.equal(model(x, None, num_samples=4).log_w, draw.log_w)
    every = model.enumerate(x, y)
    label, z = every.latents
    torch.testing.assert_close(label.log_q, log_joint.log_softmax(0), rtol=0, atol=1e-10)
    assert torch.equal(label.z.argmax(-1), torch.arange(C)[:, None].expand(C, 7))
    torch.testing.assert_close(label.log_p, torch.full((C, 7), -math.log(C)))
    torch.testing.assert_close(every.log_px + z.log_p - z.log_q + label.log_p, log_joint, rtol=0, atol=1e-10)


def test_importance_weighting_reaches_the_mixture_density():
    """E[w] = p(x) = mean_y N(x; mu_y, S), for posteriors that are wrong; and so log p(x) with many samples."""
    theory = mixture()
    model, (x, y) = theory.model(shift=0.4, confusion=0.5), theory.sample(3)
    log_p = theory.log_joint(x).logsumexp(0)
    with torch.no_grad():
        weights = (model(x, y, num_samples=100_000).log_w - log_p).exp()
    assert_mean(weights, 1.0)
    error = weights.std(0) / math.sqrt(len(weights))
    found = importance_weighted(model, x, y, num_samples=100_000, chunk_size=20_000).log_likelihood
    assert ((found - log_p).abs() < 5 * error).all()
    assert (error < 0.01).all()


def test_sampled_labels_have_the_probabilities_of_the_classifier():
    theory = mixture()
    model, (x, _) = theory.model(confusion=0.5), theory.sample(3)
    draw = model(x, num_samples=50_000)
    label = draw.latents[0]
    assert_mean(label.z, model.classifier(x).mean.detach())
    torch.testing.assert_close(label.log_q, model.classifier(x).log_prob(label.z))
    torch.testing.assert_close(draw.p_x.mean[0], model.likelihood(draw.latents[1].z[0], label.z[0].argmax(-1)).mean)


def test_the_rate_of_the_label_is_exact():
    """KL(q(y | x) || p(y)) = log C - H(q): a closed form, so that evaluation needs no luck with sampled labels."""
    theory = mixture()
    model, (x, _) = theory.model(confusion=0.5), theory.sample(5)
    draw = model(x, num_samples=2)
    q = model.classifier(x).mean
    expected = math.log(C) + (q * q.log()).sum(1)
    torch.testing.assert_close(kl_of(draw.latents[0]), expected.expand(2, 5), rtol=0, atol=1e-12)
    conditional = kl_of(draw.latents[1]).mean(0)
    torch.testing.assert_close(bound(draw)["rate"], expected + conditional, rtol=0, atol=1e-12)


def test_recognising_encoding_and_decoding():
    """classify is Bayes' rule; encode takes the given y, and the recognised one where there is none; decode and sample follow y."""
    theory = mixture()
    model, (x, y) = theory.model(), theory.sample(200)
    recognised = theory.log_joint(x).argmax(0)
    assert torch.equal(model.classify(x), recognised)
    assert (recognised == y).double().mean() > 0.6
    some = y.where(torch.arange(200) % 2 == 0, -1)
    completed = torch.where(some < 0, recognised, some)
    expected = torch.stack([theory.within.posterior((x - theory.means[label])[i : i + 1]).mean[0] for i, label in enumerate(completed)])
    torch.testing.assert_close(model.encode(x, some).mean, expected)
    torch.testing.assert_close(model.encode(x).mean, model.encode(x, recognised).mean)
    rebuilt = expected @ theory.within.weight.T + theory.within.bias + theory.means[completed]
    torch.testing.assert_close(model.reconstruct(x, some), rebuilt)
    z = torch.randn(4, 2)
    torch.testing.assert_close(model.decode(z).mean, model.decode(z, torch.tensor([0, 1, 2, 0])).mean)
    drawn = model.sample(20_000, y=torch.full((20_000,), 2))
    assert_mean(drawn, theory.within.bias + theory.means[2])


def test_a_semi_supervised_model_refuses():
    """One class, and a prior that is made of q(z | x)."""
    model = mixture().model()
    parts = (model.classifier, model.posterior, model.likelihood)
    with pytest.raises(ValueError, match=r"num_classes=1 must be at least 2"):
        SemiSupervisedVAE(*parts, model.prior, 1)
    with pytest.raises(ValueError, match=r"this prior is made of q\(z \| x\).*: set prior=standard_normal"):
        SemiSupervisedVAE(*parts, partial(priors.StandardNormal), C)


# The objective.

LABELS = {"labelled": [0, 2, 1, 1, 0], "unlabelled": [-1] * 5, "mixed": [-1, 2, -1, 1, 0]}


def brute_force(draw: Draw, y: list[int], alpha: float, kl: str) -> float:
    """Kingma et al. (2014), eq. 6 to 9, with torch's distributions and a loop over examples and over y."""
    label, latent = draw.latents
    total, cross_entropies = 0.0, []
    for b, seen in enumerate(y):
        q_y = label.q.mean[b].tolist()

        def minus_bound(c: int, b: int = b) -> float:
            """L(x, y) of eq. 6."""
            q = Normal(latent.q.mean[c, b], latent.q.stddev[c, b])
            log_px = Normal(draw.p_x.mean[c, b], draw.p_x.stddev[c, b]).log_prob(draw.x[b]).sum()
            sampled = q.log_prob(latent.z[c, b]) - Normal(0.0, 1.0).log_prob(latent.z[c, b])
            rate = (kl_divergence(q, Normal(0.0, 1.0)) if kl == "analytic" else sampled).sum()
            return (-log_px + rate - math.log(1 / C)).item()

        if seen >= 0:
            total += minus_bound(seen)
            cross_entropies.append(-math.log(q_y[seen]))
        else:
            total += sum(q_y[c] * (minus_bound(c) + math.log(q_y[c])) for c in range(C))
    return (total + alpha * sum(cross_entropies)) / len(y)


@pytest.mark.parametrize("kl", ["analytic", "k1"])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 5.0])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
def test_the_loss_is_the_brute_force_sum_over_y(labels, alpha, kl):
    theory = mixture()
    model, (x, _) = theory.model(shift=0.4, confusion=0.5), theory.sample(5)
    objective = M2(alpha, kl)
    draw = objective.draw(model, x, torch.tensor(labels))
    assert objective(draw, 0)["loss"].item() == pytest.approx(brute_force(draw, labels, alpha, kl), abs=1e-10)


def test_with_the_exact_posteriors_it_is_the_log_likelihood():
    """-log p(x, y) where y was observed and -log p(x) where not, for any sample of z; the elbo that is reported is of log p(x) for all."""
    theory = mixture()
    model, (x, y) = theory.model(), theory.sample(6)
    log_joint = theory.log_joint(x)
    for observed in (torch.ones(6), torch.zeros(6), torch.arange(6) % 2):
        labels = y.where(observed == 1, -1)
        terms = M2(alpha=0.0, kl="k1")(model.enumerate(x, labels), 0)
        expected = torch.where(observed == 1, log_joint.gather(0, y[None])[0], log_joint.logsumexp(0))
        torch.testing.assert_close(terms["loss"], -expected.mean(), rtol=0, atol=1e-10)
        torch.testing.assert_close(terms["elbo"], log_joint.logsumexp(0).mean(), rtol=0, atol=1e-10)
        torch.testing.assert_close(terms["elbo"], -terms["distortion"] - terms["rate"], rtol=0, atol=1e-10)
        classes = log_joint.log_softmax(0)
        seen = observed == 1
        if seen.any():
            torch.testing.assert_close(terms["cross_entropy"], -classes.gather(0, y[None])[0][seen].mean(), rtol=0, atol=1e-10)
            assert terms["accuracy"].item() == pytest.approx((classes.argmax(0) == y)[seen].double().mean().item())


def test_the_classifier_has_the_enumerated_gradient():
    """With b_y the bound of log p(x, y): dU / d logit_y = -q_y (b_y - log q_y - sum_c q_c (b_c - log q_c)) where y is unknown.

    Where it is known, alpha (q_y - 1[y]). No sampling of y, so no noise.
    """
    logits, bounds = torch.randn(4, C, requires_grad=True), torch.randn(C, 4)
    q = OneHotCategorical(logits=logits)
    code = torch.eye(C)[:, None].expand(C, 4, C)
    flat = Independent(Normal(torch.zeros(C, 4, 1), 1.0), 1)
    z = torch.zeros(C, 4, 1)
    label = Latent(z=code, q=q, p=OneHotCategorical(logits=torch.zeros(C)), log_q=q.log_prob(code))
    p_x = Independent(Normal(torch.zeros(C, 4, 1), torch.exp(-bounds - 0.5 * math.log(2 * math.pi))[..., None]), 1)
    prior = Independent(Normal(torch.zeros(1), 1.0), 1)
    y = torch.tensor([-1, 2, -1, 0])
    draw = Draw(x=torch.zeros(4, 1), y=y, p_x=p_x, latents=(label, Latent(z=z, q=flat, p=prior, log_q=flat.log_prob(z))))
    (found,) = torch.autograd.grad(M2(alpha=0.3)(draw, 0)["loss"], logits)
    probabilities = logits.detach().softmax(1)
    for b, seen in enumerate(y.tolist()):
        p = probabilities[b].tolist()
        values = [bounds[c, b].item() - math.log(C) - math.log(p[c]) for c in range(C)]
        mean = sum(p[c] * values[c] for c in range(C))
        unknown = [-p[c] * (values[c] - mean) / 4 for c in range(C)]
        known = [0.3 * (p[c] - (c == seen)) / 4 for c in range(C)]
        assert found[b].tolist() == pytest.approx(unknown if seen < 0 else known, abs=1e-10)


def test_unknown_labels_train_all_parts_and_known_ones_all_but_the_classifier():
    """With alpha = 0 nothing else tells the classifier which class it was."""
    theory = mixture()
    model, (x, y) = theory.model(shift=0.4, confusion=0.5), theory.sample(6)
    for labels, learns in ((torch.full((6,), -1), True), (y, False)):
        model.zero_grad()
        M2(alpha=0.0)(model.enumerate(x, labels), 0)["loss"].backward()
        assert all(parameter.grad.any() for part in (model.posterior, model.likelihood) for parameter in part.parameters())
        assert any(parameter.grad.any() for parameter in model.classifier.parameters()) == learns


def test_m2_refuses():
    """A model without labels to enumerate, and no labels at all."""
    theory = mixture()
    model, (x, _) = theory.model(), theory.sample(6)
    plain: VAE = theory.within.vae((6,))
    with pytest.raises(ValueError, match=r"sums over the labels of a semi-supervised model: set model=m2 num_classes="):
        M2().draw(plain, x)
    for y in (None, torch.zeros(6, 2, dtype=torch.long)):
        with pytest.raises(ValueError, match=r"needs one label y for each example, -1 where it was not observed"):
            M2()(Draw(x=x, y=y, p_x=model.enumerate(x).p_x, latents=model.enumerate(x).latents), 0)


def test_the_theory_is_right():
    """p(x | y) of the mixture is that of torch."""
    theory = mixture()
    x, _ = theory.sample(4)
    covariance = theory.within.weight @ theory.within.weight.T + theory.within.sigma**2 * torch.eye(6)
    for label, mean in enumerate(theory.means):
        expected = MultivariateNormal(theory.within.bias + mean, covariance).log_prob(x) - math.log(C)
        torch.testing.assert_close(theory.log_joint(x)[label], expected)
