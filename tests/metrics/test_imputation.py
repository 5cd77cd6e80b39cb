"""Errors of what is filled in: by hand, of a model of which E[x_m | x_o] is known, and of one that knows the marginals of a table alone."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from linear_gaussian import orthogonal

from vaelab import VAE, likelihoods, posteriors, priors
from vaelab.applications.importance_resampling import importance_resampling
from vaelab.applications.imputation import column_error, imputation, iteratively, means_and_modes
from vaelab.data import DataModule, InMemory, Missing, Table
from vaelab.data.columns import Column
from vaelab.models.missingness import Agnostic
from vaelab.networks import MLP

HIDDEN = torch.tensor([True, False, True, True, False])


@pytest.mark.parametrize(
    ("kind", "guess", "truth", "error"),
    [
        ("real", [1.0, 9, 2, 3, 9], [1.0, -2, 4, 5, 8], math.sqrt(8 / 3) / 10),  # the range is that of the whole column
        ("count", [1.0, 9, 2, 3, 9], [1.0, 0, 4, 5, 10], math.sqrt(8 / 3) / 10),
        ("binary", [1.0, 0, 0, 1, 0], [1.0, 1, 1, 1, 1], 1 / 3),
        ("categorical", [2.0, 0, 0, 1, 0], [1.0, 1, 1, 1, 1], 2 / 3),
        ("ordinal", [3.0, 0, 0, 1, 0], [1.0, 1, 1, 1, 1], 1 / 4),  # (2 + 1 + 0) / 3 of 4 levels
    ],
)
def test_the_error_of_a_column_by_hand(kind: str, guess: list[float], truth: list[float], error: float) -> None:
    column = Column("c", kind, ("a", "b", "c", "d"))
    assert column_error(column, torch.tensor(guess), torch.tensor(truth), HIDDEN) == pytest.approx(error)


def test_a_column_of_one_value_has_no_error_and_cells_of_unknown_truth_have_no_range() -> None:
    column, truth = Column("c", "real"), torch.tensor([2.0, math.nan, 2, 2, math.nan])
    assert column_error(column, torch.full((5,), 2.0), truth, HIDDEN) == 0


def test_means_and_modes_are_of_what_was_observed() -> None:
    columns = [Column("a", "real"), Column("b", "categorical", ("x", "y", "z")), Column("c", "real")]
    x = torch.tensor([[1.0, 2, math.nan], [3, 2, math.nan], [math.nan, 0, math.nan], [5, math.nan, math.nan]])
    assert means_and_modes(x, columns).tolist() == [[3, 2, 0]] * 4


def test_regressions_in_turn_find_a_line_and_round_codes() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(200, 1, generator=draw)
    table = torch.cat([x, 1e4 + 300 * x, (x > 0).float()], 1)
    holes = table.clone()
    holes[:20, 1], holes[20:40, 2], holes[40:60, 0] = torch.nan, torch.nan, torch.nan
    columns = [Column("a", "real"), Column("b", "real"), Column("c", "binary", ("no", "yes"))]
    found = iteratively(holes, columns)
    torch.testing.assert_close(found[:20, 1], table[:20, 1], rtol=0, atol=3)
    assert set(found[:, 2].tolist()) == {0, 1}
    assert (found[20:40, 2] == table[20:40, 2]).float().mean() > 0.8


def test_the_error_is_that_of_the_conditional_mean() -> None:
    """Of x = W z + b + sigma eps, E[x_m | x_o] is known for each pattern of missing values. The wide q covers p(z | x_o) of all of them."""
    torch.manual_seed(0)
    theory = orthogonal()
    model, x = theory.vae((6,), widen=3.0), theory.sample(100)
    model.missing = True
    data = DataModule(lambda split: InMemory(x.float()), [6], 50, transform=Missing(0.4), static_seed=0, missing=True)
    found = imputation(model.float(), data, num_samples=3000)
    split = data.splits["test"]
    shown, truth = (part[torch.arange(100)][0].double() for part in (split, split.untransformed()))
    covariance, errors = theory.weight @ theory.weight.T + theory.sigma**2 * torch.eye(6), []
    for one, whole in zip(shown, truth, strict=True):
        m = one.isnan()
        gain = covariance[m][:, ~m].double() @ torch.linalg.inv(covariance[~m][:, ~m].double())
        errors.append(theory.bias[m] + gain @ (one[~m] - theory.bias[~m]) - whole[m])
    exact = torch.cat(errors).square().mean().sqrt().item()
    assert found["imputation_rmse"] == pytest.approx(exact, rel=0.01)
    assert exact < found["imputation_rmse_of_mean"]
    assert "imputation_rmse_of_expected" not in found  # which values are missing says nothing
    assert found["hidden_share"] == pytest.approx(shown.isnan().double().mean().item())


def test_the_error_of_what_is_expected_given_z_leaves_out_what_the_mask_says_beyond_it() -> None:
    """Of the same model, E[x | z] is on average the regression on x of what is filled in, since a complete x tells all that s does of z."""
    torch.manual_seed(0)
    theory = orthogonal()
    model, x = theory.vae((6,), widen=3.0), theory.sample(100)
    model.missing, model.missingness = True, Agnostic((6,))
    torch.nn.init.normal_(model.missingness.layer.weight)
    data = DataModule(lambda split: InMemory(x.float()), [6], 50, transform=Missing(0.4), static_seed=0, missing=True)
    found = imputation(model.float(), data, num_samples=3000)
    split = data.splits["test"]
    shown, truth = (part[torch.arange(100)][0] for part in (split, split.untransformed()))
    filled = importance_resampling(model, shown, ~shown.isnan(), num_samples=3000).mean
    between = theory.weight @ theory.weight.T
    regression = torch.linalg.solve(between + theory.sigma**2 * torch.eye(6), between)
    expected = theory.bias + (filled - theory.bias) @ regression
    error = (expected - truth)[shown.isnan()].square().mean().sqrt().item()
    assert found["imputation_rmse_of_expected"] == pytest.approx(error, rel=0.01)
    assert found["imputation_rmse_of_expected"] != pytest.approx(found["imputation_rmse"], rel=0.05)


@pytest.fixture
def table(tmp_path: Path) -> DataModule:
    """A real column, one of three words, and one of which nothing is hidden."""
    draw = np.random.default_rng(0)
    lines = [f"{value:.3f},{'aab'[i % 3] if i % 7 else 'c'},{i % 5 - 2.5}" for i, value in enumerate(draw.normal(size=200))]
    (tmp_path / "my.csv").write_text("\n".join(["x,word,left", *lines]) + "\n")
    (tmp_path / "hidden.csv").write_text("".join(f"{row},{1 + row % 2}\n" for row in range(1, 120)))
    read = Table(str(tmp_path / "my.csv"), hidden=str(tmp_path / "hidden.csv"), test_share=0)
    return DataModule(read, [3], 50, missing=True)


def test_a_model_of_the_marginals_fills_in_means_and_modes(table: DataModule) -> None:
    kinds = [column.for_model for column in table.dataset.columns]
    model = VAE(
        posteriors.Gaussian(partial(MLP, hidden=(), input=kinds), (3,), (2,)),
        likelihoods.Mixed(partial(MLP, hidden=()), (2,), (3,), columns=kinds),
        priors.StandardNormal((2,)),
        missing=True,
    )
    table.setup("test")
    x = table.splits["test"].dataset.x
    for part in model.modules():
        if isinstance(part, torch.nn.Linear):
            torch.nn.init.zeros_(part.weight)
            torch.nn.init.zeros_(part.bias)
        if hasattr(part, "initialise"):
            part.initialise(x)
    found = imputation(model, table, num_samples=1000, iterative=True)
    first, second = found["imputation_columns"]
    assert (first["column"], first["kind"], first["hidden"]) == ("x", "real", 59)
    assert (second["column"], second["kind"], second["hidden"]) == ("word", "categorical", 60)
    assert first["error"] == pytest.approx(first["error_of_mean"], rel=1e-5)
    assert second["error"] == second["error_of_mean"] > 0
    assert found["imputation_error"] == pytest.approx((first["error"] + second["error"]) / 2)
    assert "word" in found["imputation_no_better_than_mean"]
    assert found["imputation_error_of_iterative"] > 0
    assert found["hidden_share"] == pytest.approx(119 / 600)


def test_what_was_not_hidden_has_no_error() -> None:
    model = orthogonal().vae((6,)).float()
    data = DataModule(lambda split: InMemory(torch.randn(20, 6)), [6], 5, missing=True)
    with pytest.raises(ValueError, match="no value of the test data was hidden"):
        imputation(model, data, num_samples=2)
