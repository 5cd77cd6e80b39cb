"""Two samples: areas and distances in closed form, the coverage of the interval, and what is reported of a model."""

from math import erf, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vaelab import VAE
from vaelab.data import DataModule, InMemory
from vaelab.data.columns import Column
from vaelab.metrics.two_sample import area_under_curve, cross_fitted_auc, total_variation, two_sample, wasserstein


def phi(t: float) -> float:
    return (1 + erf(t / sqrt(2))) / 2


@pytest.mark.parametrize("far", [0.0, 0.7, 2.0])
def test_the_area_of_two_normal_laws(far: float) -> None:
    """Scores x of N(0, 1) and N(d, 1), by which the best classifier goes: Phi(d / sqrt 2), within the interval as often as it says."""
    draw, inside = np.random.default_rng(0), 0
    for _ in range(1000):
        low, high = area_under_curve(far + draw.normal(size=80), draw.normal(size=120)).interval()
        inside += low <= phi(far / sqrt(2)) <= high
    assert abs(inside / 1000 - 0.95) < 3 * sqrt(0.95 * 0.05 / 1000) + 0.01  # the quantile is that of the normal law, of 80 scores


def test_the_area_is_a_share_of_pairs() -> None:
    """P(s > s') + P(s = s') / 2 over all pairs, with ties; the variance that of the shares of each score (DeLong et al., 1988)."""
    draw = np.random.default_rng(1)
    positive, negative = draw.integers(6, size=23).astype(float), draw.integers(5, size=17).astype(float)
    pairs = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    found = area_under_curve(positive, negative)
    assert found.value == pytest.approx(pairs.mean())
    assert found.variance == pytest.approx(pairs.mean(1).var(ddof=1) / 23 + pairs.mean(0).var(ddof=1) / 17)
    assert area_under_curve(np.array([2.0, 3.0]), np.array([0.0, 1.0])).interval() == [1.0, 1.0]
    with pytest.raises(ValueError, match="needs 2 scores of each class, but there are 1 and 17"):
        area_under_curve(positive[:1], negative)


def test_trees_come_near_the_best_classifier() -> None:
    """N(0, 1) and N(1.5, 1) in one of three columns, of 4,000 rows each: at most Phi(1.5 / sqrt 2), and not much less."""
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(2, 4000, 3))
    b[:, 1] += 1.5
    found, best = cross_fitted_auc(a, b), phi(1.5 / sqrt(2))
    assert best - 0.03 < found.value < best + 3 * sqrt(found.variance)


def test_equal_laws_cannot_be_told_apart() -> None:
    """0.5 in the mean, and as far from it as the variance says, with missing values and categories, although folds are not independent."""
    draw, areas, num = np.random.default_rng(0), [], 30
    for _ in range(num):
        a, b = (np.stack([draw.normal(size=50), draw.integers(5, size=50)], 1) for _ in range(2))
        hidden = draw.random((50, 2)) < 0.3
        a[hidden] = b[hidden] = np.nan
        areas.append(cross_fitted_auc(a, b, [0, 5], num_folds=3))
    standard = np.array([(area.value - 0.5) / sqrt(area.variance) for area in areas])
    assert abs(standard.mean()) < 3 / sqrt(num)
    assert abs(np.square(standard).mean() - 1) < 3 * sqrt(2 / num)


def test_categories_have_no_order() -> None:
    """Codes that only a tree which takes them for numbers would have to cut one by one are told apart in one cut."""
    draw = np.random.default_rng(0)
    a, b = 2.0 * draw.integers(20, size=(300, 1)), 2.0 * draw.integers(20, size=(300, 1)) + 1
    assert cross_fitted_auc(a, b, [40]).value == 1


def test_a_shift_is_as_far_as_it_says() -> None:
    """W_1 of x and x + d is d, in standard deviations d / s; of scaled normal laws, |s - t| E|x|."""
    x = np.random.default_rng(0).normal(3, 2, size=5000)
    assert wasserstein(x, x + 0.5) == pytest.approx(0.5 / x.std())
    assert wasserstein(x, np.append(x + 0.5, np.nan)) == wasserstein(x, x + 0.5)
    centred = x - x.mean()
    assert wasserstein(centred, 3 * centred) == pytest.approx(2 * np.abs(centred).mean() / x.std())
    assert wasserstein(np.ones(3), np.full(3, 5.0)) == 4
    assert np.isnan(wasserstein(np.full(3, np.nan), x))


def test_shares_of_codes() -> None:
    """(|1/2 - 1/4| + |1/2 - 1/2| + |0 - 1/4|) / 2 = 1/4."""
    a, b = np.array([0.0, 0.0, 1.0, 1.0, np.nan]), np.array([0.0, 1.0, 1.0, 2.0])
    assert total_variation(a, b) == total_variation(b, a) == 0.25
    assert total_variation(a, a) == 0
    assert total_variation(np.array([0.0, 1.0]), np.array([-2.2, 0.9])) == 0.5
    assert total_variation(np.zeros(3), np.ones(2)) == 1


class Sampler(VAE):
    """A model without parts, whose samples are N(shift, 1), and codes with equal shares."""

    def __init__(self, shift: float) -> None:
        super().__init__(nn.Identity(), nn.Identity(), nn.Identity())
        self.shift = nn.Parameter(torch.tensor(shift))

    def sample(self, num: int, y: Any = None, mean: bool = False) -> Tensor:
        assert not mean
        return torch.stack([torch.randn(num) + self.shift.item(), torch.randint(3, (num,)).float()], 1)


def of_rows(holes: float = 0.2) -> DataModule:
    def rows(split: str) -> InMemory:
        x = Sampler(0.0).sample(1200 if split == "train" else 400)
        return InMemory(x.masked_fill(torch.rand_like(x) < holes, torch.nan))

    data = DataModule(rows, shape=[2], val_size=100, missing=True)
    data.modality.columns = (Column("height", "real"), Column("ward", "categorical", ("a", "b", "c")))
    return data


def test_what_is_reported_of_a_model() -> None:
    good, bad = (two_sample(Sampler(shift), of_rows()) for shift in (0.0, 2.0))
    assert good["two_sample_num_examples"] == 400
    for found in (good, bad):
        low, high = found["two_sample_auc_of_train_ci"]
        assert low < 0.5 < high
        assert found["marginal_distances"] == {"height": found["wasserstein"], "ward": found["total_variation"]}
    assert good["two_sample_auc_ci"][0] < 0.5 < good["two_sample_auc_ci"][1]
    assert good["wasserstein"] < 0.25
    best = phi(2 / sqrt(2)) * 0.8 + 0.5 * 0.2  # where height is missing, nothing tells
    assert best - 0.06 < bad["two_sample_auc"] < best + 0.03
    assert bad["wasserstein"] == pytest.approx(2, abs=0.25)
    assert bad["worst_columns"].startswith("height ")


def test_pictures_have_another_metric() -> None:
    data = DataModule(lambda split: InMemory(torch.rand(60, 1, 8, 8)), shape=[1, 8, 8], val_size=20)
    with pytest.raises(ValueError, match=r"of pictures, choose metrics=\[sample_quality\]"):
        two_sample(Sampler(0.0), data)
    with pytest.raises(ValueError, match="num_samples=9 must be at least 10"):
        two_sample(Sampler(0.0), of_rows(), num_samples=9)
    with pytest.raises(ValueError, match="split=train is unknown: choose test or val"):
        two_sample(Sampler(0.0), of_rows(), split="train")
