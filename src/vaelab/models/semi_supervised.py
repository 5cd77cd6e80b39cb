"""Semi-supervised learning with deep generative models (Kingma et al., 2014, https://arxiv.org/abs/1406.5298), their model M2."""

from functools import partial

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from vaelab.distributions import OneHot, centre, code_of, rsample_and_log_prob
from vaelab.draw import Draw, Latent
from vaelab.models.base import Labels, Model


class SemiSupervisedVAE(Model):
    """p(x, y, z) = p(x | y, z) p(y) p(z), with q(y | x) q(z | x, y); y is uniform, and a latent variable wherever it was not observed.

    Labels are never looked at by `forward`, so that all evaluation is of log p(x); `enumerate` is what the objective m2 is made of.

    Args:
        classifier: module x -> q(y | x), one-hot over num_classes.
        posterior: module (x, y) -> q(z | x, y).
        likelihood: module (z, y) -> p(x | z, y).
        prior: module (y) -> p(z).
        num_classes: that y may take.

    Raises:
        ValueError: if there are fewer than two classes, or the prior is made of the posterior, which needs a label here.
    """

    class_logits: Tensor
    recognises = True

    def __init__(
        self, classifier: nn.Module, posterior: nn.Module, likelihood: nn.Module, prior: nn.Module | partial, num_classes: int
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"a semi-supervised model needs the number of classes: num_classes={num_classes} must be at least 2")
        if isinstance(prior, partial):
            raise ValueError("this prior is made of q(z | x), but the semi-supervised model has q(z | x, y): set prior=standard_normal")
        if getattr(prior, "num_classes", 0):
            raise ValueError("z and y are independent under this model's prior, but the one chosen depends on y: set prior=standard_normal")
        self.classifier, self.posterior, self.likelihood, self.prior = classifier, posterior, likelihood, prior
        self.num_classes = num_classes
        self.register_buffer("class_logits", torch.zeros(num_classes), persistent=False)

    def forward(self, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None, num_samples: int = 1) -> Draw:
        """K samples of (y, z) from q(y | x) q(z | x, y) for each of B examples; the labels given are not used."""
        q_y = self.classifier(x)
        code, log_q_y = rsample_and_log_prob(q_y, num_samples)
        return self._scored(x, y, q_y, code, log_q_y)

    def enumerate(self, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b"] | None = None) -> Draw:
        """Every class in place of a sample of y, and one sample of z for each: K = num_classes, and sample k has y = k."""
        q_y = self.classifier(x)
        code = torch.eye(self.num_classes, dtype=x.dtype, device=x.device)[:, None].expand(-1, len(x), -1)
        return self._scored(x, y, q_y, code, q_y.log_prob(code))

    def _scored(self, x: Tensor, y: Tensor | None, q_y: Distribution, code: Float[Tensor, "k b c"], log_q_y: Float[Tensor, "k b"]) -> Draw:
        label = code.argmax(-1)
        q_z = self.posterior(x.expand(len(label), *x.shape), label)
        (z,), (log_q_z,) = rsample_and_log_prob(q_z, 1)
        latents = (
            Latent(z=code, q=q_y, p=Independent(OneHot(self.class_logits, validate_args=False), 0, validate_args=False), log_q=log_q_y),
            Latent(z=z, q=q_z, p=self.prior(None), log_q=log_q_z),
        )
        return Draw(x=x, y=y, p_x=self.likelihood(code_of(q_z, z), label), latents=latents, units=self.units)

    def classify(self, x: Float[Tensor, "b ..."]) -> Int[Tensor, "b"]:
        """argmax_y q(y | x)."""
        return centre(self.classifier(x)).argmax(-1)

    def encode(self, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None) -> Distribution:
        """q(z | x, y), batch shape (B,); where y was not observed, with the class that x is recognised as."""
        return self.posterior(x, self._completed(x, y))

    def decode(self, z: Float[Tensor, "..."], y: Shaped[Tensor, "b ..."] | None = None) -> Distribution:
        """p(x | z, y), batch shape the leading dimensions of z; without y, of classes 0, 1, ... in turn."""
        if y is None:
            y = torch.arange(z.shape[0], device=z.device) % self.num_classes
        return self.likelihood(z, y.clamp(min=0))

    @torch.no_grad()
    def sample(self, num_samples: int, y: Labels = None, mean: bool = False) -> Float[Tensor, "b ..."]:
        """x ~ p(x | y, z) with z ~ p(z) and the y given, or classes 0, 1, ... in turn; with `mean`, E[x | y, z]."""
        p = self.prior(None)
        p_x = self.decode(code_of(p, p.sample((num_samples,))), self.labels(num_samples, y))
        return p_x.mean if mean else p_x.sample()

    @torch.no_grad()
    def reconstruct(self, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None) -> Float[Tensor, "b ..."]:
        """E[x | y, z] at the centre of q(z | x, y)."""
        y = self._completed(x, y)
        return self.decode(centre(self.posterior(x, y)), y).mean

    def _completed(self, x: Tensor, y: Tensor | None) -> Tensor:
        recognised = self.classify(x)
        return recognised if y is None else torch.where(y < 0, recognised, y)
