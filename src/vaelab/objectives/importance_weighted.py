"""Bounds of K importance weights w_k = p(x, z_k) / q(z_k | x), with z_k ~ q(z | x), and gradients for them.

Importance Weighted Autoencoders (Burda et al., 2016, https://arxiv.org/abs/1509.00519): L_K = E log (1/K) sum_k w_k lies between
the ELBO (K = 1) and log p(x), and does not fall with K. As K grows, the signal of its gradient for the posterior drowns in noise
(Rainforth et al., 2018, https://arxiv.org/abs/1802.04537); the other classes are the answers.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.checks import check_whole
from vaelab.distributions import detach, log_mean_exp
from vaelab.draw import Draw
from vaelab.objectives.base import Objective


def with_terms(draw: Draw, loss: Float[Tensor, ""], bound: Float[Tensor, ""]) -> dict[str, Tensor]:
    """The loss, the bound that was trained, and the ELBO and its parts of the same samples."""
    elbo, distortion = draw.log_w.detach().mean(), -draw.log_px.detach().mean()
    return {"loss": loss, "bound": bound.detach(), "elbo": elbo, "distortion": distortion, "rate": -elbo - distortion}


def log_ratio(draw: Draw) -> Float[Tensor, "k b"]:
    """log p(z) - log q(z | x): log w without log p(x | z)."""
    return torch.stack([latent.log_p - latent.log_q for latent in draw.latents]).sum(0).detach()


class ImportanceWeighted(Objective):
    """A bound of importance weights; L_K = log (1/K) sum_k w_k unless it says otherwise. Validation has the same number of samples."""

    not_a_bound: str | None = None

    def bound(self, draw: Draw) -> Float[Tensor, "b"]:
        """The bound on log p(x) of each example."""
        return log_mean_exp(draw.log_w)

    def sample_weights(self, draw: Draw, log_px: Float[Tensor, "k b"]) -> Float[Tensor, "k b"]:
        return (log_px + log_ratio(draw)).softmax(0)


class IWAE(ImportanceWeighted):
    """loss = -log (1/K) sum_k w_k, w_k = p(x, z_k) / q(z_k | x) (Burda et al., 2016, https://arxiv.org/abs/1509.00519).

    >>> objective = IWAE(num_samples=5)
    >>> terms = objective(objective.draw(model, x), step=0)
    >>> bool(terms["bound"] >= terms["elbo"])
    True
    """

    def __init__(self, num_samples: int = 5) -> None:
        super().__init__()
        check_whole(1, num_samples=num_samples)
        self.num_samples = num_samples

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        bound = self.bound(draw).mean()
        return with_terms(draw, -bound, bound)


class MIWAE(ImportanceWeighted):
    """loss = -(1/M) sum_m log (1/K) sum_k w_mk: the mean of M bounds of K samples each (Rainforth et al., 2018).

    M K samples are drawn. M = 1 is the IWAE, K = 1 the ELBO.
    """

    def __init__(self, num_bounds: int = 8, samples_per_bound: int = 8) -> None:
        super().__init__()
        check_whole(1, num_bounds=num_bounds, samples_per_bound=samples_per_bound)
        self.num_bounds, self.num_samples = num_bounds, num_bounds * samples_per_bound

    def sample_weights(self, draw: Draw, log_px: Float[Tensor, "k b"]) -> Float[Tensor, "k b"]:
        return self.grouped(log_px + log_ratio(draw)).softmax(1).flatten(0, 1)

    def grouped(self, log_w: Float[Tensor, "n b"]) -> Float[Tensor, "m k b"]:
        """log w, M groups of K."""
        if len(log_w) % self.num_bounds:
            raise ValueError(
                f"{len(log_w)} samples do not make {self.num_bounds} bounds: give all parts of a sum a num_samples that"
                f" {self.num_bounds} divides"
            )
        return log_w.unflatten(0, (self.num_bounds, -1))

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        bound = self.bound(draw).mean()
        return with_terms(draw, -bound, bound)

    def bound(self, draw: Draw) -> Float[Tensor, "b"]:
        return log_mean_exp(self.grouped(draw.log_w), dim=1).mean(0)


class PIWAE(MIWAE):
    """The generative parameters follow the gradient of L_MK, the posterior's that of the mean of M bounds L_K (Rainforth et al., 2018).

    Both gradients are weighted sums of those of log w, with the self-normalised weights over all samples and over each group. The
    loss is -L_MK in value.

    Raises:
        ValueError: for several latent variables.
    """

    def sample_weights(self, draw: Draw, log_px: Float[Tensor, "k b"]) -> Float[Tensor, "k b"]:
        return (log_px + log_ratio(draw)).softmax(0)

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        bound = self.bound(draw).mean()
        of_all = draw.log_w.detach().softmax(0) / draw.log_w.shape[1]
        of_groups = self.grouped(draw.log_w).detach().softmax(1).flatten(0, 1) / draw.log_w.numel() * (len(draw.log_w) / self.num_bounds)
        latent = draw.latent
        log_joint = draw.log_px + latent.log_p
        surrogate = (of_all * log_joint).sum() - (of_groups * latent.log_q).sum()
        if latent.z.requires_grad and log_joint.requires_grad:
            # at z, where the way to the posterior's parameters begins, the weights of the groups replace those of all samples
            (gradient,) = torch.autograd.grad(((of_groups - of_all) * log_joint).sum(), latent.z, retain_graph=True)
            surrogate = surrogate + (gradient * latent.z).sum()
        return with_terms(draw, -(surrogate + (bound - surrogate).detach()), bound)

    def bound(self, draw: Draw) -> Float[Tensor, "b"]:
        return log_mean_exp(draw.log_w)


class CIWAE(ImportanceWeighted):
    """loss = -(beta ELBO + (1 - beta) L_K) (Rainforth et al., 2018)."""

    def __init__(self, beta: float = 0.05, num_samples: int = 64) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ValueError(f"beta={beta} mixes two bounds: it must lie in [0, 1]")
        check_whole(1, num_samples=num_samples)
        self.beta, self.num_samples = beta, num_samples

    def sample_weights(self, draw: Draw, log_px: Float[Tensor, "k b"]) -> Float[Tensor, "k b"]:
        return self.beta / len(log_px) + (1 - self.beta) * (log_px + log_ratio(draw)).softmax(0)

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        bound = self.bound(draw).mean()
        return with_terms(draw, -bound, bound)

    def bound(self, draw: Draw) -> Float[Tensor, "b"]:
        return self.beta * draw.log_w.mean(0) + (1 - self.beta) * log_mean_exp(draw.log_w)


class STL(ImportanceWeighted):
    """-L_K without the score of q: log q(z | x) depends on z alone (Roeder et al., 2017, https://arxiv.org/abs/1703.09194).

    For K = 1 the gradient is unbiased, and has no variance where q is the exact posterior. For K > 1 it is biased.

    Raises:
        ValueError: for a posterior without a density at any z (a flow), or several latent variables.
    """

    def __init__(self, num_samples: int = 1) -> None:
        super().__init__()
        check_whole(1, num_samples=num_samples)
        self.num_samples = num_samples

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        bound = log_mean_exp(path_log_w(draw)).mean()
        return with_terms(draw, -bound, bound)


class DReG(ImportanceWeighted):
    """-L_K, with the doubly reparameterised gradient (Tucker et al., 2019, https://arxiv.org/abs/1810.04152).

    For the posterior it is sum_k v_k^2 (d log w_k / d z_k) (d z_k / d phi) with v = w / sum w: unbiased as that of the IWAE, and with a
    variance that does not drown its signal. The generative parameters follow the IWAE's own.

    Raises:
        ValueError: as `STL`.
    """

    def __init__(self, num_samples: int = 5) -> None:
        super().__init__()
        check_whole(1, num_samples=num_samples)
        self.num_samples = num_samples

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        log_w, z = path_log_w(draw), draw.latent.z
        bound, v = log_mean_exp(log_w).mean(), log_w.detach().softmax(0)
        surrogate = (v * log_w).sum(0).mean()
        if z.requires_grad and surrogate.requires_grad:
            # z has received v_k times the gradient of log w_k and is to have v_k^2: a hook on z would also scale what other objectives send
            (gradient,) = torch.autograd.grad(surrogate, z, retain_graph=True)
            surrogate = surrogate + ((v - 1).reshape(*v.shape, *[1] * (z.ndim - v.ndim)) * gradient * z).sum()
        return with_terms(draw, -(surrogate + (bound - surrogate).detach()), bound)


def path_log_w(draw: Draw) -> Float[Tensor, "k b"]:
    """log w, with q's parameters held constant."""
    latent = draw.latent
    return draw.log_px + latent.log_p - detach(latent.q).log_prob(latent.z)


class Renyi(ImportanceWeighted):
    """loss = -L_alpha, L_alpha = log((1/K) sum_k w_k^(1 - alpha)) / (1 - alpha) (Li & Turner, 2016, https://arxiv.org/abs/1602.02311).

    alpha = 0 is the IWAE bound, alpha -> 1 the ELBO; with alpha < 0 it is no lower bound.

    Raises:
        ValueError: if alpha is 1.
    """

    def __init__(self, alpha: float = 0.5, num_samples: int = 50) -> None:
        super().__init__()
        if alpha == 1.0:
            raise ValueError("objective.alpha=1 is the ELBO: set objective=elbo")
        check_whole(1, num_samples=num_samples)
        self.alpha, self.num_samples = alpha, num_samples
        self.not_a_bound = f"alpha={alpha:g} gives no lower bound" if alpha < 0 else None

    def sample_weights(self, draw: Draw, log_px: Float[Tensor, "k b"]) -> Float[Tensor, "k b"]:
        return ((1 - self.alpha) * (log_px + log_ratio(draw))).softmax(0)

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        bound = self.bound(draw).mean()
        return with_terms(draw, -bound, bound)

    def bound(self, draw: Draw) -> Float[Tensor, "b"]:
        return log_mean_exp((1 - self.alpha) * draw.log_w) / (1 - self.alpha)


class VIMCO(ImportanceWeighted):
    """-L_K for discrete latent variables (Mnih & Rezende, 2016, https://arxiv.org/abs/1602.06725).

    The score of each sample is weighted with how much better the bound is for it: L_K minus the bound with w_k replaced by the geometric
    mean of the others.

    Raises:
        ValueError: if K < 2, or the samples are reparameterised: there would be two gradients for one.
    """

    reparameterised = False

    def __init__(self, num_samples: int = 10) -> None:
        super().__init__()
        check_whole(2, num_samples=num_samples)
        self.num_samples = num_samples

    def settle(self, draw: Draw) -> None:
        check_constant(draw)
        super().settle(draw)

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        check_constant(draw)
        log_w, log_q = draw.log_w, torch.stack([latent.log_q for latent in draw.latents]).sum(0)
        bound = self.bound(draw)
        with torch.no_grad():
            advantage = bound - leave_one_out(log_w)
        surrogate = (bound + (advantage * log_q).sum(0)).mean()
        return with_terms(draw, -(surrogate + (bound.mean() - surrogate).detach()), bound.mean())


def leave_one_out(log_w: Float[Tensor, "k b"]) -> Float[Tensor, "k b"]:
    """The bound with w_k replaced by the geometric mean of the others, for each k."""
    size = len(log_w)
    others = (log_w.sum(0) - log_w) / (size - 1)
    replaced = torch.where(torch.eye(size, dtype=torch.bool, device=log_w.device)[:, :, None], others[:, None], log_w)
    return replaced.logsumexp(1) - math.log(size)


def check_constant(draw: Draw) -> None:
    """Raise if samples of z have a gradient of their own: with a score function there would be two.

    Raises:
        ValueError: if they have.
    """
    if any(latent.z.requires_grad for latent in draw.latents):
        raise ValueError("VIMCO is for posteriors without reparameterised samples: set posterior=categorical, or objective=iwae")
