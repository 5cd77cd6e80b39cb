"""What the hardware likes: faster networks that compute the same, up to the rounding of bfloat16."""

import torch
from torch import nn

from vaelab.conditional import Conditional


def accelerate(model: nn.Module, channels_last: bool = False, bf16: bool = False, compile: bool = False) -> None:
    """Changes how the networks of a model run, in place; its parameters, their names and its probabilities stay float32.

    Args:
        model: any module that holds `Conditional`s.
        channels_last: keeps convolution weights in (O, H, W, I) order, which convolutions then also use for their output.
        bf16: runs the networks under autocast to bfloat16.
        compile: runs torch.compile on the networks. It is done in place, so that a checkpoint's keys do not change.
    """
    for part in model.modules():
        if isinstance(part, Conditional):
            if channels_last:
                part.network.to(memory_format=torch.channels_last)
            if bf16:
                part.autocast = torch.bfloat16
            if compile:
                part.network.compile()
