"""Tensors to tensors. A network knows its shapes and nothing of probability."""

from vaelab.networks.conv import ConvDecoder, ConvEncoder
from vaelab.networks.mlp import MLP

__all__ = ["MLP", "ConvDecoder", "ConvEncoder"]
