"""Codes and the factors that they are of, as arrays that the metrics can count on."""

import numpy as np
from jaxtyping import Float, Int, Num
from torch import Tensor

# an underscore: the sizes of what a user hands in are not compared with each other here, but in `paired_codes`, in words
Codes = Float[Tensor, "_n _d"] | Float[np.ndarray, "_n _d"]
Factors = Num[Tensor, "_n _f"] | Num[np.ndarray, "_n _f"]


def array(values: Num[Tensor, "..."] | Num[np.ndarray, "..."]) -> Num[np.ndarray, "..."]:
    """A tensor from any device, or an array, as an array."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values


def code_array(codes: Codes) -> Float[np.ndarray, "_n _d"]:
    """Codes in double precision.

    Raises:
        ValueError: if one of them is not finite.
    """
    values = array(codes).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{(~np.isfinite(values)).any(1).sum()} of {len(values)} codes are not finite: the encoder has diverged")
    return values


def paired_codes(codes: Codes, factors: Factors) -> tuple[Float[np.ndarray, "n d"], Num[np.ndarray, "n f"]]:
    """Codes and factors of the same examples.

    Raises:
        ValueError: if they are not of equally many examples, there are fewer than two codes or factors, a code is not finite, or a
            factor has the same value in all examples.
    """
    z, v = code_array(codes), array(factors)
    if len(z) != len(v):
        raise ValueError(f"there are codes of {len(z)} examples, but factors of {len(v)}")
    if z.shape[1] < 2 or v.shape[1] < 2:
        raise ValueError(
            f"disentanglement compares codes with each other and factors with each other, but there are {z.shape[1]} of the first and"
            f" {v.shape[1]} of the second: it needs two of each"
        )
    constant = np.flatnonzero(v.min(0) == v.max(0))
    if len(constant):
        raise ValueError(
            f"factor {constant[0]} (counted from 0) has the value {v[0, constant[0]]} in all of {len(v)} examples, so nothing can be said"
            " of it: leave it out, or take more examples"
        )
    return z, v


def value_indices(factors: Num[np.ndarray, "n f"]) -> Int[np.ndarray, "n f"]:
    """Each factor's values, numbered from 0 in rising order."""
    return np.stack([np.unique(column, return_inverse=True)[1] for column in factors.T], axis=1)


def split_labels(
    factors: Num[np.ndarray, "n f"], test_factors: Num[np.ndarray, "m f"]
) -> tuple[Int[np.ndarray, "n f"], Int[np.ndarray, "m f"]]:
    """Labels of training and test examples, in which a value has the same number."""
    both = value_indices(np.concatenate([factors, test_factors]))
    return both[: len(factors)], both[len(factors) :]


def varying(codes: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n c"]:
    """The codes that are not the same for all examples."""
    return codes[:, codes.min(0) < codes.max(0)]
