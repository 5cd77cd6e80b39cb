"""Several layers of latent variables (Sønderby et al., 2016, https://arxiv.org/abs/1602.02282, and what came of it)."""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vaelab.distributions import centre, soft_limit
from vaelab.draw import Draw, Latent, shown, split_missing
from vaelab.models.base import Choose, Labels, Model
from vaelab.networks.ladder import Ladder


class HierarchicalVAE(Model):
    """p(x, z) = p(x | z) p(z_1 | z_>1) ... p(z_L), with q(z | x) = q(z_L | x) ... q(z_1 | x, z_>1), both sampled from the top down.

    All are diagonal Gaussians but p(z_L) and p(x | z), which are chosen. `Draw.latents` are z_L, ..., z_1; what is called the z of this
    model elsewhere is z_L.

    Args:
        ladder: the networks of the latents.
        likelihood: module (state) -> p(x | z), or a partial that makes one with the ladder's state_shape for its in_shape.
        prior: module (y) -> p(z_L), or a partial that makes one from `posterior` (a VampPrior is made of q(z_L | x)).
        missing: whether NaN in x is a missing value, as for `VAE`.

    Raises:
        ValueError: if the likelihood is conditional on y.
    """

    def __init__(self, ladder: Ladder, likelihood: nn.Module | partial, prior: nn.Module | partial, missing: bool = False) -> None:
        super().__init__()
        self.ladder, self.missing = ladder, missing
        self.likelihood = likelihood(in_shape=ladder.state_shape) if isinstance(likelihood, partial) else likelihood
        self.prior = prior(posterior=TopPosterior(ladder)) if isinstance(prior, partial) else prior
        if getattr(self.likelihood, "num_classes", 0):
            raise ValueError("a hierarchical model is not conditional on y: set num_classes=0, or model=vae")

    def forward(self, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None, num_samples: int = 1) -> Draw:
        """K = num_samples samples of (z_L, ..., z_1) for each of B examples, and everything they are scored with.

        Raises:
            ValueError: if x has another shape than the ladder was built for, or z_L another than the prior.
        """
        latents: list[Latent] = []

        def infer(p: Distribution, q: Distribution | None) -> Tensor:
            assert q is not None
            if p.event_shape != q.event_shape:
                raise ValueError(
                    f"the prior is over z of shape {tuple(p.event_shape)}, but the top of the ladder over {tuple(q.event_shape)}: set"
                    " z_shape (or latent_dim) to that, or the ladder's last z to the other"
                )
            latents.append(Latent(z=q.rsample(), q=q, p=p) if latents else Latent.sample(q, p, num_samples))
            return latents[-1].z

        p_x = self.likelihood(self.descend(infer, x))
        x, observed = split_missing(x) if self.missing else (x, None)
        return Draw(x=x, y=y, p_x=p_x, latents=tuple(latents), observed=observed, units=self.units)

    def encode(self, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None) -> Distribution:
        """q(z_L | x), batch shape (B,)."""
        return top_posterior(self.ladder, self._bottom_up(x))

    def decode(self, z: Float[Tensor, "..."], y: Shaped[Tensor, "b ..."] | None = None) -> Distribution:
        """p(x | z_L, ...), each lower z_i at the centre of p(z_i | z_>i); batch shape the leading dimensions of z_L."""
        return self.likelihood(self._descend(z, lambda rung, h, p: centre(p)))

    @torch.no_grad()
    def sample(self, num_samples: int, y: Labels = None, mean: bool = False) -> Float[Tensor, "b ..."]:
        """x ~ p(x | z) with z ~ p(z), (num_samples, *x_shape); with `mean`, E[x | z] instead, which is what papers show."""
        p_x = self.likelihood(self.descend(lambda p, q: p.sample() if p.batch_shape else p.sample((num_samples,))))
        return p_x.mean if mean else p_x.sample()

    @torch.no_grad()
    def reconstruct(self, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None) -> Float[Tensor, "b ..."]:
        """E[x | z] with each z_i at the centre of q(z_i | x, z_>i), (B, *x_shape)."""
        return self.likelihood(self.descend(lambda p, q: centre(p if q is None else q), x)).mean

    def descend(self, choose: Choose, x: Float[Tensor, "b ..."] | None = None) -> Float[Tensor, "..."]:
        """The input of p(x | z), where z_L, ..., z_1 in their turn are choose(p(z_i | z_>i), q(z_i | x, z_>i)); q is None without x."""
        features = None if x is None else self._bottom_up(x)
        z = choose(self.prior(None), None if features is None else top_posterior(self.ladder, features))

        def below(rung: int, h: Tensor, p: Independent) -> Tensor:
            return choose(p, None if features is None else self._posterior(rung, features, h, p))

        return self._descend(z, below)

    def _bottom_up(self, x: Tensor) -> list[Tensor]:
        if not x.is_floating_point():
            raise ValueError(f"the model takes numbers of type float, but got {x.dtype}: pictures are divided by 255 before")
        if x.shape[1:] != self.ladder.in_shape:
            raise ValueError(f"{type(self.ladder).__name__} was built for inputs of shape {self.ladder.in_shape}, but got {tuple(x.shape)}")
        return self.ladder.bottom_up(shown(self.ladder, x) if self.missing else x)

    def _descend(self, z: Float[Tensor, "..."], choose: Callable[[int, Tensor, Independent], Tensor]) -> Float[Tensor, "..."]:
        """The state that z_L (*batch, *z_shape) leads to, where choose(i, h, p(z_i | z_>i)) is the z_i of rung i, counted from the top."""
        top, *lower = self.ladder.rungs
        batch = z.shape[: z.ndim - len(top.z_shape)]
        n = prod(batch)
        h = top.join(None, z.reshape(n, *top.z_shape))
        for i, rung in enumerate(lower, start=1):
            assert rung.prior is not None
            z = choose(i, h, diagonal_gaussian(rung.prior(h), batch))
            h = rung.join(h, z.reshape(n, *rung.z_shape))
        return h.reshape(*batch, *h.shape[1:])

    def _posterior(self, rung: int, features: list[Tensor], h: Tensor, p: Independent) -> Independent:
        """q(z_i | x, z_>i), of the batch shape of p(z_i | z_>i)."""
        d, network = features[rung], self.ladder.rungs[rung].posterior
        if self.ladder.merge == "precision":
            return precision_weighted(diagonal_gaussian(network(d), (len(d),)), p)
        d = d.expand(*p.batch_shape[:-1], *d.shape).flatten(0, len(p.batch_shape) - 1)  # h has all samples in one dimension
        return diagonal_gaussian(network(torch.cat([d, h], dim=1)), p.batch_shape)


class TopPosterior(nn.Module):
    """q(z_L | x) for a prior that is made of it; the networks stay the model's, and are none of this module's parameters."""

    def __init__(self, ladder: Ladder) -> None:
        super().__init__()
        self._ladder = (ladder,)

    def forward(self, x: Float[Tensor, "b ..."], y: Shaped[Tensor, "b ..."] | None = None) -> Independent:
        return top_posterior(self._ladder[0], self._ladder[0].bottom_up(x))


def top_posterior(ladder: Ladder, features: list[Tensor]) -> Independent:
    """q(z_L | x) = N(mu, diag sigma^2), from the topmost features alone."""
    return diagonal_gaussian(ladder.rungs[0].posterior(features[0]), features[0].shape[:1])


def diagonal_gaussian(params: Float[Tensor, "n 2 ..."], batch: Sequence[int]) -> Independent:
    """N(mu, diag sigma^2) over events of shape params.shape[2:], where the two rows are mu and log sigma."""
    if params.dtype in (torch.bfloat16, torch.float16):
        params = params.float()  # networks may run in half precision; probabilities may not
    loc, log_scale = params.unbind(1)
    event = params.shape[2:]
    normal = Normal(loc.reshape(*batch, *event), soft_limit(log_scale).exp().reshape(*batch, *event), validate_args=False)
    return Independent(normal, len(event), validate_args=False)


def precision_weighted(a: Independent, b: Independent) -> Independent:
    """The normalised product of two diagonal Gaussians, as in the ladder VAE.

    1 / sigma^2 = 1 / sigma_a^2 + 1 / sigma_b^2 and mu = sigma^2 (mu_a / sigma_a^2 + mu_b / sigma_b^2), of logarithms, so that no variance
    overflows.
    """
    log_a, log_b = a.base_dist.scale.log(), b.base_dist.scale.log()
    loc = torch.lerp(b.mean, a.mean, torch.sigmoid(2 * (log_b - log_a)))
    scale = torch.exp(-torch.logaddexp(-2 * log_a, -2 * log_b) / 2)
    return Independent(Normal(loc, scale, validate_args=False), len(b.event_shape), validate_args=False)
