"""The maximum mean discrepancy of q(z) and p(z) (Gretton et al., 2012), as InfoVAE and the Wasserstein autoencoder use it.

MMD^2 = E k(z, z') - 2 E k(z, u) + E k(u, u'), with z, z' ~ q(z) and u, u' ~ p(z), is 0 where the two are equal. With it,

    InfoVAE: ELBO with beta = 1 - alpha, plus (alpha + lambda - 1) MMD^2   (Zhao et al., 2019, https://arxiv.org/abs/1706.02262)
    WAE:     ELBO with beta = 0, plus lambda MMD^2                          (Tolstikhin et al., 2018, https://arxiv.org/abs/1711.01558)
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.checks import check_choice, check_positive
from vaelab.collectives import all_gather
from vaelab.distributions import code_of
from vaelab.draw import Draw, check_same_space
from vaelab.objectives.base import Objective

KERNELS = ("rbf", "imq")


def kernel(a: Float[Tensor, "m d"], b: Float[Tensor, "n d"], name: str, scales: Sequence[float]) -> Float[Tensor, "m n"]:
    """sum_s k_s(a, b) with C = 2 D s: rbf exp(-|a - b|^2 / C), or inverse multiquadratic C / (C + |a - b|^2).

    2 D is the mean squared distance of two draws from N(0, I).
    """
    squares = (a[:, None] - b).square().sum(2)
    total = torch.zeros_like(squares)
    for scale in scales:
        c = 2 * a.shape[1] * scale
        total = total + (torch.exp(-squares / c) if name == "rbf" else c / (c + squares))
    return total


def mmd(z: Float[Tensor, "n d"], u: Float[Tensor, "n d"], name: str, scales: Sequence[float]) -> Float[Tensor, ""]:
    """The unbiased estimate of MMD^2 (Gretton et al., 2012, lemma 6), which may be negative.

    Each of several processes compares its own rows with all, and the mean of what they find is the estimate for all rows.
    """
    all_z, all_u = all_gather(z), all_gather(u)
    within = kernel(z, all_z, name, scales) + kernel(u, all_u, name, scales)
    itself = 2 * len(scales) * len(z)  # each kernel is 1 between a row and itself
    return (within.sum() - itself) / (len(z) * (len(all_z) - 1)) - 2 * kernel(z, all_u, name, scales).mean()


class MMD(Objective):
    """loss = MMD^2(q(z), p(z)) of the minibatch (of the minibatches of all processes together), to be added to a bound with `Sum`.

    Args:
        kernel: "rbf" or "imq", which has heavier tails and so still pulls on codes that are far out.
        scales: of the kernels that are summed, relative to the spread of N(0, I).

    Raises:
        ValueError: if the kernel is unknown, a scale is not positive, there is one sample only, or q and p are over different spaces.
    """

    def __init__(self, kernel: str = "imq", scales: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)) -> None:
        super().__init__()
        check_choice(KERNELS, kernel=kernel)
        check_positive(scales=scales)
        self.kernel, self.scales = kernel, tuple(scales)

    @property
    def not_a_bound(self) -> str:
        return "it is a penalty alone"

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        latent = draw.latent
        count = latent.z.shape[:1] if latent.p.batch_shape else latent.z.shape[:2]  # a prior given y has a batch shape already
        prior = latent.p.rsample(count) if latent.p.has_rsample else latent.p.sample(count)
        if latent.z.shape[1] < 2:
            raise ValueError("the MMD compares samples with each other: set data.batch_size to at least 2")
        check_same_space(latent.q, latent.p)
        # one estimate for each k: two samples of the same example are not independent draws from q(z)
        pairs = zip(code_of(latent.q, latent.z).flatten(2), code_of(latent.p, prior).flatten(2), strict=True)
        discrepancy = torch.stack([mmd(z, u, self.kernel, self.scales) for z, u in pairs]).mean()
        return {"loss": discrepancy, "mmd": discrepancy.detach()}
