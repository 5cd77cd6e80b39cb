"""Operations on distributions and on log-probabilities."""

import math
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints

from vaelab.distributions.code import Quantized


def constant(value: float | str | Tensor, like: Tensor) -> Float[Tensor, ""]:
    """A number as a tensor where and of the type that `like` is, which no GPU has to wait for; a tensor stays as it is."""
    return value if isinstance(value, Tensor) else like.new_full((), float(value))


def log_mean_exp(x: Float[Tensor, "k ..."], dim: int = 0) -> Float[Tensor, "..."]:
    """log (1/K) sum_k exp x_k, without overflow."""
    return x.logsumexp(dim) - math.log(x.shape[dim])


def soft_limit(x: Float[Tensor, "..."], low: float = -15.0, high: float = 15.0) -> Float[Tensor, "..."]:
    """x from low to high, without rounding; beyond, high + asinh(x - high) and low - asinh(low - x): smooth, with a slope that is never 0.

    For the logarithms that networks give. A scale from e^-15 to e^15 has a square, and its reciprocal, that float32 holds with room for
    the squares of gradients in an optimizer; one of e^60 has neither.
    """
    inside = x.clamp(low, high)
    return inside + (x - inside).asinh()


def rsample(q: Distribution, num_samples: int) -> Float[Tensor, "k ..."]:
    """K samples of q, (K, *batch, *event): reparameterised where q is (Kingma & Welling, 2014; Rezende et al., 2014), else plain ones."""
    return q.rsample((num_samples,)) if q.has_rsample else q.sample((num_samples,))


def rsample_and_log_prob(q: Distribution, num_samples: int) -> tuple[Float[Tensor, "k ..."], Float[Tensor, "k ..."]]:
    """K samples of q, as `rsample` gives them, and their log-density: z (K, *batch, *event), log q(z) (K, *batch).

    A distribution that knows its density only along its own samples, as a flow without an inverse does, brings a method
    `rsample_and_log_prob(shape)`.
    """
    along_the_sample = getattr(q, "rsample_and_log_prob", None)
    if along_the_sample is not None:
        return along_the_sample((num_samples,))
    z = rsample(q, num_samples)
    return z, q.log_prob(z)


def centre(q: Distribution) -> Float[Tensor, "..."]:
    """A point in the middle of q, without noise: its mode; of a flow, whose mode has no closed form, the image of its base's."""
    centre_of_flow = getattr(q, "centre", None)
    return q.mode if centre_of_flow is None else centre_of_flow


def code_of(p: Distribution, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The values that a decoder is shown of z ~ p: z itself, but the codes if z holds the logarithms of relaxed codes."""
    return z.exp() if space_of(p) == "relaxed codes" else z


def detach(q: Distribution) -> Distribution:
    """q with its parameters as constants: log q(z) then depends on z alone (Roeder et al., 2017, https://arxiv.org/abs/1703.09194).

    Raises:
        ValueError: if q has no density that can be asked for at any z, as a flow without an inverse.
    """
    if isinstance(q, Quantized):  # whose log q(z) is 0
        return q
    if isinstance(q, Independent):
        return Independent(detach(q.base_dist), q.reinterpreted_batch_ndims, validate_args=False)
    names = [name for name in q.arg_constraints if name in q.__dict__]  # a lazy parameter (probs of logits) is not one to copy
    if hasattr(q, "rsample_and_log_prob") or not names:
        raise ValueError(f"{type(q).__name__} has no density with detached parameters: use objective=iwae, or posterior=gaussian")
    return type(q)(**{name: getattr(q, name).detach() for name in names}, validate_args=False)


def is_discrete(distribution: Distribution) -> bool:
    """True if its log_prob is that of a probability and not of a density."""
    support = support_of(distribution)
    return support is not None and support.is_discrete


def support_of(distribution: Distribution) -> constraints.Constraint | None:
    """Its support, or None if it does not tell."""
    try:
        return distribution.support
    except NotImplementedError:  # of a flow: all of R^D
        return None


def is_euclidean(distribution: Distribution) -> bool:
    """True if every point of R^D is in its support, so that lines and axes mean something there."""
    return space_of(distribution) == "vectors of real numbers"


def space_of(distribution: Distribution) -> str:
    """The space of its values, in words."""
    support: Any = support_of(distribution)
    while hasattr(support, "base_constraint"):  # of independent events, and of mixtures
        support = support.base_constraint
    if support is None or support is constraints.real:
        return "vectors of real numbers"
    return {"_OneHot": "one-hot codes"}.get(type(support).__name__, str(support))
