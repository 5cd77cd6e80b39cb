"""Strided convolutions down, transposed convolutions up, for any number of channels and any image size.

A layer of stride 2 turns side s into ceil(s / 2). The decoder walks the same sides backwards, and its output padding
restores the odd ones exactly, so nothing is cropped or interpolated. With channels 32-64-128-256-512, batch-norm and leaky ReLU
these are the layers of the well-known 64x64 convolutional VAE; gated, with kernels of 5 x 5 and strides 1, 2, 1, 2, 1, those of the
Sylvester flows (van den Berg et al., 2018, https://arxiv.org/abs/1803.05649).
"""

from collections.abc import Callable, Sequence
from math import prod

from jaxtyping import Float
from torch import Tensor, nn

from vaelab.checks import check_whole, check_widths
from vaelab.networks.gated import dense, gate
from vaelab.networks.inputs import input_layer


def sides_after(side: int, strides: Sequence[int]) -> list[int]:
    """[side, ceil(side / s_1), ceil(ceil(side / s_1) / s_2), ...], with one entry more than there are strides."""
    sides = [side]
    for stride in strides:
        sides.append(-(-sides[-1] // stride))
    return sides


def halvings(side: int, times: int) -> list[int]:
    """[side, ceil(side / 2), ceil(side / 4), ...], with times + 1 entries."""
    return sides_after(side, [2] * times)


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
    check_widths(channels=channels)
    if not channels:
        raise ValueError(f"channels={list(channels)} must name at least one layer, of at least one channel each")


def strides_of(strides: int | Sequence[int], num_layers: int) -> list[int]:
    """The stride of each layer, of one number for all, or one for each.

    Raises:
        ValueError: if there is not one for each layer, or one is below 1.
    """
    each = list(strides) if isinstance(strides, Sequence) else [strides] * num_layers
    if len(each) != num_layers:
        raise ValueError(f"strides={each} must be one number, or one for each of the {num_layers} layers of channels")
    check_whole(1, strides=each)
    return each


def check_kernel(size: int, strides: Sequence[int] = (2,)) -> None:
    """Check that a kernel has a middle, and is no smaller than a stride, which would leave inputs out.

    Raises:
        ValueError: if its size is even, or smaller.
    """
    least = max(strides) // 2 * 2 + 1
    check_whole(1, kernel_size=size)
    if size < least or size % 2 == 0:
        raise ValueError(f"kernel_size={size} must be an odd number of at least {least}")


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
    """(B, C, H, W) -> (B, *out_shape): a convolution per entry of `channels`, each of stride 2 by default, then linear.

    Args:
        kernel_size: of all layers, an odd number.
        strides: of all layers, or of each.
        gated: whether a hidden layer is h(x) sigmoid(g(x)), see `vaelab.networks.gated`, in place of activation(h(x)).
        input: "log1p" or "standardize", which change what the first layer sees, or "none"; see `vaelab.networks.inputs`.

    Raises:
        ValueError: if in_shape is not an image's, there are not as many strides as channels, a stride is larger than the kernel, the
            kernel has no middle, gated layers have an activation, or the input is unknown.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: Sequence[int] = (32, 64, 128),
        hidden: Sequence[int] = (),
        kernel_size: int = 3,
        strides: int | Sequence[int] = 2,
        batch_norm: bool = False,
        activation: Callable[[], nn.Module] = nn.ReLU,
        gated: bool = False,
        input: str = "none",
    ) -> None:
        super().__init__()
        check_layers(channels)
        check_widths(hidden=hidden)
        strides = strides_of(strides, len(channels))
        check_kernel(kernel_size, strides)
        self.input = input_layer(input, in_shape)
        in_channels, height, width = image_shape(in_shape, "in_shape")
        act, parts = gate(gated, activation)
        blocks = []
        for c_in, c_out, stride in zip([in_channels, *channels[:-1]], channels, strides, strict=True):
            # batch-norm has its own bias
            conv = nn.Conv2d(c_in, parts * c_out, kernel_size, stride, padding=kernel_size // 2, bias=not batch_norm)
            blocks.append(normalized(conv, parts * c_out, batch_norm, act))
        features = channels[-1] * sides_after(height, strides)[-1] * sides_after(width, strides)[-1]
        sizes = [features, *hidden]
        self.blocks = nn.Sequential(*blocks)
        last = nn.Unflatten(1, tuple(out_shape))
        self.head = nn.Sequential(nn.Flatten(), *dense(sizes, act, parts), nn.Linear(sizes[-1], prod(out_shape)), last)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b ..."]:
        return self.head(self.blocks(self.input(x)))


class ConvDecoder(nn.Module):
    """(B, *in_shape) -> (B, *leading, C, H, W): linear, a transposed convolution per entry of `channels`, a convolution.

    `channels` and `strides` are those of the encoder, in the encoder's order. Leading sizes of out_shape (parameters of a distribution)
    become further output channels.

    Args:
        kernel_size: of all layers, an odd number.
        strides: of all transposed convolutions, or of each.
        gated: whether a hidden layer is h(x) sigmoid(g(x)), see `vaelab.networks.gated`, in place of activation(h(x)); the one that makes
            the smallest image of z is then gated, too.

    Raises:
        ValueError: if out_shape does not end in an image's, there are not as many strides as channels, a stride is larger than the
            kernel, the kernel has no middle, or gated layers have an activation.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: Sequence[int] = (32, 64, 128),
        hidden: Sequence[int] = (),
        kernel_size: int = 3,
        strides: int | Sequence[int] = 2,
        batch_norm: bool = False,
        activation: Callable[[], nn.Module] = nn.ReLU,
        gated: bool = False,
    ) -> None:
        super().__init__()
        leading, image = tuple(out_shape[:-3]), tuple(out_shape[-3:])
        check_layers(channels)
        check_widths(hidden=hidden)
        strides = strides_of(strides, len(channels))
        check_kernel(kernel_size, strides)
        _, height, width = image_shape(image, "out_shape")
        heights, widths = sides_after(height, strides), sides_after(width, strides)
        act, parts = gate(gated, activation)
        sizes = [prod(in_shape), *hidden]
        smallest = (parts * channels[-1], heights[-1], widths[-1])
        first = nn.Unflatten(1, smallest)
        self.stem = nn.Sequential(nn.Flatten(), *dense(sizes, act, parts), nn.Linear(sizes[-1], prod(smallest)), first, *[act()] * gated)
        blocks = []
        for i in reversed(range(len(channels))):
            c_in, c_out, stride = channels[i], parts * channels[max(i - 1, 0)], strides[i]
            # 1 for even sides of stride 2, 0 for odd
            extra = (heights[i] - 1 - stride * (heights[i + 1] - 1), widths[i] - 1 - stride * (widths[i + 1] - 1))
            conv = nn.ConvTranspose2d(c_in, c_out, kernel_size, stride, kernel_size // 2, extra, bias=not batch_norm)
            blocks.append(normalized(conv, c_out, batch_norm, act))
        self.blocks = nn.Sequential(*blocks)
        last = nn.Conv2d(channels[0], prod(leading) * image[0], kernel_size, padding=kernel_size // 2)
        self.head = nn.Sequential(last, nn.Unflatten(1, (*leading, image[0])))

    def forward(self, z: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        return self.head(self.blocks(self.stem(z)))
