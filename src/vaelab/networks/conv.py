"""Strided convolutions down, transposed convolutions up, for any number of channels and any image size.

Each 3x3 layer of stride 2 turns side s into ceil(s / 2). The decoder walks the same sides backwards, and its output padding
restores the odd ones exactly, so nothing is cropped or interpolated. With channels 32-64-128-256-512, batch-norm and leaky ReLU
these are the layers of the well-known 64x64 convolutional VAE.
"""

from collections.abc import Callable, Sequence
from math import prod

from jaxtyping import Float
from torch import Tensor, nn

from vaelab.networks.inputs import input_layer


def halvings(side: int, times: int) -> list[int]:
    """[side, ceil(side / 2), ceil(side / 4), ...], with times + 1 entries."""
    sides = [side]
    for _ in range(times):
        sides.append((sides[-1] + 1) // 2)
    return sides


def image_shape(shape: Sequence[int], name: str) -> tuple[int, int, int]:
    """The three numbers of an image shape.

    Raises:
        ValueError: if there are not three.
    """
    if len(shape) != 3:
        advice = "encoder=conv1d decoder=conv1d" if len(shape) == 2 else "encoder=mlp decoder=mlp"
        raise ValueError(f"a convolutional network needs {name} = (channels, height, width), but got {tuple(shape)}; use {advice}")
    return shape[0], shape[1], shape[2]


def check_layers(channels: Sequence[int]) -> None:
    """A convolutional network has at least one layer.

    Raises:
        ValueError: if it has none, or one without channels.
    """
    if not channels or min(channels) < 1:
        raise ValueError(f"channels={list(channels)} must name at least one layer, of at least one channel each")


def normalized(
    layer: nn.Module,
    channels: int,
    batch_norm: bool,
    activation: Callable[[], nn.Module],
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
) -> nn.Sequential:
    """A layer, optional batch-norm, and an activation."""
    return nn.Sequential(layer, *([norm(channels)] if batch_norm else []), activation())


class ConvEncoder(nn.Module):
    """(B, C, H, W) -> (B, *out_shape): a stride-2 convolution per entry of `channels`, then linear.

    Args:
        input: "log1p" or "standardize", which change what the first layer sees, or "none"; see `vaelab.networks.inputs`.

    Raises:
        ValueError: if in_shape is not an image's, or the input is unknown.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: Sequence[int] = (32, 64, 128),
        hidden: Sequence[int] = (),
        batch_norm: bool = False,
        activation: Callable[[], nn.Module] = nn.ReLU,
        input: str = "none",
    ) -> None:
        super().__init__()
        check_layers(channels)
        self.input = input_layer(input, in_shape)
        in_channels, height, width = image_shape(in_shape, "in_shape")
        blocks = []
        for c_in, c_out in zip([in_channels, *channels[:-1]], channels, strict=True):
            conv = nn.Conv2d(c_in, c_out, kernel_size=3, stride=2, padding=1, bias=not batch_norm)  # batch-norm has its own bias
            blocks.append(normalized(conv, c_out, batch_norm, activation))
        features = channels[-1] * halvings(height, len(channels))[-1] * halvings(width, len(channels))[-1]
        dense: list[nn.Module] = []
        for width_out in hidden:
            dense += [nn.Linear(features, width_out), activation()]
            features = width_out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.Flatten(), *dense, nn.Linear(features, prod(out_shape)), nn.Unflatten(1, tuple(out_shape)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b ..."]:
        return self.head(self.blocks(self.input(x)))


class ConvDecoder(nn.Module):
    """(B, *in_shape) -> (B, *leading, C, H, W): linear, a stride-2 transposed convolution per entry of `channels`, a convolution.

    `channels` are those of the encoder, in the encoder's order. Leading sizes of out_shape (parameters of a distribution)
    become further output channels.

    Raises:
        ValueError: if out_shape does not end in an image's.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: Sequence[int] = (32, 64, 128),
        hidden: Sequence[int] = (),
        batch_norm: bool = False,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        leading, image = tuple(out_shape[:-3]), tuple(out_shape[-3:])
        check_layers(channels)
        _, height, width = image_shape(image, "out_shape")
        heights, widths = halvings(height, len(channels)), halvings(width, len(channels))
        features = prod(in_shape)
        dense: list[nn.Module] = []
        for width_out in hidden:
            dense += [nn.Linear(features, width_out), activation()]
            features = width_out
        smallest = (channels[-1], heights[-1], widths[-1])
        self.stem = nn.Sequential(nn.Flatten(), *dense, nn.Linear(features, prod(smallest)), nn.Unflatten(1, smallest))
        blocks = []
        for i in reversed(range(len(channels))):
            c_in, c_out = channels[i], channels[max(i - 1, 0)]
            padding = (heights[i] - (2 * heights[i + 1] - 1), widths[i] - (2 * widths[i + 1] - 1))  # 1 for even sides, 0 for odd
            conv = nn.ConvTranspose2d(c_in, c_out, kernel_size=3, stride=2, padding=1, output_padding=padding, bias=not batch_norm)
            blocks.append(normalized(conv, c_out, batch_norm, activation))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.Conv2d(channels[0], prod(leading) * image[0], kernel_size=3, padding=1), nn.Unflatten(1, (*leading, image[0]))
        )

    def forward(self, z: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        return self.head(self.blocks(self.stem(z)))
