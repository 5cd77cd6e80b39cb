"""One-hot categorical variables and their reparameterised relatives.

With g_c ~ Gumbel(0, 1), the argmax over c of log pi_c + g_c is a sample of Categorical(pi), and z = softmax((log pi + g) / tau) one of
the Gumbel-softmax (Jang et al., 2017, https://arxiv.org/abs/1611.01144) or Concrete distribution (Maddison et al., 2017,
https://arxiv.org/abs/1611.00712), which tends to the former as tau -> 0. Its density is taken at log z: z itself soon rounds to zero.
"""

import math
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Size, Tensor
from torch.distributions import Distribution, constraints, register_kl

from vaelab.distributions.ops import constant

Shape = Size | tuple[int, ...]


class OneHot(Distribution):
    """p(z = e_c) = pi_c = softmax(logits)_c, with log p(z) = sum_c z_c log pi_c: linear in z, so that z may pass a gradient on."""

    arg_constraints: ClassVar = {"logits": constraints.real_vector}
    support = constraints.one_hot

    def __init__(self, logits: Float[Tensor, "*batch c"], validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=validate_args)

    @property
    def log_probs(self) -> Float[Tensor, "*batch c"]:
        return self.logits.log_softmax(-1)

    @property
    def probs(self) -> Float[Tensor, "*batch c"]:
        return self.logits.softmax(-1)

    @property
    def mean(self) -> Float[Tensor, "*batch c"]:
        return self.probs

    @property
    def variance(self) -> Float[Tensor, "*batch c"]:
        return self.probs * (1 - self.probs)

    @property
    def mode(self) -> Float[Tensor, "*batch c"]:
        return largest(self.logits)

    def expand(self, batch_shape: Shape, _instance: None = None) -> "OneHot":
        return OneHot(self.logits.expand(*batch_shape, -1), validate_args=False)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return (value * self.log_probs).sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        return largest(with_gumbel_noise(self.logits, sample_shape))


class StraightThrough(OneHot):
    """The same distribution; backwards, a sample is softmax((logits + g) / tau) in place of the argmax (Jang et al., 2017, section 2.2)."""

    arg_constraints: ClassVar = {"logits": constraints.real_vector, "temperature": constraints.positive}
    has_rsample = True

    def __init__(
        self, logits: Float[Tensor, "*batch c"], temperature: float | Float[Tensor, ""], validate_args: bool | None = None
    ) -> None:
        self.temperature = constant(temperature, logits)
        super().__init__(logits, validate_args=validate_args)

    def expand(self, batch_shape: Shape, _instance: None = None) -> "StraightThrough":
        return StraightThrough(self.logits.expand(*batch_shape, -1), self.temperature, validate_args=False)

    def rsample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        noisy = with_gumbel_noise(self.logits, sample_shape)
        soft = (noisy / self.temperature).softmax(-1)
        return largest(noisy) + (soft - soft.detach())  # the bracket is exactly zero


class _LogSimplex(constraints.Constraint):
    """{y: sum_c exp y_c = 1}, up to rounding."""

    event_dim = 1

    def check(self, value: Float[Tensor, "... c"]) -> Bool[Tensor, "..."]:
        return value.logsumexp(-1).abs() < 1e-5

    def __repr__(self) -> str:
        return "relaxed codes"


log_simplex = _LogSimplex()


class ExpConcrete(Distribution):
    """y = log z with z = softmax((logits + g) / tau): p(y) = (C-1)! tau^(C-1) prod_c pi_c e^(-tau y_c) (sum_c pi_c e^(-tau y_c))^-C.

    The logarithm of a Gumbel-softmax variable (Maddison et al., 2017, appendix C.3), of which `vaelab.distributions.code_of` makes z. The
    density is that of the C - 1 numbers y_c - y_C, so that p(z) = p(y) / prod_c z_c. In a KL the z_c cancel.

    Neither its mean nor its mode has a closed form.
    """

    arg_constraints: ClassVar = {"logits": constraints.real_vector, "temperature": constraints.positive}
    support = log_simplex
    has_rsample = True

    def __init__(
        self, logits: Float[Tensor, "*batch c"], temperature: float | Float[Tensor, ""], validate_args: bool | None = None
    ) -> None:
        self.logits, self.temperature = logits, constant(temperature, logits)
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Shape, _instance: None = None) -> "ExpConcrete":
        return ExpConcrete(self.logits.expand(*batch_shape, -1), self.temperature, validate_args=False)

    def rsample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        return (with_gumbel_noise(self.logits, sample_shape) / self.temperature).log_softmax(-1)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        num_classes, tau = value.shape[-1], self.temperature
        score = self.logits - tau * value  # a constant added to the logits changes nothing below
        log_scale = math.lgamma(num_classes) + (num_classes - 1) * tau.log()
        return log_scale + score.log_softmax(-1).sum(-1)


def kl_one_hot(q: OneHot, p: OneHot) -> Float[Tensor, "..."]:
    """sum_c q_c (log q_c - log p_c)."""
    return (q.probs * (q.log_probs - p.log_probs)).sum(-1)


def kl_relaxed(q: ExpConcrete, p: OneHot) -> Float[Tensor, "..."]:
    """The KL of the categorical variables that are relaxed (Jang et al., 2017); z itself is over another space than p."""
    return kl_one_hot(OneHot(q.logits, validate_args=False), p)


register_kl(OneHot, OneHot)(kl_one_hot)
register_kl(ExpConcrete, OneHot)(kl_relaxed)


def largest(logits: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch c"]:
    """The one-hot code of the largest logit."""
    return (logits.argmax(-1, keepdim=True) == torch.arange(logits.shape[-1], device=logits.device)).to(logits.dtype)


def with_gumbel_noise(logits: Float[Tensor, "*batch c"], sample_shape: Shape) -> Float[Tensor, "..."]:
    """logits + g with g ~ Gumbel(0, 1), of shape (*sample_shape, *batch, C)."""
    u = torch.rand(*sample_shape, *logits.shape, dtype=logits.dtype, device=logits.device)
    return logits - (-u.clamp(min=torch.finfo(u.dtype).tiny).log()).log()
