"""Strided convolutions down and transposed convolutions up along one axis, for series and spectra of any length.

Each layer of stride 2 turns length t into ceil(t / 2). The decoder walks the same lengths backwards, and its output padding restores the
odd ones exactly, as `vaelab.networks.conv` does in two dimensions.
"""

from collections.abc import Callable, Sequence
from math import prod

from jaxtyping import Float
from torch import Tensor, nn

from vaelab.checks import check_widths
from vaelab.networks.conv import check_kernel, check_layers, halvings, normalized
from vaelab.networks.gated import dense
from vaelab.networks.initial import keep_signal
from vaelab.networks.inputs import input_layer


def series_shape(shape: Sequence[int], name: str) -> tuple[int, int]:
    """The two numbers of the shape of a series.

    Raises:
        ValueError: if there are not two.
    """
    if len(shape) != 2:
        advice = "encoder=conv decoder=conv" if len(shape) == 3 else "encoder=mlp decoder=mlp"
        raise ValueError(f"a convolution along time needs {name} = (channels, times), but got {tuple(shape)}; use {advice}")
    return shape[0], shape[1]


class Conv1dEncoder(nn.Module):
    """(B, C, T) -> (B, *out_shape): a stride-2 convolution per entry of `channels`, then linear.

    Args:
        input: "log1p" or "standardize", which change what the first layer sees, or "none"; see `vaelab.networks.inputs`.

    Raises:
        ValueError: if in_shape is not that of a series, the kernel has no middle, or the input is unknown.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: Sequence[int] = (16, 32, 64),
        hidden: Sequence[int] = (),
        kernel_size: int = 5,
        batch_norm: bool = False,
        activation: Callable[[], nn.Module] = nn.ReLU,
        input: str = "none",
    ) -> None:
        super().__init__()
        check_layers(channels)
        check_widths(hidden=hidden)
        check_kernel(kernel_size)
        in_channels, times = series_shape(in_shape, "in_shape")
        self.input = input_layer(input, in_shape)
        blocks = []
        for c_in, c_out in zip([in_channels, *channels[:-1]], channels, strict=True):
            conv = nn.Conv1d(c_in, c_out, kernel_size, stride=2, padding=kernel_size // 2, bias=not batch_norm)  # batch-norm has its own
            blocks.append(normalized(conv, c_out, batch_norm, activation, nn.BatchNorm1d))
        features = channels[-1] * halvings(times, len(channels))[-1]
        sizes = [features, *hidden]
        self.blocks = nn.Sequential(*blocks)
        last = nn.Unflatten(1, tuple(out_shape))
        self.head = nn.Sequential(nn.Flatten(), *dense(sizes, activation), nn.Linear(sizes[-1], prod(out_shape)), last)
        keep_signal(nn.ModuleList([self.blocks, self.head]), activation, but_last=True)

    def forward(self, x: Float[Tensor, "b c t"]) -> Float[Tensor, "b ..."]:
        return self.head(self.blocks(self.input(x)))


class Conv1dDecoder(nn.Module):
    """(B, *in_shape) -> (B, *leading, C, T): linear, a stride-2 transposed convolution per entry of `channels`, a convolution.

    `channels` are those of the encoder, in the encoder's order. Leading sizes of out_shape (parameters of a distribution) become further
    output channels.

    Raises:
        ValueError: if out_shape does not end in that of a series, or the kernel has no middle.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: Sequence[int] = (16, 32, 64),
        hidden: Sequence[int] = (),
        kernel_size: int = 5,
        batch_norm: bool = False,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        check_layers(channels)
        check_widths(hidden=hidden)
        check_kernel(kernel_size)
        leading = tuple(out_shape[:-2])
        out_channels, times = series_shape(out_shape[-2:], "out_shape")
        lengths, sizes = halvings(times, len(channels)), [prod(in_shape), *hidden]
        smallest = (channels[-1], lengths[-1])
        self.stem = nn.Sequential(nn.Flatten(), *dense(sizes, activation), nn.Linear(sizes[-1], prod(smallest)), nn.Unflatten(1, smallest))
        blocks, half = [], kernel_size // 2
        for i in reversed(range(len(channels))):
            c_in, c_out = channels[i], channels[max(i - 1, 0)]
            extra = lengths[i] - (2 * lengths[i + 1] - 1)  # 1 for even lengths, 0 for odd
            conv = nn.ConvTranspose1d(c_in, c_out, kernel_size, stride=2, padding=half, output_padding=extra, bias=not batch_norm)
            blocks.append(normalized(conv, c_out, batch_norm, activation, nn.BatchNorm1d))
        self.blocks = nn.Sequential(*blocks)
        last = nn.Conv1d(channels[0], prod(leading) * out_channels, kernel_size, padding=half)
        self.head = nn.Sequential(last, nn.Unflatten(1, (*leading, out_channels)))
        keep_signal(nn.ModuleList([self.stem, self.blocks, self.head]), activation, but_last=True)

    def forward(self, z: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        return self.head(self.blocks(self.stem(z)))
