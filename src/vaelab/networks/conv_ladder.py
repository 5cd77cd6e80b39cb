"""A residual network from the top down, with feature maps for latents.

The ResNet VAE (Kingma et al., 2016, https://arxiv.org/abs/1606.04934) and what came of it: NVAE (Vahdat & Kautz, 2020,
https://arxiv.org/abs/2007.03898) and the very deep VAE (Child, 2021, https://arxiv.org/abs/2011.10650).
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.networks.conv import halvings, image_shape
from vaelab.networks.initial import keep_signal
from vaelab.networks.ladder import Bounded, Ladder, Rung
from vaelab.networks.resnet import Residual


class ConvRung(Rung):
    """h <- up(block(h + project(z_i))); at the top h is project(z_L), whose bias is the learned constant of the paper."""

    def __init__(
        self, z_shape: Sequence[int], posterior: nn.Module, prior: nn.Module | None, project: nn.Module, block: nn.Module, up: nn.Module
    ) -> None:
        super().__init__(z_shape, posterior, prior)
        self.project, self.block, self.up = project, block, up

    def join(self, h: Float[Tensor, "n c h w"] | None, z: Float[Tensor, "n ..."]) -> Float[Tensor, "n c k l"]:
        projected = self.project(z)
        return self.up(self.block(projected if h is None else h + projected))


class ConvLadder(Ladder):
    """Below z_L, which has no place, every z_i is a feature map; the state is one too, at the finest resolution that has a latent.

    Args:
        in_shape: of x, an image.
        z_shape: of z_L, reached by linear layers, so it may be any.
        num_layers: how many latents there are at 1/2, 1/4, 1/8, ... of the resolution: [0, 2, 1] has two at a quarter, one at an eighth.
        z_channels: of each of these.
        channels: of features and state.
        merge: "precision" or "network", see `Ladder`.

    Raises:
        ValueError: if in_shape is not an image's, a number is out of range, or as `Ladder`.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        z_shape: Sequence[int],
        num_layers: Sequence[int] = (0, 2, 1),
        z_channels: int = 4,
        channels: int = 32,
        merge: str = "network",
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        if not num_layers or min(num_layers) < 0 or min(z_channels, channels, *z_shape) < 1:
            raise ValueError(
                f"num_layers={list(num_layers)} must name how many latents each of the resolutions 1/2, 1/4, ... has, and"
                f" z_channels={z_channels}, channels={channels} and z_shape={list(z_shape)} must be at least 1"
            )
        image, coarsest = image_shape(in_shape, "in_shape"), len(num_layers)
        heights, widths = halvings(image[1], coarsest), halvings(image[2], coarsest)
        smallest = (channels, heights[coarsest], widths[coarsest])
        # by how often the resolution of each rung is halved, top first
        levels = [coarsest, *(level for level in range(coarsest, 0, -1) for _ in range(num_layers[level - 1]))]
        scale = len(levels) ** -0.5

        def up(level: int) -> list[nn.Module]:
            padding = (heights[level - 1] - (2 * heights[level] - 1), widths[level - 1] - (2 * widths[level] - 1))  # as in ConvDecoder
            return [activation(), nn.ConvTranspose2d(channels, channels, kernel_size=3, stride=2, padding=1, output_padding=padding)]

        def gaussian(c_in: int) -> nn.Sequential:
            hidden = nn.Conv2d(c_in, channels, kernel_size=3, padding=1)
            last = nn.Conv2d(channels, 2 * z_channels, kernel_size=1)
            keep_signal(hidden, activation)
            return nn.Sequential(activation(), hidden, activation(), last, nn.Unflatten(1, (2, z_channels)))

        rungs: list[Rung] = []
        for level, below in zip(levels, [*levels[1:], levels[-1]], strict=True):
            block = damped(Residual(channels, activation), activation, scale)
            ups = nn.Sequential(*(layer for at in range(level, below, -1) for layer in up(at)))
            keep_signal(ups, activation)
            if not rungs:
                encode = nn.Linear(prod(smallest), 2 * prod(z_shape))
                posterior = nn.Sequential(activation(), nn.Flatten(), encode, nn.Unflatten(1, (2, *z_shape)))
                project: nn.Module = nn.Sequential(nn.Flatten(), nn.Linear(prod(z_shape), prod(smallest)), nn.Unflatten(1, smallest))
                keep_signal(project, nn.Identity)
                rungs.append(ConvRung(z_shape, posterior, None, project, block, ups))
            else:
                posterior, prior = gaussian(2 * channels if merge == "network" else channels), gaussian(channels)
                project = damped(nn.Sequential(nn.Conv2d(z_channels, channels, kernel_size=1)), nn.Identity, scale)
                shape = (z_channels, heights[level], widths[level])
                rungs.append(ConvRung(shape, posterior, nn.Sequential(*prior, Bounded()), project, block, ups))
        super().__init__(in_shape, (channels, heights[levels[-1]], widths[levels[-1]]), rungs, merge)
        self.downs = nn.ModuleList(
            nn.Sequential(
                *([activation()] if level else []),
                nn.Conv2d(channels if level else image[0], channels, kernel_size=3, stride=2, padding=1),
            )
            for level in range(coarsest)
        )
        keep_signal(self.downs, activation)
        self.blocks = nn.ModuleList(
            nn.ModuleList(damped(Residual(channels, activation), activation, scale) for _ in range(levels.count(level + 1)))
            for level in range(coarsest)
        )

    def bottom_up(self, x: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        d, features = x, []
        for down, blocks in zip(self.downs, self.blocks, strict=True):
            d = down(d)
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                d = block(d)
                features.append(d)
        return features[::-1]


def damped(branch: nn.Module, activation: Callable[[], nn.Module], scale: float) -> nn.Module:
    """A branch that keeps its signal, see `keep_signal`, but for its last layer, which starts `scale` times smaller.

    With scale = 1 / sqrt(number of branches), what they add to the variance of the state does not grow with their number (Child,
    2021). Zero would do that too, but then nothing but the last layer had a gradient in the first step.
    """
    keep_signal(branch, activation)
    *_, last = (layer for layer in branch.modules() if isinstance(layer, nn.Conv2d))
    with torch.no_grad():
        last.weight.mul_(scale)
    return branch
