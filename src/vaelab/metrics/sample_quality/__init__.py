"""Distances between samples of a model and data, in a space of features."""

from vaelab.metrics.sample_quality.frechet import frechet_distance
from vaelab.metrics.sample_quality.kernel import kernel_distance
from vaelab.metrics.sample_quality.manifold import density_coverage, precision_recall
from vaelab.metrics.sample_quality.report import sample_quality

__all__ = ["density_coverage", "frechet_distance", "kernel_distance", "precision_recall", "sample_quality"]
