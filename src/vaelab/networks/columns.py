"""The columns of a table as numbers that a network can learn from. The values that a likelihood scores stay as they are."""

import math
from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import one_hot

from vaelab.checks import check_columns


class Columns(nn.Module):
    """x (B, *in_shape) to (B, width): what a network is shown of the columns of a table, and which of them are not missing.

    Real values are standardised, log x of positive ones, log(1 + x) of counts; of nonnegative ones log x where x > 0, and whether it is.
    Codes of categories become one-hot, codes in order (and of two values) are standardised numbers. NaN is a missing value: all that is
    shown of it is 0, and one more number for each column says whether it was observed. Values behind those of the columns, such as a
    one-hot label, are handed on.

    Mean and standard deviation are those of the training data (`initialise`), kept in checkpoints.

    Args:
        in_shape: of x.
        columns: the kind of each value of x; see `vaelab.checks.check_columns`.
    """

    takes_missing = True
    num_initial = math.inf  # all training data
    mean: Tensor
    sd: Tensor

    def __init__(self, in_shape: Sequence[int], columns: Sequence[str | Sequence]) -> None:
        super().__init__()
        kinds = check_columns(len(columns), columns)
        self.num = len(kinds)
        if self.num > prod(in_shape):
            raise ValueError(f"columns={columns} are more than the {prod(in_shape)} values of x")
        self.places = {kind: [j for j, (found, _) in enumerate(kinds) if found == kind] for kind, _ in kinds}
        self.sizes = [size for kind, size in kinds if kind == "categorical"]
        for kind, found in self.places.items():
            self.register_buffer(f"places_{kind}", torch.tensor(found), persistent=False)
        self.register_buffer("mean", torch.zeros(self.num))
        self.register_buffer("sd", torch.ones(self.num))
        one_each = sum(len(found) for kind, found in self.places.items() if kind != "categorical")
        both = one_each + len(self.places.get("nonnegative", ())) + sum(self.sizes)
        self.width = both + self.num + prod(in_shape) - self.num  # and who is observed, and what is handed on

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n ..."]) -> None:
        """Takes mean and standard deviation from training data, of what is not missing there."""
        values = self.unbounded(x.flatten(1).double())
        mean = values.nanmean(0).nan_to_num(0.0)
        sd = (values - mean).square().nanmean(0).nan_to_num(0.0).sqrt()
        self.mean.copy_(mean)
        self.sd.copy_(sd.where(sd > 0, 1.0))

    def unbounded(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """x, log x or log(1 + x), by kind; NaN of nonnegative values that are 0."""
        x = x.clone()
        for kind in ("positive", "nonnegative", "count"):
            if kind in self.places:
                places = self.get_buffer(f"places_{kind}")
                values = x.index_select(1, places)
                x[:, places] = values.clamp(min=0).log1p() if kind == "count" else values.where(values > 0, torch.nan).log()
        return x

    def forward(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b width"]:
        x = x.flatten(1)
        x, handed_on = x[:, : self.num], x[:, self.num :]
        observed = ~x.isnan()
        numbers = ((self.unbounded(x) - self.mean) / self.sd).nan_to_num(0.0)
        shown = [numbers.index_select(1, self.get_buffer(f"places_{kind}")) for kind in self.places if kind != "categorical"]
        if "nonnegative" in self.places:
            shown.append((x.index_select(1, self.get_buffer("places_nonnegative")) > 0).to(x))
        if self.sizes:
            codes = x.index_select(1, self.get_buffer("places_categorical"))
            for code, size in zip(codes.unbind(1), self.sizes, strict=True):
                shown.append(one_hot(code.nan_to_num(size).clamp(0, size).long(), size + 1)[:, :size].to(x))
        return torch.cat([*shown, observed.to(x), handed_on], 1)
