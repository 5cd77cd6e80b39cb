"""Planar flows (Rezende & Mohamed, 2015, https://arxiv.org/abs/1505.05770): z' = z + u tanh(w^T z + b).

log |det| = log |1 + u^T w (1 - tanh^2)|. The map is invertible where w^T u > -1, which is enforced by moving u along w (their
appendix A.1). All parameters are functions of x. An encoder starts with small outputs, and u = 0 is the identity.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from vaelab.checks import check_at_least


class Planar(nn.Module):
    """num_flows planar maps in a row; each asks the encoder for u, w and b.

    Args:
        features: D, of z.
        num_flows: how many.

    Raises:
        ValueError: if there are none.
    """

    def __init__(self, features: int, num_flows: int = 4) -> None:
        super().__init__()
        check_at_least(1, num_flows=num_flows)
        self.features, self.num_flows = features, num_flows
        self.num_context = num_flows * (2 * features + 1)

    def forward(self, z: Float[Tensor, "*k d"], context: Float[Tensor, "*b c"]) -> tuple[Float[Tensor, "*k d"], Float[Tensor, "*k"]]:
        total = z.new_zeros(z.shape[:-1])
        for params in context.chunk(self.num_flows, dim=-1):
            u, w, b = params.split([self.features, self.features, 1], dim=-1)
            u, slope = invertible(u, w)
            h = torch.tanh((w * z).sum(-1, keepdim=True) + b)
            # 1 + (slope - 1) (1 - h^2), as a sum of what is positive: nothing cancels where the slope is almost 0
            total = total + (h.square() + slope * (1 - h.square())).log().squeeze(-1)
            z = z + u * h
        return z, total


def invertible(u: Float[Tensor, "... d"], w: Float[Tensor, "... d"]) -> tuple[Float[Tensor, "... d"], Float[Tensor, "... 1"]]:
    """u moved along w such that 1 + w^T u > 0, and that sum; u near 0 stays there."""
    product = (w * u).sum(-1, keepdim=True)
    slope = softplus(product + math.log(math.e - 1))  # 1 at 0
    return u + (slope - 1 - product) * w / w.square().sum(-1, keepdim=True).clamp(min=1e-12), slope
