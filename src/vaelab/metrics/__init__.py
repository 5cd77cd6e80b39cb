"""Evaluation, always at beta = 1 and independent of the objective that a model was trained with."""

from vaelab.evidence import Evidence, bits_per_dim, importance_weighted
from vaelab.metrics.bound import bound
from vaelab.metrics.evaluation import evaluate, evaluate_test_data, mean_bound
from vaelab.metrics.latent import active_units

__all__ = ["Evidence", "active_units", "bits_per_dim", "bound", "evaluate", "evaluate_test_data", "importance_weighted", "mean_bound"]
