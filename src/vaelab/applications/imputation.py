"""Missing values of test data, filled in and held against what they are."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vaelab.applications.importance_resampling import importance_resampling
from vaelab.checks import WITH_CATEGORIES
from vaelab.evidence import decodings_at_once
from vaelab.metrics.data import Data
from vaelab.models import Model

NUM_DRAWS = 100  # of each row of a table, whose most frequent code is the guess of a category
AS_CLASSES = ("categorical", "binary")  # of columns: a guess is right or wrong


@runtime_checkable
class TableColumn(Protocol):
    """A column of a table: its name, its kind (see `vaelab.checks.KINDS`), and the values of its codes."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def values(self) -> tuple[str, ...]: ...


@torch.no_grad()
def imputation(model: Model, data: Data, num_samples: int = 1000, iterative: bool = False) -> dict[str, Any]:
    """Errors of what is filled in where values of test data were hidden: by a transform, such as `vaelab.data.Missing`, or by data.hidden.

    A guess is E[x_m | x_o] by importance sampling (Mattei & Frellsen, 2019), and of the codes of a table the most frequent of 100 draws.

    - imputation_rmse: root mean square error over all hidden values, of x as models see them;
    - imputation_rmse_of_mean: that of the mean of what was observed of each value of x;
    - imputation_rmse_of_expected: with a model of which values are missing, that of the mean of E[x_m | z] under p(z | x_o, s), which
      Ipsen et al. (2021, https://arxiv.org/abs/2006.12871) report. It leaves out what s says of x_m given z, and imputation_rmse does not;
    - hidden_share: of all values.

    Of a table, the error of each column is free of units, as in HI-VAE (Nazabal et al., 2018, https://arxiv.org/abs/1807.03653), and takes
    the place of the first two; see `column_error`:

    - imputation_error: the mean over the columns that have hidden cells; _of_mean: of the column's mean, or its most frequent code;
      _of_iterative: of scikit-learn's IterativeImputer, if `iterative`;
    - imputation_columns: the same for each column, and how many of its cells are hidden;
    - imputation_no_better_than_mean: the names of columns whose error is not below that of the mean.

    Args:
        model: of data with missing values.
        data: whose test data are filled in.
        num_samples: of z for each example.
        iterative: whether a table is also filled in by scikit-learn.

    Raises:
        ValueError: if nothing was hidden, or as `importance_resampling`.
    """
    data.setup("test")
    split, device = data.splits["test"], model.device
    columns: Sequence[TableColumn] = split.modality.columns
    coded = [j for j, column in enumerate(columns) if is_coded(column)]
    whole, guesses, truths, seen, expected = split.untransformed(), list[Tensor](), list[Tensor](), list[Tensor](), list[Tensor]()
    at_once = max(1, decodings_at_once(split.scaled(torch.arange(1), device)[0]) // num_samples)
    for batch in torch.arange(len(split)).split(at_once):
        (x, y), (truth, _) = split.scaled(batch, device), whole.scaled(batch, device)
        found = importance_resampling(model, x, ~x.isnan(), y, NUM_DRAWS if coded else 1, num_samples)
        guess = found.mean
        guess[:, coded] = found.x[..., coded].mode(0).values
        for parts, part in ((guesses, guess), (truths, truth), (seen, x)):
            parts.append(part.cpu())
        if found.mean_of_expected is not None:
            expected.append(found.mean_of_expected.cpu())
    guess, truth, x = torch.cat(guesses), torch.cat(truths), torch.cat(seen)
    hidden = x.isnan() & ~truth.isnan()
    if not bool(hidden.any()):
        raise ValueError(
            "no value of the test data was hidden: set +data.transform._target_=vaelab.data.Missing and data.static_seed=0, or, of a table,"
            " data.hidden=<file of rows and columns>"
        )
    share = {"hidden_share": hidden.double().mean().item()}
    if not columns:
        of_mean = x.nanmean(0).nan_to_num(0.0)
        ways = {"": guess, "_of_mean": of_mean} | ({"_of_expected": torch.cat(expected)} if expected else {})
        return {**{f"imputation_rmse{way}": rmse((each - truth)[hidden]) for way, each in ways.items()}, **share}
    ways = {"": guess, "_of_mean": means_and_modes(x, columns)} | ({"_of_iterative": iteratively(x, columns)} if iterative else {})
    rows: list[dict[str, Any]] = [
        {
            "column": column.name,
            "kind": column.kind,
            "hidden": int(hidden[:, j].sum()),
            **{f"error{way}": column_error(column, values[:, j], truth[:, j], hidden[:, j]) for way, values in ways.items()},
        }
        for j, column in enumerate(columns)
        if bool(hidden[:, j].any())
    ]
    return {
        **{f"imputation_error{way}": sum(row[f"error{way}"] for row in rows) / len(rows) for way in ways},
        "imputation_columns": rows,
        "imputation_no_better_than_mean": [row["column"] for row in rows if row["error"] >= row["error_of_mean"]],
        **share,
    }


def column_error(column: TableColumn, guess: Float[Tensor, "n"], truth: Float[Tensor, "n"], hidden: Bool[Tensor, "n"]) -> float:
    """The error of the hidden cells of a column, between 0 and about 1.

    - categorical, binary: the share of wrong guesses;
    - ordinal: the mean of |guess - truth| of the codes, divided by their number;
    - others: the root mean square error, divided by the range of the whole column.
    """
    error = (guess - truth)[hidden]
    if column.kind in AS_CLASSES:
        return (error != 0).double().mean().item()
    if column.kind == "ordinal":
        return error.abs().mean().item() / len(column.values)
    known = truth[~truth.isnan()]
    return rmse(error) / ((known.max() - known.min()).item() or 1.0)


def means_and_modes(x: Float[Tensor, "n d"], columns: Sequence[TableColumn]) -> Float[Tensor, "n d"]:
    """The mean of what was observed of each column, or its most frequent code, in every row."""
    filled = x.nanmean(0).nan_to_num(0.0)
    for j, column in enumerate(columns):
        if is_coded(column):
            codes = x[~x[:, j].isnan(), j].long()
            filled[j] = codes.bincount(minlength=1).argmax()
    return filled.expand_as(x)


def iteratively(x: Float[Tensor, "n d"], columns: Sequence[TableColumn]) -> Float[Tensor, "n d"]:
    """Tables filled in by scikit-learn's IterativeImputer: Bayesian ridge regressions of each column on all others, in turn.

    Codes are numbers to it, standardised as all columns are, and its guesses of them are rounded.
    """
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # which makes the next line work
    from sklearn.impute import IterativeImputer

    mean = x.nanmean(0).nan_to_num(0.0)
    sd = (x - mean).square().nanmean(0).sqrt()
    sd = sd.where(sd > 0, 1.0)
    filled = IterativeImputer(random_state=0, keep_empty_features=True).fit_transform(((x - mean) / sd).numpy())
    guesses = torch.from_numpy(filled).to(x.dtype) * sd + mean
    for j, column in enumerate(columns):
        if is_coded(column):
            guesses[:, j] = guesses[:, j].round().clamp(0, len(column.values) - 1)
    return guesses


def is_coded(column: TableColumn) -> bool:
    """True if the numbers of a column are codes of its values."""
    return column.kind in (*WITH_CATEGORIES, "binary")


def rmse(errors: Float[Tensor, "n"]) -> float:
    """The root of the mean of squares."""
    return errors.square().mean().sqrt().item()
