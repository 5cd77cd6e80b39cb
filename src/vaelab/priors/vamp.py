"""The VampPrior (Tomczak & Welling, 2018, https://arxiv.org/abs/1705.07120): the aggregate posterior of pseudo-inputs that are learned."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from vaelab.checks import check_at_least
from vaelab.distributions import Codebook, GaussianMixture


class Clamp(torch.autograd.Function):
    """x clamped to [low, high]; at a bound or beyond it, a gradient passes whose descent leads back inside.

    torch's own clamp has no gradient there: pseudo-inputs that start as binary images, all at a bound, would never move.
    """

    generate_vmap_rule = True  # so that models with this prior can be stacked

    @staticmethod
    def forward(x: Tensor, low: float, high: float) -> Tensor:
        return x.clamp(low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:
        x, ctx.low, ctx.high = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        outwards = ((x <= ctx.low) & (gradient > 0)) | ((x >= ctx.high) & (gradient < 0))
        return gradient.masked_fill(outwards, 0.0), None, None


class VampPrior(nn.Module):
    """p(z) = (1/C) sum_c q(z | u_c), where the pseudo-inputs u_c are parameters.

    Args:
        posterior: q(z | x) of the model, whose it stays: this prior has the pseudo-inputs alone.
        x_shape: of a pseudo-input.
        num_components: C.
        low, high: what pseudo-inputs are clamped to (the hard tanh of the paper), see `Clamp`; None: not at all.
        from_data: whether they start as training examples; else they start as noise around the middle.

    Raises:
        ValueError: if q is conditional on y, or a point, or low is not below high; at the first draw, if q has no density at any z, as a
            flow's.
    """

    def __init__(
        self,
        posterior: nn.Module,
        x_shape: Sequence[int],
        num_components: int = 500,
        low: float | None = 0.0,
        high: float | None = 1.0,
        from_data: bool = True,
    ) -> None:
        super().__init__()
        if getattr(posterior, "num_classes", 0):
            raise ValueError("a VampPrior is not conditional on y: set prior=conditional_gaussian, or num_classes=0")
        if isinstance(getattr(posterior, "codes", None), Codebook):
            raise ValueError("a VampPrior needs a posterior with a density: for posterior=vector_quantized set prior=uniform_codes")
        check_at_least(1, num_components=num_components)
        self._posterior = (posterior,)  # in a tuple it is no submodule, so its weights are saved and trained once, by the model
        self.low, self.high = -math.inf if low is None else low, math.inf if high is None else high
        if self.low >= self.high:
            raise ValueError(f"low={low} must be below high={high}")
        self.num_initial = num_components if from_data else 0
        middle = (self.low + self.high) / 2 if math.isfinite(self.high - self.low) else 0.0
        self.pseudo_inputs = nn.Parameter(middle + 0.02 * torch.randn(num_components, *x_shape))

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> MixtureSameFamily:
        u = Clamp.apply(self.pseudo_inputs, self.low, self.high)
        q = self._posterior[0](u)
        if hasattr(q, "rsample_and_log_prob"):
            raise ValueError(
                "a VampPrior asks for the density of q at any z, but a flow knows its own along its samples only: set"
                " posterior=gaussian, or prior=flow"
            )
        diagonal = isinstance(q, Independent) and isinstance(q.base_dist, Normal)
        family = GaussianMixture if diagonal else MixtureSameFamily
        return family(Categorical(logits=u.new_zeros(len(u)), validate_args=False), q, validate_args=False)

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "c ..."]) -> None:
        """Makes training examples the pseudo-inputs."""
        self.pseudo_inputs.copy_(x.nan_to_num(0.0))
