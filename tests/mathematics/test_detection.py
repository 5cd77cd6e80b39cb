"""How well scores tell anomalies, on laws whose curves are known."""

import math

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor
from torch.distributions import Normal

from vaelab.applications.detection import delong, detection

STANDARD = Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())


def joined(anomalies: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([anomalies, normals]), torch.arange(len(anomalies) + len(normals)) < len(anomalies)


def normals(num_anomalies: int, num_normal: int, distance: float) -> tuple[Tensor, Tensor]:
    """Scores N(0, 1) of normal examples and N(distance, 1) of anomalies."""
    return joined(torch.randn(num_anomalies).double() + distance, torch.randn(num_normal).double())


def assert_within_errors(report: dict[str, float], name: str, expected: float) -> None:
    assert abs(report[name] - expected) < 5 * report[f"{name}_std_error"], (report[name], expected)


@pytest.mark.parametrize("distance", [0.0, 0.5, 1.0, 2.0, -1.0])
def test_two_normal_laws(distance: float) -> None:
    """AUROC = P(s > s') = Phi(d / sqrt 2), and FPR = 1 - Phi(d + Phi^-1(0.05)); the standard errors are small enough to tell."""
    report = detection(*normals(4_000, 6_000, distance))
    assert_within_errors(report, "auroc", STANDARD.cdf(torch.tensor(distance / math.sqrt(2))).item())
    quantile = STANDARD.icdf(torch.tensor(0.05).double())
    assert_within_errors(report, "fpr_at_95_tpr", 1 - STANDARD.cdf(quantile + distance).item())
    assert report["auroc_std_error"] < 0.01
    assert report["fpr_at_95_tpr_std_error"] < 0.02


@pytest.mark.parametrize("shift", [0.1, 0.5, 0.9])
def test_two_uniform_laws(shift: float) -> None:
    """Of U(a, 1 + a) against U(0, 1), equally many, the area is a + (1 - a) / 2 + (a / 4) ln((2 - a) / a)."""
    report = detection(*joined(torch.rand(5_000).double() + shift, torch.rand(5_000).double()))
    assert_within_errors(report, "average_precision", shift + (1 - shift) / 2 + shift / 4 * math.log((2 - shift) / shift))
    assert_within_errors(report, "auroc", 1 - (1 - shift) ** 2 / 2)
    assert report["average_precision_std_error"] < 0.01


@pytest.mark.parametrize("num_values", [2, 7, 10_000])
def test_ties_are_counted_as_others_count_them(num_values: int) -> None:
    """By all pairs, and against scikit-learn."""
    scores, is_anomaly = normals(80, 170, 0.7)
    scores = (scores * num_values / 8).round()
    report = detection(scores, is_anomaly)
    differences = scores[is_anomaly][:, None] - scores[~is_anomaly]
    assert report["auroc"] == pytest.approx((differences.sign() / 2 + 0.5).mean().item(), rel=1e-12)
    assert report["auroc"] == pytest.approx(roc_auc_score(is_anomaly, scores), rel=1e-12)
    assert report["average_precision"] == pytest.approx(average_precision_score(is_anomaly, scores), rel=1e-12)
    false, true, _ = roc_curve(is_anomaly, scores, drop_intermediate=False)
    assert report["fpr_at_95_tpr"] == pytest.approx(false[true >= 0.95].min(), rel=1e-12)


def test_an_example_by_hand() -> None:
    """Anomalies 3 and 1, normal examples 2 and 0: V = 1, 1/2 and 1/2, 1, each of variance 1/8."""
    auroc, error = delong(torch.tensor([3, 1]), torch.tensor([2, 0]))
    assert auroc == 0.75
    assert error == pytest.approx(math.sqrt(1 / 8 / 2 + 1 / 8 / 2), rel=1e-12)
    report = detection(*joined(torch.tensor([3.0, 1.0]), torch.tensor([2.0, 0.0])))
    assert report["average_precision"] == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3, rel=1e-12)
    assert report["fpr_at_95_tpr"] == 0.5


def test_ninety_five_per_cent_are_counted_exactly() -> None:
    """19 of 20 anomalies are reached by 2, which two of four normal examples reach; of 21, all but one are 95.2 %."""
    for num, reached in ((20, 2.0), (21, 2.0), (19, 1.0)):
        anomalies = torch.arange(1.0, num + 1)
        report = detection(*joined(anomalies, torch.tensor([reached - 0.5, reached - 0.5, reached, 99.0])))
        assert report["fpr_at_95_tpr"] == 0.5


def test_the_error_of_the_area_is_that_of_uniform_shares() -> None:
    """Of equal laws V is uniform, of variance 1/12: the standard error is sqrt(1 / 12m + 1 / 12n)."""
    found = detection(*normals(20_000, 5_000, 0.0), num_bootstrap=2)["auroc_std_error"]
    assert found == pytest.approx(math.sqrt(1 / 12 / 20_000 + 1 / 12 / 5_000), rel=0.01)


def test_errors_are_the_spread_over_new_data() -> None:
    """Over 400 sets of examples; a standard deviation of so many is known to 3.5 %."""
    reports = [detection(*normals(60, 90, 1.0), num_bootstrap=50) for _ in range(400)]
    for name in ("auroc", "average_precision", "fpr_at_95_tpr"):
        values, errors = (torch.tensor([report[key] for report in reports]) for key in (name, f"{name}_std_error"))
        assert values.std() / errors.square().mean().sqrt() == pytest.approx(1, abs=5 * 0.035)


def test_only_the_order_counts() -> None:
    scores, is_anomaly = normals(50, 60, 1.0)
    torch.manual_seed(1)
    report = detection(scores, is_anomaly)
    highest = scores.argmax()
    for other in (3 * scores - 7, scores.exp(), scores.index_fill(0, highest, math.inf), scores.index_fill(0, scores.argmin(), -math.inf)):
        torch.manual_seed(1)
        assert detection(other, is_anomaly) == report
    negated = detection(-scores, is_anomaly)
    assert negated["auroc"] == pytest.approx(1 - report["auroc"], rel=1e-12)
    assert negated["auroc_std_error"] == pytest.approx(report["auroc_std_error"], rel=1e-12)


def test_scores_that_know_everything_and_nothing() -> None:
    scores, is_anomaly = joined(torch.tensor([5.0, math.inf, math.inf]), torch.arange(4.0))
    perfect = {"auroc": 1, "average_precision": 1, "fpr_at_95_tpr": 0}
    assert detection(scores, is_anomaly) == perfect | {f"{name}_std_error": 0 for name in perfect}
    nothing = detection(torch.zeros(7), is_anomaly)
    assert (nothing["auroc"], nothing["fpr_at_95_tpr"]) == (0.5, 1)
    assert nothing["average_precision"] == pytest.approx(3 / 7)
    wrong = detection(-scores, is_anomaly)
    assert (wrong["auroc"], wrong["fpr_at_95_tpr"]) == (0, 1)


@pytest.mark.parametrize(
    ("scores", "num_anomalies", "message"),
    [
        ([1.0, math.nan, 2.0, math.nan], 2, "2 of 4 scores are not a number"),
        ([1.0, 2.0, 3.0], 1, "at least 2 anomalies and 2 normal examples are needed: there are 1 and 2"),
        ([1.0, 2.0, 3.0], 3, "at least 2 anomalies and 2 normal examples are needed: there are 3 and 0"),
    ],
)
def test_what_cannot_be_judged_is_refused(scores: list[float], num_anomalies: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detection(torch.tensor(scores), torch.arange(len(scores)) < num_anomalies)
