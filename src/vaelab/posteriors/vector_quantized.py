"""Neural discrete representation learning (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.checks import check_choice
from vaelab.conditional import Conditional, NetworkFactory
from vaelab.distributions import NearestCode, nearest_codes


class VectorQuantized(Conditional):
    """q(z | x) = 1 where each vector of z is the one of K codes that is nearest to the network's.

    The codes follow the encoder in each training forward pass with a gradient, before that pass is quantised: by the running averages
    of appendix A.1, N_k <- gamma N_k + (1 - gamma) n_k and m_k <- gamma m_k + (1 - gamma) sum of the n_k vectors nearest to e_k, with
    e_k = m_k / N_k; or by the gradient of `objective=vq`. A code that is used much less than the others is replaced by an output of
    the encoder (Dhariwal et al., 2020, https://arxiv.org/abs/2005.00341), which is also how the codes begin. Several processes share
    the use of all of their batches, and have the same codes; what replaces one is an output for the batch of the first.

    Args:
        network, in_shape, num_classes: see `Conditional`.
        event_shape: (D, *space): D numbers in each code, and a code at each place.
        num_codes: K.
        update: "ema" or "gradient".
        decay: gamma.
        revive_below: how much of the mean use, a share in [0, 1), is too little. 0: only codes that were never used are replaced.

    Raises:
        ValueError: if a number is out of range, or the update is unknown.
    """

    num_params = 1
    codebook: Tensor  # (K, D)
    counts: Tensor  # N_k

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        num_classes: int = 0,
        num_codes: int = 512,
        update: str = "ema",
        decay: float = 0.99,
        revive_below: float = 0.1,
    ) -> None:
        super().__init__(network, in_shape, event_shape, num_classes)
        check_choice(("ema", "gradient"), update=update)
        if num_codes < 2 or not 0 <= decay < 1 or not 0 <= revive_below < 1:
            raise ValueError(f"num_codes={num_codes} must be at least 2, and decay={decay} and revive_below={revive_below} in [0, 1)")
        self.event_shape, self.update, self.decay, self.revive_below = tuple(event_shape), update, decay, revive_below
        codebook = torch.randn(num_codes, event_shape[0])
        if update == "gradient":
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
        self.register_buffer("counts", torch.zeros(num_codes))

    def distribution(self, z_e: Float[Tensor, "..."]) -> NearestCode:
        if self.training and torch.is_grad_enabled():
            self._follow(z_e.movedim(-self.event_ndim, -1).reshape(-1, self.event_shape[0]))
        return NearestCode(z_e, self.codebook.reshape(*self.codebook.shape, *[1] * (self.event_ndim - 1)), validate_args=False)

    @torch.no_grad()
    def _follow(self, vectors: Float[Tensor, "n d"]) -> None:
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        size = len(self.codebook)
        rows = torch.randperm(len(vectors), device=vectors.device).repeat(-(-size // len(vectors)))[:size]
        replacements = vectors[rows].to(self.codebook.dtype)
        if several:
            torch.distributed.broadcast(replacements, src=0)
        dead = self.counts <= self.revive_below * self.counts.mean()
        self.codebook.copy_(torch.where(dead[:, None], replacements, self.codebook))
        self.counts.copy_(torch.where(dead, self.counts.mean(), self.counts))

        use = self.codebook.new_zeros(size, vectors.shape[1] + 1)
        use.index_add_(0, nearest_codes(vectors, self.codebook), torch.cat([vectors, torch.ones_like(vectors[:, :1])], 1))
        if several:
            torch.distributed.all_reduce(use)
        total, count = use[:, :-1], use[:, -1]
        self.counts.lerp_(count, 1 - self.decay)
        if self.update == "ema":  # m_k / N_k, written as a step from e_k, so that a code without vectors stays exactly where it is
            step = (1 - self.decay) * (total - count[:, None] * self.codebook)
            self.codebook += step / self.counts[:, None].clamp(min=torch.finfo(step.dtype).tiny)
