"""Invertible maps of z with the log-determinant of their Jacobian: (z0, context) -> (z, log |det dz/dz0|)."""

from vaelab.flows.autoregressive import Autoregressive, Spline, autoregressive_density, coupling_density
from vaelab.flows.planar import Planar
from vaelab.flows.sylvester import Sylvester

__all__ = ["Autoregressive", "Planar", "Spline", "Sylvester", "autoregressive_density", "coupling_density"]
