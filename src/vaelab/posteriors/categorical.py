"""Categorical latent variables: z of shape (N, C) is N variables of C classes each, one-hot.

Plain; relaxed (Jang et al., 2017, https://arxiv.org/abs/1611.01144; Maddison et al., 2017, https://arxiv.org/abs/1611.00712); and one-hot
with the gradient of the relaxed ones.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent

from vaelab import distributions
from vaelab.conditional import Conditional, NetworkFactory
from vaelab.schedules import Schedule


class Categorical(Conditional):
    """q(z | x) = prod_n Categorical(z_n; softmax(f_n(x))). Its samples are not reparameterised: for VIMCO, or to be summed over."""

    num_params = 1

    def distribution(self, logits: Float[Tensor, "..."]) -> Independent:
        return Independent(distributions.OneHot(logits, validate_args=False), self.event_ndim - 1, validate_args=False)


class Relaxed(Conditional):
    """A relaxation while training; in evaluation the categorical variables themselves, so that the bound is theirs.

    Args:
        network, in_shape, event_shape, num_classes: see `Conditional`.
        temperature: of the relaxation; a number, or a schedule over the forward passes of training.

    Raises:
        ValueError: if the temperature is not positive, or once it is not.
    """

    num_params = 1
    num_updates: Tensor  # forward passes with a gradient so far, where a schedule needs them

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        num_classes: int = 0,
        temperature: float | Schedule = 0.67,
    ) -> None:
        super().__init__(network, in_shape, event_shape, num_classes)
        self.temperature = temperature
        positive(temperature(0) if callable(temperature) else temperature)
        positive(getattr(temperature, "end", 1.0))  # said now, and not when the schedule comes to it
        if callable(temperature):
            self.register_buffer("num_updates", torch.zeros((), dtype=torch.long))
            self.register_load_state_dict_post_hook(forget_count)
        self._count: int | None = 0  # num_updates, for which a GPU need not be asked; None: it has to be

    @abstractmethod
    def relaxed(self, logits: Float[Tensor, "..."], temperature: float) -> Distribution:
        """The relaxation of one variable, with event shape (C,)."""

    def distribution(self, logits: Float[Tensor, "..."]) -> Independent:
        base = self.relaxed(logits, self._temperature()) if self.training else distributions.OneHot(logits, validate_args=False)
        return Independent(base, self.event_ndim - 1, validate_args=False)

    def _temperature(self) -> float:
        if not callable(self.temperature):
            return self.temperature
        if self._count is None:
            self._count = int(self.num_updates)
        temperature = self.temperature(self._count)
        if torch.is_grad_enabled():
            self.num_updates += 1
            self._count += 1
        return positive(temperature)


def forget_count(posterior: Relaxed, _: object) -> None:
    """Let a posterior whose state was loaded look how many updates there were."""
    posterior._count = None


class GumbelSoftmax(Relaxed):
    """q(z | x) = prod_n GumbelSoftmax(z_n; f_n(x), tau) while training: z is the logarithm of a relaxed code."""

    def relaxed(self, logits: Float[Tensor, "..."], temperature: float) -> distributions.ExpConcrete:
        return distributions.ExpConcrete(logits, temperature, validate_args=False)


class StraightThrough(Relaxed):
    """q(z | x) = prod_n Categorical(z_n; softmax(f_n(x))), with the gradient of the Gumbel-softmax while training: z is one-hot."""

    def relaxed(self, logits: Float[Tensor, "..."], temperature: float) -> distributions.StraightThrough:
        return distributions.StraightThrough(logits, temperature, validate_args=False)


def positive(temperature: float) -> float:
    """The temperature.

    Raises:
        ValueError: if it is not positive.
    """
    if not temperature > 0:
        raise ValueError(
            f"temperature={temperature:g} must be positive; a schedule's from start to end, as with temperature.start=1 temperature.end=0.5"
        )
    return temperature
