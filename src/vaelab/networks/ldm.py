"""The convolutional autoencoder of latent diffusion (Rombach et al., 2022, https://arxiv.org/abs/2112.10752), of strides 4 and 8.

Residual blocks with group norm and SiLU at each resolution, attention at the lowest, and 1x1 convolutions around z: the layers, and the
names of their weights, of `AutoencoderKL` in diffusers, so that `vaelab export` and `pretrained=` copy weights and nothing else. As
there, the network is shown 2 x - 1, and gives (h + 1) / 2: pictures in [0, 1] are numbers in [-1, 1] inside.
"""

from collections.abc import Sequence
from math import prod

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vaelab.checks import check_whole
from vaelab.networks.conv import check_layers, image_shape
from vaelab.networks.inputs import input_layer

EPSILON = 1e-6  # of group norm, as in the weights that are published


class Block(nn.Module):
    """x + f(x), where f is twice group norm, SiLU and a 3x3 convolution; x passes a 1x1 convolution if the channels change."""

    def __init__(self, c_in: int, c_out: int, norm_groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_groups, c_in, eps=EPSILON)
        self.conv1 = nn.Conv2d(c_in, c_out, kernel_size=3, padding=1)
        self.norm2 = nn.GroupNorm(norm_groups, c_out, eps=EPSILON)
        self.conv2 = nn.Conv2d(c_out, c_out, kernel_size=3, padding=1)
        self.conv_shortcut = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, kernel_size=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        h = self.conv1(functional.silu(self.norm1(x)))
        return self.conv_shortcut(x) + self.conv2(functional.silu(self.norm2(h)))


class Attention(nn.Module):
    """x + W softmax(q k^T / sqrt(c)) v over all places, with one head, where q, k and v are linear in the group norm of x."""

    def __init__(self, channels: int, norm_groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(norm_groups, channels, eps=EPSILON)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        places = self.group_norm(x).flatten(2).mT
        # a dimension of heads, without which no fused kernel is taken
        q, k, v = (to(places)[:, None] for to in (self.to_q, self.to_k, self.to_v))
        found = functional.scaled_dot_product_attention(q, k, v)[:, 0]
        return x + self.to_out[0](found).mT.reshape(x.shape)


class Down(nn.Module):
    """A 3x3 convolution of stride 2, which is padded at the right and at the bottom alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, stride=2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return self.conv(functional.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    """Each place four times, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The blocks of one resolution, and then the way to the next."""

    def __init__(self, c_in: int, c_out: int, num_blocks: int, norm_groups: int, sampler: type[Down | Up], name: str | None) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([Block(c_out if i else c_in, c_out, norm_groups) for i in range(num_blocks)])
        self.name = name  # of the list in which the weights of the way lie; None: there is no way
        if name is not None:
            self.add_module(name, nn.ModuleList([sampler(c_out)]))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        for block in self.resnets:
            x = block(x)
        return x if self.name is None else self.get_submodule(f"{self.name}.0")(x)


class Middle(nn.Module):
    """A block, attention, and a block."""

    def __init__(self, channels: int, norm_groups: int, attention: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([Attention(channels, norm_groups)] if attention else [])
        self.resnets = nn.ModuleList([Block(channels, channels, norm_groups) for _ in range(2)])

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


def check_map(z_shape: Sequence[int], image: Sequence[int], channels: Sequence[int], num_blocks: int, norm_groups: int) -> None:
    """Raise if z is not a map of the size that the layers leave of an image, or there are no blocks or groups of channels.

    Raises:
        ValueError: as said.
    """
    check_layers(channels)
    check_whole(1, num_blocks=num_blocks, norm_groups=norm_groups)
    if any(width % norm_groups for width in channels):
        raise ValueError(f"channels={list(channels)} must be multiples of norm_groups={norm_groups}")
    stride = 2 ** (len(channels) - 1)
    if any(side % stride for side in image[1:]):
        raise ValueError(
            f"{len(channels)} resolutions, channels={list(channels)}, need sides that are multiples of {stride}, but the images have"
            f" {image[1]} x {image[2]} pixels: set data.size, or fewer channels in encoder and decoder"
        )
    fits = [side // stride for side in image[1:]]
    if list(z_shape[1:]) != fits:
        raise ValueError(
            f"channels={list(channels)} make {fits[0]} x {fits[1]} places of {image[1]} x {image[2]} pixels, but z has shape"
            f" {tuple(z_shape)}: set z_shape=[{z_shape[0]},{fits[0]},{fits[1]}], or another number of channels in encoder and decoder"
        )


class LDMEncoder(nn.Module):
    """(B, C, H, W) -> (B, P, D, H / s, W / s), with s = 2^(n - 1) for n entries of `channels`.

    Args:
        channels: of each resolution, the highest first; f8: 128, 256, 512, 512; f4: 128, 256, 512.
        num_blocks: residual blocks of each resolution.
        norm_groups: of group norm.
        attention: whether the lowest resolution has attention.
        input: "log1p" or "standardize", which change what the first layer sees, or "none"; see `vaelab.networks.inputs`.

    Raises:
        ValueError: if in_shape is not an image's, its sides are no multiples of s, out_shape is another one, or the input is unknown.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: Sequence[int] = (128, 256, 512, 512),
        num_blocks: int = 2,
        norm_groups: int = 32,
        attention: bool = True,
        input: str = "none",
    ) -> None:
        super().__init__()
        image = image_shape(in_shape, "in_shape")
        self.input = input_layer(input, in_shape)
        check_map(out_shape[1:], image, channels, num_blocks, norm_groups)
        self.channels, self.num_blocks, self.norm_groups, self.attention = tuple(channels), num_blocks, norm_groups, attention
        self.out_shape, params = tuple(out_shape), prod(out_shape[:-2])
        self.conv_in = nn.Conv2d(image[0], channels[0], kernel_size=3, padding=1)
        ways = ["downsamplers"] * (len(channels) - 1) + [None]
        widths = zip([channels[0], *channels[:-1]], channels, ways, strict=True)
        self.down_blocks = nn.ModuleList([Level(c_in, c_out, num_blocks, norm_groups, Down, way) for c_in, c_out, way in widths])
        self.mid_block = Middle(channels[-1], norm_groups, attention)
        self.conv_norm_out = nn.GroupNorm(norm_groups, channels[-1], eps=EPSILON)
        self.conv_out = nn.Conv2d(channels[-1], params, kernel_size=3, padding=1)
        self.quant_conv = nn.Conv2d(params, params, kernel_size=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b p d h2 w2"]:
        h = self.conv_in(2 * self.input(x) - 1)
        for level in self.down_blocks:
            h = level(h)
        h = functional.silu(self.conv_norm_out(self.mid_block(h)))
        return self.quant_conv(self.conv_out(h)).unflatten(1, self.out_shape[:-2])


class LDMDecoder(nn.Module):
    """(B, D, H / s, W / s) -> (B, *leading, C, H, W), with the sizes of `LDMEncoder`, in the encoder's order.

    Leading sizes of out_shape (parameters of a distribution) become further output channels.

    Raises:
        ValueError: if out_shape does not end in an image's, its sides are no multiples of s, or in_shape is another one.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: Sequence[int] = (128, 256, 512, 512),
        num_blocks: int = 2,
        norm_groups: int = 32,
        attention: bool = True,
    ) -> None:
        super().__init__()
        image = image_shape(out_shape[-3:], "out_shape")
        check_map(in_shape, image, channels, num_blocks, norm_groups)
        self.channels, self.num_blocks, self.norm_groups, self.attention = tuple(channels), num_blocks, norm_groups, attention
        self.out_shape, falling = tuple(out_shape), list(reversed(channels))
        self.post_quant_conv = nn.Conv2d(in_shape[0], in_shape[0], kernel_size=1)
        self.conv_in = nn.Conv2d(in_shape[0], falling[0], kernel_size=3, padding=1)
        ways = ["upsamplers"] * (len(channels) - 1) + [None]
        widths = zip([falling[0], *falling[:-1]], falling, ways, strict=True)
        self.up_blocks = nn.ModuleList([Level(c_in, c_out, num_blocks + 1, norm_groups, Up, way) for c_in, c_out, way in widths])
        self.mid_block = Middle(falling[0], norm_groups, attention)
        self.conv_norm_out = nn.GroupNorm(norm_groups, falling[-1], eps=EPSILON)
        self.conv_out = nn.Conv2d(falling[-1], prod(out_shape[:-2]), kernel_size=3, padding=1)

    def forward(self, z: Float[Tensor, "b d h2 w2"]) -> Float[Tensor, "b ..."]:
        h = self.mid_block(self.conv_in(self.post_quant_conv(z)))
        for level in self.up_blocks:
            h = level(h)
        h = self.conv_out(functional.silu(self.conv_norm_out(h)))
        return ((h + 1) / 2).unflatten(1, self.out_shape[:-2])
