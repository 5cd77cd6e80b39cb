"""A prior for a model that is trained already: the second stage of a two-stage model.

With a mixture of Gaussians this is ex-post density estimation (Ghosh et al., 2020, https://arxiv.org/abs/1903.12436), with a flow or a
second VAE's prior the second stage of Dai & Wipf (2019, https://arxiv.org/abs/1903.05789), with an autoregressive network over codes the
prior of the VQ-VAE (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937).
"""

from jaxtyping import Shaped
from torch import Tensor

from vaelab.checks import check_whole
from vaelab.draw import Draw
from vaelab.models import Model, SemiSupervisedVAE
from vaelab.objectives.base import Objective


class PriorFit(Objective):
    """loss = -E_q[log p(z)], the cross-entropy of the aggregate posterior and the prior; all but the prior is frozen.

    The same as maximising the ELBO over the prior alone.

    Args:
        num_samples: of z for each example.

    Raises:
        ValueError: if the prior has no parameters, or there are two.
    """

    not_a_bound = None  # but for a constant

    def __init__(self, num_samples: int = 1) -> None:
        super().__init__()
        check_whole(1, num_samples=num_samples)
        self.num_samples = num_samples

    def draw(self, model: Model, x: Tensor, y: Shaped[Tensor, "b ..."] | None = None) -> Draw:
        if isinstance(model, SemiSupervisedVAE):
            raise ValueError("objective=prior_fit is not for semi-supervised models, which have p(y) and p(z): set model=vae")
        self.freeze(model)
        return super().draw(model, x, y)

    def freeze(self, model: Model) -> None:
        """Leaves the prior alone to be trained; batch-norm, a running sigma and a codebook stay what they are, too."""
        for name, part in model.named_children():
            part.requires_grad_(name == "prior")
            part.train(model.training and name == "prior")
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ValueError("objective=prior_fit has nothing to fit: this prior has no parameters. Set prior=flow or prior=mixture")

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        top = draw.latents[0]
        cross_entropy, elbo, distortion = -top.log_p.mean(), draw.log_w.detach().mean(), -draw.log_px.detach().mean()
        return {
            "loss": cross_entropy,
            "cross_entropy": cross_entropy.detach(),
            "elbo": elbo,
            "distortion": distortion,
            "rate": -elbo - distortion,
        }
