"""DIP-VAE (Kumar et al., 2018, https://arxiv.org/abs/1711.00848): the covariance of the aggregate posterior is pressed towards I."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vaelab.checks import check_choice
from vaelab.collectives import all_gather, all_mean
from vaelab.divergences import is_product
from vaelab.draw import Draw
from vaelab.objectives.base import Objective


class DIP(Objective):
    """loss = lambda_od sum_{i != j} C_ij^2 + lambda_d sum_i (C_ii - 1)^2, to be added to a bound with `Sum`.

    C is that of the minibatch, of the minibatches of all processes together if there are several.

    Args:
        covariance: "i": C = Cov_x(mu(x)), of the posterior means; "ii": C = Cov_x(mu(x)) + E_x diag sigma(x)^2, which is that of z.
        lambda_od: weight of the entries off the diagonal.
        lambda_d: weight of the diagonal.

    Raises:
        ValueError: if q has no mean, or for "ii" no variances, in closed form, or there is one example only.
    """

    def __init__(self, covariance: str = "i", lambda_od: float = 10.0, lambda_d: float = 100.0) -> None:
        super().__init__()
        check_choice(("i", "ii"), covariance=covariance)
        self.covariance, self.lambda_od, self.lambda_d = covariance, lambda_od, lambda_d

    @property
    def not_a_bound(self) -> str:
        return "it is a penalty alone"

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        q = draw.latent.q
        if not is_product(q):
            raise ValueError(f"DIP needs a posterior whose dimensions are independent, not {type(q).__name__}: use posterior=gaussian")
        if len(q.mean) < 2:
            raise ValueError("DIP needs the covariance of a batch: set data.batch_size to at least 2")
        deviation = self.covariance_of(q) - torch.eye(q.event_shape.numel(), dtype=q.mean.dtype, device=q.mean.device)
        diagonal = deviation.diagonal().square().sum()
        off_diagonal = deviation.square().sum() - diagonal
        return {
            "loss": self.lambda_od * off_diagonal + self.lambda_d * diagonal,
            "dip_off_diagonal": off_diagonal.detach(),
            "dip_diagonal": diagonal.detach(),
        }

    def covariance_of(self, q: Distribution) -> Float[Tensor, "d d"]:
        """C, over the batch of all processes."""
        with torch.autocast(q.mean.device.type, enabled=False):  # half precision has three digits
            mean = all_gather(q.mean.flatten(1))
            centred = mean - mean.mean(0)
            covariance = centred.T @ centred / len(mean)  # torch.cov makes a GPU wait
        return covariance + all_mean(q.variance.flatten(1).mean(0)).diag() if self.covariance == "ii" else covariance
