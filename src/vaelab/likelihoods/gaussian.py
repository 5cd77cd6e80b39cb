"""Real-valued pixels, with four answers to the question what sigma is.

Mean squared error is this likelihood in disguise: for a fixed sigma, -log p(x | z) = ||x - mu||^2 / (2 sigma^2) + D log sigma
+ (D / 2) log 2 pi. So the weight between a mean squared error and a KL is a choice of sigma, or of beta.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from vaelab.conditional import Conditional, NetworkFactory
from vaelab.distributions import OptimalSigmaNormal, constant, running_sigma, soft_limit


class Gaussian(Conditional):
    """p(x | z) = N(x; mu(z), sigma^2 I).

    Args:
        network, in_shape, event_shape, num_classes: see `Conditional`.
        sigma: a number; "learned", one parameter shared by all pixels; "per_pixel", an output of the network for every pixel
            (Kingma & Welling, 2014, appendix C.2); or "optimal", the maximum-likelihood sigma of each batch, weighted as the objective
            weighs its samples, remembered for evaluation as a running average (sigma-VAE; Rybkin et al., 2021, https://arxiv.org/abs/2006.13202).
        min_sigma: a floor for a sigma that is not fixed: a pixel that never changes would otherwise drive the density to infinity.

    Raises:
        ValueError: if sigma is neither positive nor one of the three words.
    """

    log_sigma: Tensor
    variance: Tensor

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        num_classes: int = 0,
        sigma: float | str = 1.0,
        min_sigma: float = 1e-3,
        momentum: float = 0.01,
    ) -> None:
        if sigma not in ("learned", "per_pixel", "optimal") and not (isinstance(sigma, float | int) and 0 < sigma < float("inf")):
            raise ValueError(f"sigma={sigma} must be a positive number, learned, per_pixel or optimal")
        self.num_params = 2 if sigma == "per_pixel" else 1
        super().__init__(network, in_shape, event_shape, num_classes)
        self.sigma, self.min_sigma, self.momentum = sigma, min_sigma, momentum
        if sigma == "learned":
            self.log_sigma = nn.Parameter(torch.zeros(()))
        if sigma == "optimal":
            self.register_buffer("variance", torch.tensor(-1.0))

    def distribution(self, loc: Float[Tensor, "..."], log_sigma: Float[Tensor, "..."] | None = None) -> Independent:
        if self.sigma == "optimal" and self.training:
            normal: Normal = OptimalSigmaNormal(loc, self.variance, self.min_sigma, self.momentum)
        else:
            normal = Normal(loc, self._scale(loc, log_sigma), validate_args=False)
        return Independent(normal, self.event_ndim, validate_args=False)

    def _scale(self, loc: Tensor, log_sigma: Tensor | None) -> Tensor:
        if self.sigma == "per_pixel" and log_sigma is not None:
            return soft_limit(log_sigma).exp() + self.min_sigma  # a sum, not a clamp: the gradient survives at the floor
        if self.sigma == "learned":
            return soft_limit(self.log_sigma).exp() + self.min_sigma
        if self.sigma == "optimal":
            return running_sigma(self.variance, self.min_sigma)
        return constant(self.sigma, loc)
