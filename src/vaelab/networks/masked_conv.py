"""Convolutions that see only what comes before, in row-major order (PixelCNN; van den Oord et al., 2016, https://arxiv.org/abs/1601.06759)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.checks import check_at_least, check_choice


class MaskedConv2d(nn.Module):
    """A convolution whose weights are zero for the places after its own, and with mask "A" for its own too; "B" keeps that one.

    Raises:
        ValueError: if the mask is neither.
    """

    mask: Tensor

    def __init__(self, mask: str, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        check_choice(("A", "B"), mask=mask)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        before = torch.zeros(kernel_size, kernel_size)
        before.view(-1)[: kernel_size**2 // 2 + (mask == "B")] = 1  # the middle is number k^2 // 2 of an odd kernel
        self.register_buffer("mask", before, persistent=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        return nn.functional.conv2d(x, self.conv.weight * self.mask, self.conv.bias, padding=self.conv.padding)


class MaskedResidual(nn.Module):
    """x + f(x), with a masked 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.ReLU(), MaskedConv2d("B", channels, channels, 3), nn.ReLU(), nn.Conv2d(channels, channels, 1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.layers(x)


class PixelCNN(nn.Module):
    """(B, C, H, W) -> (B, K, H, W), where each place of the output depends on the places before it only.

    A 7x7 convolution with mask A, residual blocks with mask B, and two layers of one place each.

    Args:
        in_shape: (C, H, W).
        out_shape: (K, H, W).
        channels: of every layer.
        num_layers: how many masked convolutions there are.

    Raises:
        ValueError: if there is no layer, or one without channels.
    """

    def __init__(self, in_shape: Sequence[int], out_shape: Sequence[int], channels: int = 64, num_layers: int = 5) -> None:
        super().__init__()
        check_at_least(1, num_layers=num_layers, channels=channels)
        assert tuple(in_shape[1:]) == tuple(out_shape[1:])
        self.layers = nn.Sequential(
            MaskedConv2d("A", in_shape[0], channels, 7),
            *[MaskedResidual(channels) for _ in range(num_layers - 1)],
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.ReLU(),
            nn.Conv2d(channels, out_shape[0], 1),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        return self.layers(x)
