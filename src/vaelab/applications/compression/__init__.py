"""Lossless compression with a trained model."""

from vaelab.applications.compression.code_length import code_length, minus_elbo
from vaelab.applications.compression.codec import Codec, Coded
from vaelab.applications.compression.levels import levels_of, values_of

__all__ = ["Codec", "Coded", "code_length", "levels_of", "minus_elbo", "values_of"]
