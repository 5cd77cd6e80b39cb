"""Gradients through the choice of a code: z has the value of the code z_q, and a gradient of its own for what was quantised, z_e.

Each estimator returns a differentiable stand-in, and z = sg(z_q) + stand-in - sg(stand-in), where sg stops the gradient.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Estimator = Callable[[Tensor, Tensor, int], Tensor]  # z_e, z_q and the axis of the D numbers of a code
SMALLEST = 1e-6  # norm that is divided by


def straight_through(z_e: Float[Tensor, "..."], z_q: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """dz / dz_e = I (Bengio et al., 2013, https://arxiv.org/abs/1308.3432)."""
    return z_e


def rotation(z_e: Float[Tensor, "..."], z_q: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """dz / dz_e = |q| / |e| R, where R turns e to the direction of q (Fifty et al., 2024, https://arxiv.org/abs/2410.06424, section 4.2).

    R = I - 2 r r^T + 2 q^ e^T with unit vectors e^ and q^, and r = (e^ + q^) / |e^ + q^|, all of them constants.
    """
    e, q = z_e.detach(), z_q.detach()
    e_norm, q_norm = (each.norm(dim=dim, keepdim=True) for each in (e, q))
    e_unit, q_unit = e / e_norm.clamp(min=SMALLEST), q / q_norm.clamp(min=SMALLEST)
    r = torch.nn.functional.normalize(e_unit + q_unit, dim=dim)
    along_r, along_e = ((z_e * unit).sum(dim, keepdim=True) for unit in (r, e_unit))
    return (z_e - 2 * along_r * r + 2 * along_e * q_unit) * (q_norm / e_norm.clamp(min=SMALLEST))


def diveq(z_e: Float[Tensor, "..."], z_q: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """dz / dz_e = I - d d^T and dz / dz_q = d d^T, with d = (q - e) / |q - e|: codes learn from the decoder, and need no loss of their own.

    DiVeQ (https://openreview.net/forum?id=KRVnpTbx7R): z = e + sg(d) |q - e|. The paper adds a little noise to d; there is none here, so
    that z is a code.
    """
    error = z_q - z_e
    direction = torch.nn.functional.normalize(error.detach(), dim=dim)
    return z_e + direction * error.norm(dim=dim, keepdim=True)


ESTIMATORS: dict[str, Estimator] = {"straight_through": straight_through, "rotation": rotation, "diveq": diveq}
