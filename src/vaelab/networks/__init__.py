"""Tensors to tensors. A network knows its shapes and nothing of probability."""

from vaelab.networks.conv import ConvDecoder, ConvEncoder
from vaelab.networks.conv1d import Conv1dDecoder, Conv1dEncoder
from vaelab.networks.conv_ladder import ConvLadder
from vaelab.networks.ladder import DenseLadder
from vaelab.networks.ldm import LDMDecoder, LDMEncoder
from vaelab.networks.mlp import MLP
from vaelab.networks.resnet import ResNetDecoder, ResNetEncoder
from vaelab.networks.transformer import CausalTransformer

__all__ = [
    "MLP",
    "CausalTransformer",
    "Conv1dDecoder",
    "Conv1dEncoder",
    "ConvDecoder",
    "ConvEncoder",
    "ConvLadder",
    "DenseLadder",
    "LDMDecoder",
    "LDMEncoder",
    "ResNetDecoder",
    "ResNetEncoder",
]
