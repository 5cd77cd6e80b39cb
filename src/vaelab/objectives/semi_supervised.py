"""The objective of the semi-supervised model M2 (Kingma et al., 2014, https://arxiv.org/abs/1406.5298, eq. 6-9)."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import one_hot

from vaelab.collectives import all_gather
from vaelab.divergences import kl
from vaelab.draw import Draw
from vaelab.models import Model, SemiSupervisedVAE
from vaelab.objectives.base import Objective, check_codes_trained, check_kl, check_reparameterised


class M2(Objective):
    """loss = mean of L(x, y) - alpha log q(y | x) where y was observed, and of U(x) where not (y = -1).

    With L(x, y) = D + R_z - log p(y), minus the ELBO of log p(x, y), U(x) = sum_y q(y | x) (L(x, y) + log q(y | x)) is minus that of
    log p(x): the sum over y is exact.

    Args:
        alpha: weight of each label's cross-entropy. The paper's is 0.1 N / N_l, for N examples of which N_l have a label.
        kl: of z, as in `ELBO`.

    Raises:
        ValueError: if the model does not enumerate labels, its z is not reparameterised, or y is not given or no class.
    """

    reparameterised = False  # y is summed over

    def __init__(self, alpha: float = 1.0, kl: str = "analytic") -> None:
        super().__init__()
        check_kl(kl)
        self.alpha, self.kl = alpha, kl

    @property
    def not_a_bound(self) -> str | None:
        return f"labels weigh alpha={self.alpha:g}" if self.alpha else None

    def draw(self, model: Model, x: Tensor, y: Shaped[Tensor, "b ..."] | None = None) -> Draw:
        if not isinstance(model, SemiSupervisedVAE):
            raise ValueError("objective=m2 sums over the labels of a semi-supervised model: set model=m2 num_classes=<how many>")
        draw = model.enumerate(x, y)
        check_reparameterised(draw.latents[1:])
        check_codes_trained(draw.latents)
        self.settle(draw)
        return draw

    def sample_weights(self, draw: Draw, log_px: Float[Tensor, "c b"]) -> Float[Tensor, "c b"]:
        """1 for the label that was observed, q(y | x) for each where none was."""
        q = draw.latents[0].log_q.detach().exp()
        assert draw.y is not None
        observed = one_hot(draw.y.clamp(min=0).long(), len(q)).T.to(q)
        return observed.where(draw.y >= 0, q)

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        label, z = draw.latents
        if draw.y is None or draw.y.ndim != 1:
            raise ValueError("objective=m2 needs one label y for each example, -1 where it was not observed")
        classes = len(draw.log_px)
        if draw.y.device.type == "cpu" and bool((draw.y >= classes).any()):  # a GPU would have to wait
            raise ValueError(
                f"num_classes={classes}, but the data have a label y={int(draw.y.max())}: set num_classes to how many there are"
            )
        bound = draw.log_px - kl(z, self.kl) + label.log_p  # (C, B): the ELBO of log p(x, y), for each y
        q = label.log_q.exp()
        unlabelled = (q * (bound - label.log_q)).sum(0)
        observed, y = draw.y >= 0, draw.y.clamp(min=0).long()[None]
        labelled = bound.gather(0, y)[0]
        cross_entropy = -label.log_q.gather(0, y)[0] * observed
        elbo = unlabelled.detach().mean()
        distortion = -(q * draw.log_px).detach().sum(0).mean()
        correct = (label.log_q.argmax(0) == draw.y) & observed
        right, surprise, count = all_gather(torch.stack([correct.to(elbo), cross_entropy.detach(), observed.to(elbo)], 1)).sum(0)
        return {
            "loss": (self.alpha * cross_entropy - torch.where(observed, labelled, unlabelled)).mean(),
            "elbo": elbo,
            "distortion": distortion,
            "rate": -elbo - distortion,
            "cross_entropy": surprise / count,  # not a number where the batch (of all processes) has no label
            "accuracy": right / count,
        }
