"""The abstract base of all objectives, and their weighted sum."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from vaelab.checks import check_choice
from vaelab.distributions import OptimalSigmaNormal, Quantized
from vaelab.divergences import ESTIMATORS
from vaelab.draw import Draw, Latent
from vaelab.models import Model
from vaelab.schedules import Schedule, at


class Objective(nn.Module, ABC):
    """A function of a `Draw` that training minimises. Parameters that it owns are trained along.

    >>> class Distortion(Objective):
    ...     def forward(self, draw, step):
    ...         return {"loss": -draw.log_px.mean()}
    >>> Distortion()(model(x), step=0)["loss"].shape
    torch.Size([])
    """

    num_samples: int = 1  # how many samples of z the draw must have
    num_examples: int | None = None  # of the training data; the trainer counts them
    reparameterised: bool = True  # whether the gradient for q comes through the samples, and not from a score function
    local: str | None = None  # what is taken of the batch of each process alone, where one process would take it of the whole batch
    trains_codes: bool = False  # whether the loss has a gradient for a codebook that follows none of its own

    @abstractmethod
    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        """The loss under "loss", and terms worth logging: scalars, in nats per example."""

    def draw(self, model: Model, x: Tensor, y: Shaped[Tensor, "b ..."] | None = None) -> Draw:
        """The draw of a model that this objective looks at.

        Raises:
            ValueError: if the gradient of its expectation would miss a part, because samples of q are not reparameterised.
        """
        draw = model(x, y, num_samples=self.num_samples)
        if self.reparameterised:
            check_reparameterised(draw.latents)
        if not self.trains_codes:
            check_codes_trained(draw.latents)
        self.settle(draw)
        return draw

    def sample_weights(self, draw: Draw, log_px: Float[Tensor, "k b"]) -> Float[Tensor, "k b"] | None:
        """The weight of each sample for p(x | z): the derivative of the bound by log p(x | z), given these; None: all alike."""
        return None

    def settle(self, draw: Draw) -> None:
        """Tells a likelihood that chooses its scale by the batch how its samples are weighed, before it has scored any.

        Raises:
            ValueError: if the draw is none that this objective can train on.
        """
        base = getattr(draw.p_x, "base_dist", None)
        if isinstance(base, OptimalSigmaNormal):
            base.weigh(draw.x, lambda log_px: self.sample_weights(draw, log_px))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Own parameters, with options of their own for the optimizer."""
        own = list(self.parameters())
        return [{"params": own}] if own else []

    @property
    def not_a_bound(self) -> str | None:
        """Reason why -loss is no bound on log p(x) with all weights 1, as a clause; None if it is one.

        Where it is one, the checkpoint with the best bound on validation data is the model that was trained for; else the last one is.
        """
        return f"{type(self).__name__} does not say that it is one (not_a_bound = None)"


def check_reparameterised(latents: Sequence[Latent]) -> None:
    """The gradient of an expectation over samples of q needs samples that have one, or a score function.

    Raises:
        ValueError: if they have none.
    """
    for latent in latents:
        if not latent.z.requires_grad and latent.log_q.requires_grad:
            raise ValueError(
                "samples of this posterior are not reparameterised, so the gradient would miss how q chooses them: set objective=vimco,"
                " or posterior=gumbel or posterior=straight_through (for model=m2, objective=m2)"
            )


def check_codes_trained(latents: Sequence[Latent]) -> None:
    """Codes that no running average and no gradient of the decoder moves learn from a term of their own, in the loss of the VQ-VAE.

    Raises:
        ValueError: if there are such codes.
    """
    if any(isinstance(latent.q, Quantized) and latent.q.needs_losses for latent in latents):
        raise ValueError(
            "this objective has no gradient for the codebook: set objective=vq (or posterior.update=ema for posterior=vector_quantized)"
        )


def check_kl(kl: str) -> None:
    """Check the name of an estimator of the KL.

    Raises:
        ValueError: if there is none of this name.
    """
    check_choice(("analytic", *ESTIMATORS), kl=kl)


class Sum(Objective):
    """loss = sum_i w_i loss_i: a bound plus penalties.

    Args:
        weights: of some parts by their names, numbers or schedules; the others weigh 1.
        parts: objectives by name. The first decides how the model is drawn, and how sigma=optimal weighs samples.

    Raises:
        ValueError: if there is no part, or a weight is of none.
    """

    def __init__(self, weights: Mapping[str, float | Schedule] | None = None, **parts: Objective) -> None:
        super().__init__()
        self.weights = dict(weights or {})
        if not parts or self.weights.keys() - parts.keys():
            raise ValueError(f"the weights are of {', '.join(self.weights) or 'nothing'}, but the parts are {', '.join(parts) or 'none'}")
        if any(hasattr(self, name) for name in parts):
            raise ValueError(
                f"a part of a sum cannot be called {' or '.join(name for name in parts if hasattr(self, name))}: name it otherwise"
            )
        self.num_samples = max(part.num_samples for part in parts.values())
        self.reparameterised = any(part.reparameterised for part in parts.values())
        self.trains_codes = any(part.trains_codes for part in parts.values())
        for name, part in parts.items():
            part.num_samples = self.num_samples  # they share one draw
            self.add_module(name, part)

    def parts(self) -> Iterator[tuple[str, Objective]]:
        """The objectives by name, in order."""
        for name, part in self.named_children():
            assert isinstance(part, Objective)
            yield name, part

    def draw(self, model: Model, x: Tensor, y: Shaped[Tensor, "b ..."] | None = None) -> Draw:
        _, first = next(self.parts())
        draw = first.draw(model, x, y)
        if self.reparameterised:
            check_reparameterised(draw.latents)
        return draw

    def forward(self, draw: Draw, step: int) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        losses = []
        for name, part in self.parts():
            own = part(draw, step)
            losses.append(at(self.weights.get(name, 1.0), step) * own.pop("loss"))
            terms |= {f"{name}_{term}" if term in terms else term: value for term, value in own.items()}
        return {"loss": sum(losses[1:], losses[0]), **terms}

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [group for _, part in self.parts() for group in part.parameter_groups()]

    @property
    def not_a_bound(self) -> str | None:
        weights = {name: self.weights.get(name, 1.0) for name, _ in self.parts()}
        used = [(name, part) for name, part in self.parts() if weights[name] != 0]
        if len(used) == 1 and weights[used[0][0]] == 1:
            return used[0][1].not_a_bound
        return f"it is a sum of {' and '.join(name for name, _ in used) or 'nothing'}"
