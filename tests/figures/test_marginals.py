"""Columns of data against samples: the distances that order them, and what is drawn."""

import numpy as np
import pytest

from vaelab.data.columns import Column
from vaelab.figures.marginals import distance, marginals

WARD = Column("ward", "categorical", ("a", "b", "c"))


def test_distances() -> None:
    """From 0, of equal samples, to 1, of those that share nothing; a shift of a uniform variable by d is d apart."""
    x = np.linspace(0, 1, 1001)
    assert distance(Column("a", "real"), x, x) == 0
    assert distance(Column("a", "real"), x, x + 0.3) == pytest.approx(0.3, abs=2e-3)
    assert distance(Column("a", "positive"), x, x + 2) == 1
    assert distance(WARD, np.array([0.0, 0, 1, 2]), np.array([1.0, 1, 1, 2])) == pytest.approx(0.5)
    assert distance(WARD, np.array([0.0, 0, 1, 2]), np.array([0.7, 1.2, 0.9, 7.0])) == pytest.approx(0.5)  # of a Gaussian likelihood
    assert distance(WARD, np.array([0.0, 1]), np.array([-3.1, 0.6])) == 0


def test_the_worst_fitted_column_is_first() -> None:
    draw = np.random.default_rng(0)
    columns = [Column("good", "real"), Column("bad", "count"), WARD, Column("nothing", "binary", ("no", "yes"))]
    data = np.stack([draw.normal(size=300), draw.poisson(3, 300), draw.integers(3, size=300), np.full(300, np.nan)], 1)
    samples = np.stack([draw.normal(size=300), draw.poisson(9, 300), np.zeros(300), np.ones(300)], 1)
    data[:50, 0] = np.nan
    figure = marginals(columns, data, samples)
    titles = [axes.get_title().split(":")[0] for axes in figure.axes]
    assert titles[:2] == ["bad", "ward"]
    assert set(titles) == {"good", "bad", "ward", "nothing"}
