"""A Transformer that looks back only (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762)."""

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.checks import check_at_least


class CausalBlock(nn.Module):
    """Attention to this and earlier places, and two layers of one place each, both as x + f(norm(x)) (Xiong et al., 2020)."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norms = nn.ModuleList([nn.LayerNorm(channels) for _ in range(2)])
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.layers = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        q, k, v = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.layers(self.norms[1](x))


class CausalTransformer(nn.Module):
    """(B, C, *space) -> (B, K, *space), where each place of the output depends on the places before it only, in row-major order.

    The input is shifted by one place, with a learned vector at the first, and each place has a learned vector added.

    Args:
        in_shape: (C, *space).
        out_shape: (K, *space).
        channels: of every layer.
        num_layers: of attention.
        num_heads: of each.

    Raises:
        ValueError: if there is no layer, or channels are not shared out evenly among the heads.
    """

    def __init__(
        self, in_shape: Sequence[int], out_shape: Sequence[int], channels: int = 64, num_layers: int = 4, num_heads: int = 4
    ) -> None:
        super().__init__()
        check_at_least(1, num_layers=num_layers, channels=channels, num_heads=num_heads)
        if channels % num_heads:
            raise ValueError(f"channels={channels} must be a multiple of num_heads={num_heads}")
        assert tuple(in_shape[1:]) == tuple(out_shape[1:])
        self.enter = nn.Linear(in_shape[0], channels)
        self.first = nn.Parameter(0.02 * torch.randn(1, 1, channels))
        self.places = nn.Parameter(0.02 * torch.randn(prod(in_shape[1:]), channels))
        self.blocks = nn.Sequential(*[CausalBlock(channels, num_heads) for _ in range(num_layers)])
        self.leave = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, out_shape[0]))

    def forward(self, x: Float[Tensor, "b c ..."]) -> Float[Tensor, "b k ..."]:
        before = self.enter(x.flatten(2).transpose(1, 2))[:, :-1]
        places = torch.cat([self.first.expand(len(x), -1, -1).to(before.dtype), before], 1) + self.places
        return self.leave(self.blocks(places)).transpose(1, 2).reshape(len(x), -1, *x.shape[2:])
