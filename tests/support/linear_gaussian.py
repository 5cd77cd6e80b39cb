"""A VAE of which everything is known: z ~ N(0, I), x = W z + b + sigma eps (Tipping & Bishop, 1999, probabilistic PCA)."""

from dataclasses import dataclass
from functools import partial
from math import prod, sqrt

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from vaelab import VAE, Draw, Latent, likelihoods, posteriors, priors
from vaelab.networks import MLP


@dataclass
class LinearGaussian:
    """The model in closed form. q(z | x) = p(z | x) can be diagonal only if W^T W is."""

    weight: Tensor  # W, (D, d)
    bias: Tensor  # b, (D,)
    sigma: float

    def sample(self, num: int) -> Tensor:
        dims, latent_dims = self.weight.shape
        return torch.randn(num, latent_dims) @ self.weight.T + self.bias + self.sigma * torch.randn(num, dims)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), x = N(b, W W^T + sigma^2 I)."""
        covariance = self.weight @ self.weight.T + self.sigma**2 * torch.eye(len(self.bias))
        return MultivariateNormal(self.bias, covariance).log_prob(x.flatten(1))

    def posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z | x) = N(S W^T (x - b) / sigma^2, S) with S = (I + W^T W / sigma^2)^-1."""
        gain, covariance = self._gain(), self._covariance()
        return MultivariateNormal((x.flatten(1) - self.bias) @ gain.T, covariance)

    def vae(self, x_shape: tuple[int, ...], shift: float = 0.0, widen: float = 1.0) -> VAE:
        """Built of vaelab's parts. q has the mean of p(z | x) plus `shift`, and the square roots of its variances times `widen`."""
        latent_dims = self.weight.shape[1]
        vae = VAE(
            posteriors.Gaussian(partial(MLP, hidden=()), x_shape, (latent_dims,)),
            likelihoods.Gaussian(partial(MLP, hidden=()), (latent_dims,), x_shape, sigma=self.sigma),
            priors.StandardNormal((latent_dims,)),
        )
        assert prod(x_shape) == len(self.bias)
        gain, scale = self._gain(), self._covariance().diagonal().sqrt() * widen
        set_affine(vae.likelihood, self.weight, self.bias)
        set_affine(vae.posterior, torch.cat([gain, 0 * gain]), torch.cat([shift - gain @ self.bias, scale.log()]))
        return vae

    def _covariance(self) -> Tensor:
        return torch.linalg.inv(torch.eye(self.weight.shape[1]) + self.weight.T @ self.weight / self.sigma**2)

    def _gain(self) -> Tensor:
        return self._covariance() @ self.weight.T / self.sigma**2


def set_affine(conditional: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Makes a conditional around MLP(hidden=()) the affine map with these numbers."""
    (linear,) = (module for module in conditional.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)


def orthogonal(dims: int = 6, latent_dims: int = 2, sigma: float = 0.5) -> LinearGaussian:
    """W with orthogonal columns, so that p(z | x) is diagonal."""
    columns, _ = torch.linalg.qr(torch.randn(dims, latent_dims))
    return LinearGaussian(columns * torch.linspace(0.5, 1.5, latent_dims), torch.randn(dims), sigma)


def at_sigma_points(model: VAE, x: Tensor) -> Draw:
    """A draw whose samples are mu ± sqrt(d) sigma_j e_j: the mean of a quadratic over them is its mean under q, without any noise.

    All log-densities of a linear-Gaussian model are quadratic in z, so its ELBO comes out exact.
    """
    q = model.encode(x)
    (dims,) = q.event_shape
    directions = sqrt(dims) * torch.cat([torch.eye(dims), -torch.eye(dims)])
    z = q.mean + q.stddev * directions[:, None]
    return Draw(x=x, y=None, p_x=model.decode(z), latents=(Latent(z=z, q=q, p=model.prior(), log_q=q.log_prob(z)),))
