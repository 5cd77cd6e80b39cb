"""Scalings: invertible maps from the units of the data to numbers around 1, which networks learn from, and back.

A scaling is fitted to training data alone, value by value of vectors, and channel by channel of series and images, over all of their times
or pixels. Models see scaled numbers s; what is shown is put back into the units of the data, and so is log p(x):

    log p(x) = log p(s) + sum_i log |ds_i / dx_i|

The sum is over observed values; it has no gradient in the parameters of a model.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from vaelab.checks import check_choice

SCALES = ("none", "standardize", "minmax", "log1p")
LEAST_OF_LOG1P = -1.0  # which it does not take
MOST_NAMED = 5  # values of x in a message


class Scaling:
    """s = (f(x) - shift) / scale, with f(x) = log(1 + x) where `is_log`, and f(x) = x elsewhere.

    >>> scaling = Scaling(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 1.0]), torch.tensor([False, True]))
    >>> scaling.forward(torch.tensor([[5.0, 0.0]]))
    tensor([[2., 0.]])
    >>> scaling.inverse(torch.tensor([[2.0, 0.0]]))
    tensor([[5., 0.]])
    >>> scaling.log_det(torch.tensor([[2.0, 0.0]])).exp()
    tensor([0.5000])

    Args:
        shift: of the shape of x, or of one that broadcasts to it: (channels, 1) of series.
        scale: above 0, likewise.
        is_log: likewise.

    Raises:
        ValueError: if a scale is not above 0, or a number not finite.
    """

    def __init__(self, shift: Float[Tensor, "*shape"], scale: Float[Tensor, "*shape"], is_log: Bool[Tensor, "*shape"]) -> None:
        self.shift, self.scale, self.is_log = shift.double(), scale.double(), is_log
        if not bool((self.shift.isfinite() & self.scale.isfinite() & (self.scale > 0)).all()):
            raise ValueError(f"a scaling needs finite numbers and scales above 0, but has shift={shift} and scale={scale}")
        self.has_log = bool(is_log.any())
        self._on: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}

    def forward(self, x: Shaped[Tensor, "*batch_and_shape"]) -> Float[Tensor, "*batch_and_shape"]:
        """x, any number of batch dimensions before its shape, as models see it: in torch's default precision. NaN stays NaN."""
        shift, scale, is_log = self._at(x.device)
        x = x.to(shift.dtype)
        x = torch.where(is_log, x.log1p(), x) if self.has_log else x
        return ((x - shift) / scale).to(torch.get_default_dtype())

    def inverse(self, s: Float[Tensor, "*batch_and_shape"]) -> Float[Tensor, "*batch_and_shape"]:
        """x in the units of the data, in the precision of s."""
        shift, scale, is_log = self._at(s.device)
        x = s.to(shift.dtype) * scale + shift
        return (torch.where(is_log, x.expm1(), x) if self.has_log else x).to(s.dtype)

    def log_det(self, s: Float[Tensor, "b ..."], observed: Bool[Tensor, "b ..."] | None = None) -> Float[Tensor, "b"]:
        """sum_i log |ds_i / dx_i| over the observed values of each example: -log scale_i, and -log(1 + x_i) more where f is log(1 + x).

        Args:
            s: scaled x.
            observed: which values are scored; None: all.
        """
        shift, scale, is_log = self._at(s.device)
        terms = -scale.log().expand(s.shape)
        if self.has_log:
            terms = terms - torch.where(is_log, s.to(shift.dtype) * scale + shift, 0.0)
        terms = terms if observed is None else terms.where(observed, 0.0)
        return terms.reshape(len(s), -1).sum(1).to(s.dtype)

    def _at(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """shift, scale and is_log on a device; in double precision, where it has that."""
        if device not in self._on:
            dtype = torch.float32 if device.type == "mps" else torch.float64
            self._on[device] = self.shift.to(device, dtype), self.scale.to(device, dtype), self.is_log.to(device)
        return self._on[device]

    def state_dict(self) -> dict[str, Tensor]:
        """The numbers of this scaling, for a checkpoint."""
        return {"shift": self.shift, "scale": self.scale, "is_log": self.is_log}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> "Scaling":
        """The scaling that a checkpoint holds."""
        return cls(state["shift"], state["scale"], state["is_log"])


class Moments:
    """Count, mean, standard deviation, least and largest of each value of x, over batches and without NaN.

    Batches are merged as in Chan et al. (1983, https://doi.org/10.1080/00031305.1983.10483115), in double precision.

    Args:
        shape: of x.
        pooled: axes of x whose values are taken together, such as the times of a series.
    """

    def __init__(self, shape: Sequence[int], pooled: Sequence[int] = ()) -> None:
        self.shape = tuple(1 if axis in pooled else size for axis, size in enumerate(shape))
        self.axes = [0, *(1 + axis for axis in pooled)]
        self.count, self.mean, self.squares = (torch.zeros(self.shape, dtype=torch.float64) for _ in range(3))
        self.least, self.largest = (torch.full(self.shape, value, dtype=torch.float64) for value in (torch.inf, -torch.inf))

    def add(self, x: Float[Tensor, "b ..."]) -> None:
        """Count a batch."""
        x = x.cpu().double()
        known = ~x.isnan()
        count = known.sum(self.axes, keepdim=True, dtype=torch.float64)
        mean = x.where(known, 0.0).sum(self.axes, keepdim=True) / count.clamp(min=1)
        squares = (x - mean).where(known, 0.0).square().sum(self.axes, keepdim=True)
        count, mean, squares = (part.reshape(self.shape) for part in (count, mean, squares))
        total, change = self.count + count, mean - self.mean
        self.squares += squares + change.square() * self.count * count / total.clamp(min=1)
        self.mean += change * count / total.clamp(min=1)
        self.count = total
        self.least = torch.minimum(self.least, x.where(known, torch.inf).amin(self.axes, keepdim=True).reshape(self.shape))
        self.largest = torch.maximum(self.largest, x.where(known, -torch.inf).amax(self.axes, keepdim=True).reshape(self.shape))

    @property
    def std(self) -> Float[Tensor, "..."]:
        """Standard deviations, of the population."""
        return (self.squares / self.count.clamp(min=1)).sqrt()


def fit_scaling(
    name: str, batches: Iterable[Float[Tensor, "_ ..."]], shape: Sequence[int], pooled: Sequence[int] = ()
) -> tuple[Scaling, str]:
    """The scaling of this name for training data, and a note of the values that have nothing to be scaled by; "" if there are none.

    Args:
        name: "standardize": mean 0 and standard deviation 1; "minmax": from 0 to 1; "log1p": log(1 + x), of values above -1.
        batches: of training data, in their units; NaN is left out.
        shape, pooled: see `Moments`.

    Raises:
        ValueError: if there is no scaling of this name, or a value is not above -1 for log1p.
    """
    check_choice(SCALES[1:], **{"data.scale": name})
    moments = Moments(shape, pooled)
    for x in batches:
        moments.add(x)
    zero, one, no = torch.zeros_like(moments.mean), torch.ones_like(moments.mean), torch.zeros(moments.shape, dtype=torch.bool)
    if name == "log1p":
        if bool((moments.least <= LEAST_OF_LOG1P).any()):
            raise ValueError(f"the training data have x={float(moments.least.min()):g}, but data.scale=log1p takes values above -1")
        return Scaling(zero, one, ~no), ""
    known = moments.count > 0
    shift, scale = (moments.mean, moments.std) if name == "standardize" else (moments.least, moments.largest - moments.least)
    varies = known & (moments.largest > moments.least) & (scale > 0)
    return Scaling(shift.where(known, zero), scale.where(varies, one), no), note_of_constants(varies, known)


def note_of_constants(varies: Bool[Tensor, "..."], known: Bool[Tensor, "..."]) -> str:
    """Text that names the values of x that are the same in all training data, or always missing; "" if there are none."""
    places = [", ".join(map(str, place)) for place in (~varies).nonzero().tolist()]
    if not places:
        return ""
    named = "; ".join(f"x[{place}]" for place in places[:MOST_NAMED]) + "; ..." * (len(places) > MOST_NAMED)
    missing = int((~known).sum())
    also = f", {missing} of them always missing" if missing else ""
    return f"{len(places)} of {varies.numel()} values of x are the same in all training data{also}, and are not divided: {named}"
