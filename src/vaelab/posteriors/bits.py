"""Codes of bits, which are the signs of the numbers of a vector."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.checks import check_at_least, check_choice, check_positive
from vaelab.conditional import NetworkFactory
from vaelab.distributions import Lattice, entropy_of_codes
from vaelab.posteriors.quantizer import Quantizer

MOST_BITS = 24  # of an entropy that is a sum over all codes


class BitQuantizer(Quantizer):
    """K = 2^D codes, the vectors whose D numbers are each r or -r. Training makes each choice sure, and all choices together even:

        entropy = N (E[H(p(k | u))] - gamma H(E[p(k | u)])),  p(k | u) = softmax_k(2 u e_k / tau),

    in nats per example of N places, with means over all places of the batch. p is a product over bits: that of bit d is
    sigmoid(4 r u_d / tau).

    Args:
        network, in_shape, event_shape, num_classes, estimator, batch_norm: see `Quantizer`. D bits make 2^D codes.
        entropy: "exact" sums H(E[p]) over all codes; "factorised" over the bits, as if they were independent.
        diversity: gamma.
        temperature: tau.
        radius: r.

    Raises:
        ValueError: if there are too many bits, or an option is out of range.
    """

    centre: Tensor
    step: Tensor

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        num_classes: int,
        estimator: str,
        batch_norm: bool,
        entropy: str,
        diversity: float,
        temperature: float,
        radius: float,
    ) -> None:
        super().__init__(network, in_shape, event_shape, num_classes, estimator, batch_norm)
        check_choice(("exact", "factorised"), entropy=entropy)
        check_at_least(0, diversity=diversity)
        check_positive(temperature=temperature)
        bits = self.event_shape[0]
        if bits >= 62 or (entropy == "exact" and bits > MOST_BITS):
            most, way = (61, "fewer numbers") if bits >= 62 else (MOST_BITS, "entropy=factorised, or fewer numbers")
            raise ValueError(f"z_shape={list(self.event_shape)} means 2^{bits} codes, more than 2^{most}: set {way}")
        self.radius, self.entropy, self.diversity, self.temperature = radius, entropy, diversity, temperature
        self.register_buffer("centre", torch.full((bits,), 0.5), persistent=False)
        self.register_buffer("step", torch.full((bits,), 2 * radius), persistent=False)

    @property
    def codes(self) -> Lattice:
        return Lattice([2] * self.event_shape[0], self.centre, self.step)

    @property
    def residual_scale(self) -> float:
        return 0.5

    def losses(self, u: Float[Tensor, "..."], z_q: Float[Tensor, "..."]) -> dict[str, Tensor]:
        logits = self.vectors_of(u) * (4 * self.radius / self.temperature)
        of_each, of_all = entropy_of_codes(logits, self.entropy == "exact")
        num_places = torch.Size(self.event_shape[1:]).numel()
        return {"entropy": num_places * (of_each - self.diversity * of_all)}
