"""The VampPrior (Tomczak & Welling, 2018, https://arxiv.org/abs/1705.07120): the aggregate posterior of pseudo-inputs that are learned."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from vaelab.distributions import GaussianMixture


class VampPrior(nn.Module):
    """p(z) = (1/C) sum_c q(z | u_c), where the pseudo-inputs u_c are parameters.

    Args:
        posterior: q(z | x) of the model, whose it stays: this prior has the pseudo-inputs alone.
        x_shape: of a pseudo-input.
        num_components: C.
        low, high: what pseudo-inputs are clamped to (the hard tanh of the paper); None: nothing.
        from_data: whether they start as training examples; else they start as noise around the middle.

    Raises:
        ValueError: if q is conditional on y, or a point; at the first draw, if it has no density at any z, as a flow's.
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
        if hasattr(posterior, "codebook"):
            raise ValueError("a VampPrior needs a posterior with a density: for posterior=vector_quantized set prior=uniform_codes")
        if num_components < 1:
            raise ValueError(f"prior.num_components={num_components} must be at least 1")
        self._posterior = (posterior,)  # in a tuple it is no submodule, so its weights are saved and trained once, by the model
        self.low, self.high = low, high
        self.num_initial = num_components if from_data else 0
        middle = 0.0 if low is None or high is None else (low + high) / 2
        self.pseudo_inputs = nn.Parameter(middle + 0.02 * torch.randn(num_components, *x_shape))

    def forward(self, y: Shaped[Tensor, "..."] | None = None) -> MixtureSameFamily:
        u = self.pseudo_inputs if self.low is None and self.high is None else self.pseudo_inputs.clamp(self.low, self.high)
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
