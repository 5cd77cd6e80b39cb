"""Samples of a model against data that are no pictures: a test by a classifier, and distances of single values of x."""

from vaelab.metrics.two_sample.auc import Area, area_under_curve
from vaelab.metrics.two_sample.classifier import cross_fitted_auc
from vaelab.metrics.two_sample.marginals import total_variation, wasserstein
from vaelab.metrics.two_sample.report import two_sample

__all__ = ["Area", "area_under_curve", "cross_fitted_auc", "total_variation", "two_sample", "wasserstein"]
