"""Metrics of the latent space: the dimensions in use, what they tell about x and y, and how far the codes are from the prior."""

from vaelab.metrics.latent.aggregate import aggregate_log_prob
from vaelab.metrics.latent.dimensions import active_units, rate_per_dimension, unit_variances
from vaelab.metrics.latent.discrepancy import mmd_squared, sliced_wasserstein
from vaelab.metrics.latent.probe import probe
from vaelab.metrics.latent.report import latent

__all__ = [
    "active_units",
    "aggregate_log_prob",
    "latent",
    "mmd_squared",
    "probe",
    "rate_per_dimension",
    "sliced_wasserstein",
    "unit_variances",
]
