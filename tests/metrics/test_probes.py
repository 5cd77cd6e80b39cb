"""What is read off codes: everything, nothing, or what is known to be in between."""

import pytest
import torch
from torch import Tensor

from vaelab.metrics.latent import probe

pytestmark = pytest.mark.usefixtures("double")


def corners(num: int) -> tuple[Tensor, Tensor]:
    """Points around the corners of a square, and which corner: 0, 1, 2, 3."""
    corner = torch.arange(num) % 4
    return torch.stack([corner % 2, corner // 2], dim=1) + 0.05 * torch.randn(num, 2), corner


def test_classes_that_lie_apart_are_read_off():
    """Also by few neighbours, whatever shape z has; the most frequent of four equal classes is right a quarter of the time."""
    (z, y), (test, truth) = corners(200), corners(80)
    report = probe(z.reshape(200, 1, 2), y, test.reshape(80, 1, 2), truth, num_neighbours=1)
    assert report["linear_probe_accuracy"] == report["knn_accuracy"] == 1
    assert report["linear_probe_accuracy_std_error"] == 0
    assert report["majority_accuracy"] == 0.25
    assert report["majority_accuracy_std_error"] == pytest.approx((0.25 * 0.75 / 79) ** 0.5)
    assert (report["probe_train_num_examples"], report["probe_test_num_examples"]) == (200, 80)
    assert report["linear_probe_accuracy_per_factor"] is report["linear_probe_r2"] is None


def test_codes_that_are_independent_of_the_classes_tell_nothing():
    """Half of two classes, within 5 standard errors."""
    report = probe(torch.randn(1000, 3), torch.randint(2, (1000,)), torch.randn(1000, 3), torch.randint(2, (1000,)))
    for name in ("linear_probe", "knn", "majority"):
        assert abs(report[f"{name}_accuracy"] - 0.5) < 5 * report[f"{name}_accuracy_std_error"]
        assert report[f"{name}_accuracy_std_error"] == pytest.approx(0.5 / 1000**0.5, rel=0.01)


def test_exclusive_or_is_for_neighbours_and_not_for_lines():
    """No line has more than three of four corners on their sides, and the best without a preference has two."""
    (z, y), (test, truth) = corners(400), corners(400)
    report = probe(z, (y == 1) | (y == 2), test, (truth == 1) | (truth == 2))
    assert report["knn_accuracy"] == 1
    assert report["linear_probe_accuracy"] <= 0.75


def test_the_linear_probe_does_not_see_the_scale_of_a_dimension():
    """A dimension a thousand times smaller tells as much; for neighbours, which live in z, it does not."""
    (z, y), (test, truth) = corners(200), corners(80)
    z, test = torch.cat([z, torch.randn(200, 1)], 1), torch.cat([test, torch.randn(80, 1)], 1)
    small = torch.tensor([1e-3, 1e-3, 1.0])
    report = probe(z * small, y, test * small, truth)
    assert report["linear_probe_accuracy"] == probe(z, y, test, truth)["linear_probe_accuracy"] == 1
    assert report["knn_accuracy"] < 0.6


def test_each_factor_by_itself():
    """The first factor is read off, the second not at all, the third is always 0, and the report has their mean."""
    (z, y), (test, truth) = corners(400), corners(400)
    noise, other = torch.randint(2, (400,)), torch.randint(2, (400,))
    zero = torch.zeros(400, dtype=torch.long)
    report = probe(z, torch.stack([y, noise, zero], 1), test, torch.stack([truth, other, zero], 1))
    first, second, third = report["linear_probe_accuracy_per_factor"]
    assert first == third == report["knn_accuracy_per_factor"][2] == 1
    assert abs(second - 0.5) < 5 * 0.5 / 20
    assert report["linear_probe_accuracy"] == pytest.approx((first + second + third) / 3)
    assert report["majority_accuracy_per_factor"][0] == 0.25


def test_real_factors_have_an_r_squared():
    """y = a z has 1; y = z + e with Var z = Var e has 1/2, +-5 sd of R^2 = 1 - (1 - rho^2), (1 - rho^2) 2 rho / sqrt(M) for normal y."""
    z, test = torch.randn(4000, 2), torch.randn(4000, 2)
    weights = torch.tensor([[2.0], [-1.0]])

    def factors(z: Tensor) -> Tensor:
        return torch.cat([z @ weights + 3, z[:, :1] + torch.randn(len(z), 1)], dim=1)

    report = probe(z, factors(z), test, factors(test))
    exact, half = report["linear_probe_r2_per_factor"]
    assert exact == pytest.approx(1, abs=1e-12)
    assert abs(half - 0.5) < 5 * (1 - 0.5) * 2 * 0.5**0.5 / 4000**0.5
    assert report["linear_probe_r2"] == pytest.approx((exact + half) / 2)
    assert report["linear_probe_accuracy"] is report["knn_accuracy"] is None
    single = probe(z, z[:, 0], test, test[:, 0])
    assert single["linear_probe_r2"] == pytest.approx(1, abs=1e-12)
    assert single["linear_probe_r2_per_factor"] is None


@pytest.mark.parametrize(("train", "test"), [(0, 5), (8, 0)])
def test_without_examples_nothing_is_known(train, test):
    """None, and the sizes; so it is where all have one class."""
    report = probe(torch.randn(train, 2), torch.arange(train), torch.randn(test, 2), torch.arange(test))
    assert {value for name, value in report.items() if "num_examples" not in name} == {None}
    same = probe(torch.randn(8, 2), torch.ones(8, dtype=torch.long), torch.randn(8, 2), torch.ones(8, dtype=torch.long))
    assert {value for name, value in same.items() if "num_examples" not in name} == {None}


@pytest.mark.parametrize(("num_neighbours", "accuracy"), [(1, 1.0), (3, 0.5)])
def test_the_nearest_neighbours_vote(num_neighbours, accuracy):
    """0.4 is nearest to 0, of class 0, but two of its three nearest are of class 1, as 1.1 is."""
    z, y = torch.tensor([[0.0], [1.0], [1.2], [-9.0]]), torch.tensor([0, 1, 1, 0])
    assert probe(z, y, torch.tensor([[0.4], [1.1]]), torch.tensor([0, 1]), num_neighbours)["knn_accuracy"] == accuracy


@pytest.mark.parametrize("num_neighbours", [0, 9])
def test_more_neighbours_than_there_are(num_neighbours):
    """The message gives both numbers."""
    with pytest.raises(ValueError, match=f"num_neighbours={num_neighbours} must be from 1 to.*8"):
        probe(torch.randn(8, 2), torch.arange(8), torch.randn(3, 2), torch.arange(3), num_neighbours)
