"""Residual networks that keep space, as the VQ-VAE's (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937, section 4.1).

n layers of stride 2 turn an image of H x W pixels into ceil(H / 2^n) x ceil(W / 2^n) places; residual blocks (He et al., 2016,
https://arxiv.org/abs/1512.03385) work on these. A latent variable of shape (D, h, w) has D numbers at each place; one that is a
vector, or a matrix, is reached by a linear layer. The decoder walks the same sides backwards, see `vaelab.networks.conv`.
"""

from collections.abc import Callable, Sequence
from math import prod

from jaxtyping import Float
from torch import Tensor, nn

from vaelab.networks.conv import check_layers, halvings, image_shape
from vaelab.networks.inputs import input_layer


class Residual(nn.Module):
    """x + f(x), where f is activation, 3x3 convolution, activation, 1x1 convolution."""

    def __init__(self, channels: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.layers = nn.Sequential(activation(), conv, activation(), nn.Conv2d(channels, channels, kernel_size=1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.layers(x)


def check_places(z_shape: Sequence[int], image: Sequence[int], channels: Sequence[int]) -> None:
    """A latent variable of shape (D, h, w) has the places that the halvings of the image leave.

    Raises:
        ValueError: if it has others.
    """
    fits = [halvings(side, len(channels))[-1] for side in image[1:]]
    if list(z_shape[1:]) != fits:
        raise ValueError(
            f"a residual network with channels={list(channels)} turns {image[1]} x {image[2]} pixels into {fits[0]} x {fits[1]} places,"
            f" but z has {z_shape[1]} x {z_shape[2]}: set z_shape=[{z_shape[0]},{fits[0]},{fits[1]}], or another number of channels in"
            " encoder and decoder"
        )


class ResNetEncoder(nn.Module):
    """(B, C, H, W) -> (B, P, D, h, w): a stride-2 convolution per entry of `channels`, residual blocks, a 1x1 convolution.

    An out_shape of fewer dimensions, which has no space, is reached by a linear layer in place of the last.

    Args:
        input: "log1p" or "standardize", which change what the first layer sees, or "none"; see `vaelab.networks.inputs`.

    Raises:
        ValueError: if in_shape is not an image's, (h, w) is not what the halvings give, or the input is unknown.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: Sequence[int] = (32, 64),
        num_blocks: int = 2,
        activation: Callable[[], nn.Module] = nn.ReLU,
        input: str = "none",
    ) -> None:
        super().__init__()
        check_layers(channels)
        image = image_shape(in_shape, "in_shape")
        self.input = input_layer(input, in_shape)
        layers: list[nn.Module] = []
        for c_in, c_out in zip([image[0], *channels[:-1]], channels, strict=True):
            layers += [nn.Conv2d(c_in, c_out, kernel_size=3, stride=2, padding=1), activation()]
        self.blocks = nn.Sequential(*layers[:-1], *[Residual(channels[-1], activation) for _ in range(num_blocks)], activation())
        if len(out_shape) > 3:
            check_places(out_shape[-3:], image, channels)
            self.head = nn.Sequential(nn.Conv2d(channels[-1], prod(out_shape[:-2]), kernel_size=1), nn.Unflatten(1, tuple(out_shape[:-2])))
        else:
            features = channels[-1] * prod(halvings(side, len(channels))[-1] for side in image[1:])
            self.head = nn.Sequential(nn.Flatten(), nn.Linear(features, prod(out_shape)), nn.Unflatten(1, tuple(out_shape)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b ..."]:
        return self.head(self.blocks(self.input(x)))


class ResNetDecoder(nn.Module):
    """(B, D, h, w) -> (B, *leading, C, H, W): convolution, residual blocks, a transposed convolution per entry of `channels`, convolution.

    `channels` are those of the encoder, in the encoder's order. Leading sizes of out_shape (parameters of a distribution) become further
    output channels. A z without space enters through a linear layer in place of the first.

    Raises:
        ValueError: if out_shape does not end in an image's, or (h, w) is not what the halvings give.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: Sequence[int] = (32, 64),
        num_blocks: int = 2,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        check_layers(channels)
        leading, image = tuple(out_shape[:-3]), image_shape(out_shape[-3:], "out_shape")
        heights, widths = halvings(image[1], len(channels)), halvings(image[2], len(channels))
        if len(in_shape) == 3:
            check_places(in_shape, image, channels)
            self.stem: nn.Module = nn.Conv2d(in_shape[0], channels[-1], kernel_size=3, padding=1)
        else:
            smallest = (channels[-1], heights[-1], widths[-1])
            self.stem = nn.Sequential(nn.Flatten(), nn.Linear(prod(in_shape), prod(smallest)), nn.Unflatten(1, smallest))
        layers: list[nn.Module] = [Residual(channels[-1], activation) for _ in range(num_blocks)]
        for i in reversed(range(len(channels))):
            padding = (heights[i] - (2 * heights[i + 1] - 1), widths[i] - (2 * widths[i + 1] - 1))  # 1 for even sides, 0 for odd
            up = nn.ConvTranspose2d(channels[i], channels[max(i - 1, 0)], kernel_size=3, stride=2, padding=1, output_padding=padding)
            layers += [activation(), up]
        self.blocks = nn.Sequential(*layers, activation())
        self.head = nn.Sequential(
            nn.Conv2d(channels[0], prod(leading) * image[0], kernel_size=3, padding=1), nn.Unflatten(1, (*leading, image[0]))
        )

    def forward(self, z: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        return self.head(self.blocks(self.stem(z)))
