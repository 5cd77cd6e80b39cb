"""Initial weights that keep the size of a signal from layer to layer (He et al., 2015, https://arxiv.org/abs/1502.01852)."""

from collections.abc import Callable
from math import pi, prod, sqrt

import torch
from torch import nn


def gain(activation: Callable[[], nn.Module]) -> float:
    """1 / sqrt(E[phi(u)^2]) with u ~ N(0, 1), of the activation phi: sqrt(2) for ReLU, 1 for the identity, 1.59 for tanh.

    A layer of fan_in inputs phi(u), weights from N(0, gain^2 / fan_in) and no bias has outputs of variance 1 again.
    """
    u = torch.linspace(-8, 8, 4097, device="cpu")
    density = (-u.square() / 2).exp() / sqrt(2 * pi)
    with torch.no_grad():
        values = activation().eval()(u.unsqueeze(1)).squeeze(1)
    return torch.trapezoid(density * values.square(), u).rsqrt().item()


def fan_in(layer: nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d) -> float:
    """Number of inputs that reach an output, on average: a transposed convolution of stride 2 puts zeros between its inputs."""
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d):
        return layer.weight[:, 0].numel() / prod(layer.stride)
    return layer.weight[0].numel()


def keep_signal(network: nn.Module, activation: Callable[[], nn.Module] = nn.ReLU, but_last: bool = False) -> None:
    """Starts linear layers and convolutions with weights and biases from N(0, gain^2 / (fan_in + 1)).

    A bias is the weight of one more input, which is 1. Without biases, all hinges of a ReLU network pass through 0: a decoder of three
    latents, whose z lie around 0, could tell directions apart at first, but no distances.

    Each ReLU layer of torch's own initialisation makes the part of its output that depends on x six times smaller in variance. A VAE of
    two or three layers learns more slowly for it, and leaves some of z unused; the features at the top of a ladder become constants, and
    z_L is pruned before it could learn.

    Args:
        network: whose layers are in the order in which they are applied.
        activation: before each of them.
        but_last: whether the last layer, whose outputs are parameters of a distribution, stays as it is.
    """
    kinds = nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d
    layers = [layer for layer in network.modules() if isinstance(layer, kinds)]
    for layer in layers[: len(layers) - but_last]:
        std = gain(activation) / sqrt(fan_in(layer) + (layer.bias is not None))
        nn.init.normal_(layer.weight, std=std)
        if layer.bias is not None:
            nn.init.normal_(layer.bias, std=std)
