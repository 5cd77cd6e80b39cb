"""Neural discrete representation learning (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.checks import check_choice
from vaelab.conditional import NetworkFactory
from vaelab.distributions import Quantized, Table
from vaelab.posteriors.codebook_updates import follow, renew
from vaelab.posteriors.quantizer import Quantizer, check_table


class VectorQuantized(Quantizer):
    """q(z | x) = 1 where each vector of z is the one of K codes that is nearest to the network's.

    The codes follow the encoder in each training forward pass with a gradient, before that pass is quantised: by the running averages
    of appendix A.1, N_k <- gamma N_k + (1 - gamma) n_k and m_k <- gamma m_k + (1 - gamma) sum of the n_k vectors nearest to e_k, with
    e_k = m_k / N_k; or by the gradient of `objective=vq`. A code that is used much less than the others is replaced by an output of
    the encoder (Dhariwal et al., 2020, https://arxiv.org/abs/2005.00341). Several processes share the use of all of their batches, and
    have the same codes; what replaces one is an output for the batch of the first.

    Args:
        network, in_shape, event_shape, num_classes, batch_norm: see `Quantizer`.
        num_codes: K.
        update: "ema" or "gradient".
        decay: gamma.
        revive_below: how much of the mean use, a share in [0, 1), is too little. 0: only codes that were never used are replaced; None:
            none is.
        estimator: of the gradient; with "diveq" and update="gradient" codes learn from the decoder.
        start: codes of the first batch: "outputs" of the encoder, their "k_means", or "random", N(0, I).

    Raises:
        ValueError: if a number is out of range, or the update, the estimator or the start is unknown.
    """

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
        revive_below: float | None = 0.1,
        estimator: str = "straight_through",
        start: str = "outputs",
        batch_norm: bool = False,
    ) -> None:
        super().__init__(network, in_shape, event_shape, num_classes, estimator, batch_norm)
        check_choice(("ema", "gradient"), update=update)
        check_choice(("outputs", "k_means", "random"), start=start)
        if num_codes < 2 or not 0 <= decay < 1 or not (revive_below is None or 0 <= revive_below < 1):
            raise ValueError(f"num_codes={num_codes} must be at least 2, and decay={decay} and revive_below={revive_below} in [0, 1)")
        if estimator == "diveq" and update == "ema":
            raise ValueError("estimator=diveq trains the codes by the decoder's gradient: set update=gradient, or another estimator")
        self.update, self.decay, self.revive_below, self.start = update, decay, revive_below, start
        check_table(num_codes, self.event_shape[0])
        codebook = torch.randn(num_codes, self.event_shape[0])
        if update == "gradient":
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
        self.register_buffer("counts", torch.full((num_codes,), float(start == "random")))
        self.needs_losses = update == "gradient" and estimator != "diveq"

    @property
    def codes(self) -> Table:
        return Table(self.codebook)

    def losses(self, u: Float[Tensor, "..."], z_q: Float[Tensor, "..."]) -> dict[str, Tensor]:
        return {} if self.estimator == "diveq" else self.distances(u, z_q)

    def quantize(self, u: Float[Tensor, "..."]) -> Quantized:
        if self.training and torch.is_grad_enabled():
            vectors = self.vectors_of(u.detach())
            renew(self.codebook, self.counts, vectors, self.revive_below, self.start)
            follow(self.codebook, self.counts, vectors, self.decay, self.update == "ema")
        return super().quantize(u)
