"""Functions of a trained model."""

from vaelab.applications.exploration import by_rate, interpolate, manifold, traverse

__all__ = ["by_rate", "interpolate", "manifold", "traverse"]
