"""Lloyd's algorithm (1982), with the seeds of k-means++ (Arthur & Vassilvitskii, 2007)."""

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.distributions import nearest_codes


@torch.no_grad()
def k_means(vectors: Float[Tensor, "n d"], num: int, num_steps: int = 10) -> Float[Tensor, "k d"]:
    """Centres of clusters: each step moves each to the mean of the vectors nearest to it, and leaves those of empty clusters.

    The first centres are chosen one by one, each vector with a probability that grows with its squared distance to those chosen before.
    """
    first = torch.randint(len(vectors), (1,), device=vectors.device)
    centres = vectors[first]
    distance = (vectors - centres).square().sum(-1)
    for _ in range(num - 1):
        noise = torch.empty_like(distance).exponential_()  # argmax of p / noise is a draw, for which a GPU need not wait
        centres = torch.cat([centres, vectors[((distance + torch.finfo(distance.dtype).tiny) / noise).argmax()[None]]])
        distance = torch.minimum(distance, (vectors - centres[-1]).square().sum(-1))
    for _ in range(num_steps):
        use = vectors.new_zeros(num, vectors.shape[1] + 1)
        use.index_add_(0, nearest_codes(vectors, centres), torch.cat([vectors, torch.ones_like(vectors[:, :1])], 1))
        centres = torch.where(use[:, -1:] > 0, use[:, :-1] / use[:, -1:].clamp(min=1), centres)
    return centres
