"""Autoregressive flows by zuko's masked networks; the one place that imports zuko.

z'_i = f(z_i; a_i(z_<i, context)): the Jacobian is triangular. In the direction of sampling, all of z' comes in one parallel pass, which is
the inverse autoregressive flow (Kingma et al., 2016, https://arxiv.org/abs/1606.04934), with f affine, or a monotonic spline (Durkan et
al., 2019, https://arxiv.org/abs/1906.04032). In the direction of the density, it is the masked autoregressive flow (Papamakarios et al.,
2017, https://arxiv.org/abs/1705.07057).
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vaelab.checks import check_at_least, check_widths

_validate_args = Distribution._validate_args  # importing zuko turns validation off for the whole process
import zuko  # noqa: E402

Distribution.set_default_validate_args(_validate_args)


class Autoregressive(nn.Module):
    """num_flows inverse autoregressive maps in a row, with the order of the dimensions reversed between them.

    Args:
        features: D, of z.
        num_flows: how many.
        hidden: widths of each masked network.
        num_context: how many numbers the encoder gives to all of them (the paper's h).
        univariate: (parameters) -> zuko transform of one dimension; None: affine.
        shapes: of its parameters.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        features: int,
        num_flows: int = 4,
        hidden: Sequence[int] = (320,),
        num_context: int = 64,
        univariate: Callable[..., torch.distributions.Transform] = zuko.transforms.MonotonicAffineTransform,
        shapes: Sequence[Sequence[int]] = ((), ()),
    ) -> None:
        super().__init__()
        check_at_least(1, num_flows=num_flows, num_context=num_context)
        check_widths(hidden=hidden)
        self.num_context = num_context
        orders = [torch.arange(features), torch.arange(features).flip(0)]
        self.maps = nn.ModuleList(
            zuko.flows.MaskedAutoregressiveTransform(
                features, num_context, order=orders[i % 2], univariate=univariate, shapes=shapes, hidden_features=list(hidden)
            )
            for i in range(num_flows)
        )
        prepare(self)

    def forward(self, z: Float[Tensor, "*k d"], context: Float[Tensor, "*b c"]) -> tuple[Float[Tensor, "*k d"], Float[Tensor, "*k"]]:
        total = z.new_zeros(z.shape[:-1])
        for each in self.maps:
            z, ladj = each(context).call_and_ladj(z)
            total = total + ladj
        return z, total


class Spline(Autoregressive):
    """The same with rational-quadratic splines on [-5, 5], the identity outside.

    Args:
        features, num_flows, hidden, num_context: as in `Autoregressive`.
        bins: of each spline.
    """

    def __init__(self, features: int, num_flows: int = 2, hidden: Sequence[int] = (128,), num_context: int = 64, bins: int = 8) -> None:
        shapes = ((bins,), (bins,), (bins - 1,))
        super().__init__(features, num_flows, hidden, num_context, zuko.transforms.MonotonicRQSTransform, shapes)


def autoregressive_density(features: int, context: int = 0, num_flows: int = 4, hidden: Sequence[int] = (128, 128)) -> nn.Module:
    """A masked autoregressive flow over R^D that scores in one pass and samples in D; module (context) -> Distribution."""
    return density(features, context, num_flows, hidden)


def coupling_density(features: int, context: int = 0, num_flows: int = 6, hidden: Sequence[int] = (128, 128)) -> nn.Module:
    """Affine coupling layers (Dinh et al., 2017, https://arxiv.org/abs/1605.08803): scores in one pass and samples in two."""
    return density(features, context, num_flows, hidden, passes=2)


def density(features: int, context: int, num_flows: int, hidden: Sequence[int], passes: int | None = None) -> nn.Module:
    """zuko's flow, with a base that does not check its numbers at each call, for which a GPU would have to wait.

    Raises:
        ValueError: if there are no maps.
    """
    check_at_least(1, num_flows=num_flows)
    flow = zuko.flows.MAF(features, context, num_flows, passes=passes, univariate=Affine, hidden_features=list(hidden))
    flow.base = zuko.lazy.UnconditionalDistribution(diagonal_normal, torch.zeros(features), torch.ones(features), buffer=True)
    return prepare(flow)


def diagonal_normal(loc: Float[Tensor, "d"], scale: Float[Tensor, "d"]) -> Independent:
    return Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False)


class Affine(zuko.transforms.MonotonicAffineTransform):
    """zuko's exp(a) z + b, for one z under many contexts too, and in float32 where autocast from outside gives a and b in less."""

    def __init__(self, shift: Float[Tensor, "..."], scale: Float[Tensor, "..."]) -> None:
        dtype = torch.promote_types(shift.dtype, torch.float32)
        super().__init__(shift.to(dtype), scale.to(dtype))

    def log_abs_det_jacobian(self, x: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self.log_scale.expand(y.shape)


@torch.no_grad()
def prepare(flow: nn.Module) -> nn.Module:
    """The flow near the identity, so that training starts near the base distribution, and with what it learns for its state."""
    for part in flow.modules():
        # what gives the parameters of each map, which is the identity at 0; of one dimension without a context they are not computed
        if isinstance(part, zuko.nn.MLP | zuko.nn.MaskedMLP):
            given: list[nn.Parameter] = list(part[-1].parameters())
        else:
            given = list(part) if isinstance(part, nn.ParameterList) else []
        for parameter in given:
            parameter.mul_(0.1)
        for name, constant in list(part.named_buffers(recurse=False)):  # masks, orders, the base's mean and scale
            part.register_buffer(name, constant, persistent=False)
    return flow
