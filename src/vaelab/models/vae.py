"""Auto-Encoding Variational Bayes (Kingma & Welling, 2014, https://arxiv.org/abs/1312.6114)."""

from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelab.distributions import centre, code_of
from vaelab.draw import Draw, Latent, shown, split_missing
from vaelab.models.base import Choose, Labels, Model


class VAE(Model):
    """p(x, z) = p(x | z) p(z), with q(z | x) for the posterior. Everything may also be conditioned on a label y.

    >>> model.sample(8).shape, model.reconstruct(x).shape
    (torch.Size([8, 9]), torch.Size([5, 9]))
    >>> model.log_likelihood(x, num_samples=10).shape
    torch.Size([5])

    Args:
        posterior: module (x, y) -> q(z | x).
        likelihood: module (z, y) -> p(x | z).
        prior: module (y) -> p(z), or a partial that makes one from `posterior` (a VampPrior is made of q).
        num_classes: 0, or the number of classes of a conditional VAE (Sohn et al., 2015); y reaches the parts only then.
        missing: whether NaN in x is a missing value: the posterior sees zero in its place, and the likelihood does not score it
            (Mattei & Frellsen, 2019, https://arxiv.org/abs/1812.02633).
        missingness: module of p(s | x), where which values are missing depends on them; None or {}: they do not. See
            `vaelab.models.missingness`.
    """

    def __init__(
        self,
        posterior: nn.Module,
        likelihood: nn.Module,
        prior: nn.Module | partial,
        num_classes: int = 0,
        missing: bool = False,
        missingness: nn.Module | Mapping | None = None,
    ) -> None:
        super().__init__()
        if missingness and not missing:
            raise ValueError("missingness is a model of which values are missing: set missing=true, or missingness=ignorable")
        self.missingness = missingness if isinstance(missingness, nn.Module) else None
        self.posterior, self.likelihood, self.num_classes, self.missing = posterior, likelihood, num_classes, missing
        self.prior = prior(posterior=posterior) if isinstance(prior, partial) else prior

    def forward(self, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None, num_samples: int = 1) -> Draw:
        """K = num_samples samples of z for each of B examples, and everything they are scored with."""
        q, given_y = self.encode(x, y), self._given(y)
        x, observed = split_missing(x) if self.missing else (x, None)
        p = self.prior(given_y)
        if p.event_shape != q.event_shape:
            raise ValueError(f"the prior is over z of shape {tuple(p.event_shape)}, but the posterior over {tuple(q.event_shape)}")
        latent = Latent.sample(q, p, num_samples)
        p_x = self.likelihood(code_of(q, latent.z), given_y)
        return Draw(x=x, y=y, p_x=p_x, latents=(latent,), observed=observed, missingness=self.missingness, units=self.units)

    def encode(self, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None) -> Distribution:
        """q(z | x), batch shape (B,)."""
        return self.posterior(shown(self.posterior, x) if self.missing else x, self._given(y))

    def decode(self, z: Float[Tensor, "..."], y: Shaped[Tensor, "b ..."] | None = None) -> Distribution:
        """p(x | z), batch shape the leading dimensions of z."""
        return self.likelihood(z, self._given(y))

    @torch.no_grad()
    def sample(self, num_samples: int, y: Labels = None, mean: bool = False) -> Float[Tensor, "b ..."]:
        """x ~ p(x | z) with z ~ p(z), (num_samples, *x_shape); with `mean`, E[x | z] instead, which is what papers show.

        Raises:
            ValueError: if the model is conditional and y does not hold num_samples labels.
        """
        given_y = self._given(self.labels(num_samples, y))
        if given_y is not None and len(given_y) != num_samples:
            raise ValueError(f"num_samples={num_samples} samples need as many labels, but y has {len(given_y)}")
        p = self.prior(given_y)
        z = p.sample() if p.batch_shape else p.sample((num_samples,))
        p_x = self.likelihood(code_of(p, z), given_y)
        return p_x.mean if mean else p_x.sample()

    @torch.no_grad()
    def reconstruct(self, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None) -> Float[Tensor, "b ..."]:
        """E[x | z] at the centre of q(z | x), (B, *x_shape)."""
        return self.decode(centre(self.encode(x, y)), y).mean

    def descend(self, choose: Choose, x: Float[Tensor, "b ..."] | None = None) -> Float[Tensor, "..."]:
        """The input of p(x | z), where z is choose(p(z), q(z | x)); q is None without x. The model must not be conditional on y."""
        return choose(self.prior(None), None if x is None else self.encode(x))

    def _given(self, y: Tensor | None) -> Tensor | None:
        return y if self.num_classes else None
