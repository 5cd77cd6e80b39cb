"""Real-valued pixels with outliers: the Student-t VAE (Takahashi et al., 2018, https://www.ijcai.org/proceedings/2018/374)."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Chi2, Distribution
from torch.distributions import StudentT as TorchStudentT
from torch.nn.functional import softplus

from vaelab.conditional import NetworkFactory
from vaelab.distributions import constant
from vaelab.likelihoods.location_scale import LocationScale


class StudentT(LocationScale):
    """p(x | z) = prod_i t(x_i; mu_i(z), s, df), a Gaussian whose variance is itself uncertain; with many degrees of freedom, a Gaussian.

    Args:
        network, in_shape, event_shape, num_classes, scale, min_scale: see `LocationScale`.
        df: the degrees of freedom: a number above 1, so that the mean exists; or "learned", one parameter with df = 1 + softplus.

    Raises:
        ValueError: if df is neither above 1 nor the word, or as for `LocationScale`.
    """

    raw_df: Tensor

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        num_classes: int = 0,
        scale: float | str = "per_pixel",
        min_scale: float = 1e-3,
        df: float | str = "learned",
    ) -> None:
        if df != "learned" and not (isinstance(df, float | int) and 1 < df < float("inf")):
            raise ValueError(f"df={df} must be a number above 1, so that the mean exists, or learned")
        super().__init__(network, in_shape, event_shape, num_classes, scale, min_scale)
        self.df = df
        if df == "learned":
            self.raw_df = nn.Parameter(torch.tensor(3.0))  # df = 4: heavy tails, and a variance

    def family(self, loc: Float[Tensor, "..."], scale: Float[Tensor, "..."]) -> Distribution:
        df = 1 + softplus(self.raw_df) if self.df == "learned" else constant(self.df, loc)
        return UncheckedStudentT(df, loc, scale)


class UncheckedStudentT(TorchStudentT):
    """torch's distribution without its check of df, for which a GPU would wait at every step."""

    def __init__(self, df: Float[Tensor, "..."], loc: Float[Tensor, "..."], scale: Float[Tensor, "..."]) -> None:
        self.df, self.loc, self.scale = torch.broadcast_tensors(df, loc, scale)
        Distribution.__init__(self, self.df.shape, validate_args=False)

    @property
    def _chi2(self) -> Distribution:
        """The distribution whose samples make those of x."""
        return Chi2(self.df, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "UncheckedStudentT":
        return UncheckedStudentT(self.df.expand(batch_shape), self.loc.expand(batch_shape), self.scale.expand(batch_shape))
