"""Evaluation, always at beta = 1 and independent of the objective that a model was trained with."""

from vaelab.metrics.bound import bound
from vaelab.metrics.evaluation import evaluate, evaluate_test_data
from vaelab.metrics.latent import active_units

__all__ = ["active_units", "bound", "evaluate", "evaluate_test_data"]
