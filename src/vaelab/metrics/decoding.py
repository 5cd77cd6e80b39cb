"""Latents as others use them: what a decoder makes of z with noise, of z that is flipped or shifted, and how many dimensions z fills.

A generative model of latents, such as a diffusion model, never hits them exactly; and it learns more easily what moves as pictures do
(EQ-VAE; Kouzelis et al., 2025, https://arxiv.org/abs/2502.09509).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vaelab.checks import check_all, check_at_least, check_choice
from vaelab.distributions import centre
from vaelab.metrics.data import Data, first
from vaelab.metrics.target import average
from vaelab.models import Model

Pairs = list[tuple[Tensor, Tensor, Tensor]]  # x, y, z of each batch


@torch.no_grad()
def decoding(
    model: Model, data: Data, split: str = "test", num_examples: int = 1000, noise: Sequence[float] = (0.0, 0.1, 0.2, 0.5, 1.0)
) -> dict[str, Any]:
    """PSNR in dB of pictures that are decoded from changed latents, with z at the centre of q(z | x).

    - psnr_at_noise_<s>: of E[x | z + s sd e], e ~ N(0, I), where sd is the standard deviation of each channel of z over the examples.
    - psnr_of_flip, psnr_of_shift, of latents that are maps: of z that is mirrored, or moved by one place to the right, held against the
      mirrored picture, or the one moved by as many pixels as a place has, without the columns that come in from the other side.
    - effective_dimension = exp H(l), with H the entropy of the eigenvalues of Cov z, divided by their sum: 1 to the number of dimensions,
      and at most the number of examples; effective_channels, of maps, of the covariance of channels over places and examples.

    Args:
        model: whose decoder it is.
        data: of pictures in [0, 1].
        split: "test" or "val".
        num_examples: at most.
        noise: s of each number.

    Raises:
        ValueError: if an option is out of range, or x are no pictures in [0, 1].
    """
    check_choice(("test", "val"), split=split)
    check_at_least(2, num_examples=num_examples)
    check_all(lambda s: s >= 0, "not negative", {"noise": noise})
    data.setup("test" if split == "test" else "fit")
    modality, pairs = data.splits[split].modality, Pairs()
    for x, y in first(data.batches(split, model.device), num_examples):
        if not modality.are_viewable(x):
            raise ValueError("decoding is judged by PSNR, which is of pictures with values in [0, 1]: use metrics=[likelihood]")
        pairs.append((x, y, centre(model.encode(x, y))))
    z = torch.cat([z for _, _, z in pairs])
    sd = channels(z).std(0).to(z).reshape(-1, *[1] * (z.ndim - 2))
    report: dict[str, Any] = {}
    for s in noise:
        report |= psnr(model, pairs, f"psnr_at_noise_{s:g}", partial(with_noise, sd=s * sd))
    if z.ndim == 4:
        stride = pairs[0][0].shape[-1] // z.shape[-1]
        report |= psnr(model, pairs, "psnr_of_flip", lambda z: z.flip(-1), lambda x: x.flip(-1))
        moved = psnr(model, pairs, "psnr_of_shift", lambda z: z.roll(1, -1), lambda x: x.roll(stride, -1), start=stride)
        report |= moved | {"effective_channels": effective_dimension(channels(z))}
    return report | {"effective_dimension": effective_dimension(z.flatten(1).double().cpu()), "decoding_num_examples": len(z)}


def with_noise(z: Float[Tensor, "b ..."], sd: Float[Tensor, "..."]) -> Float[Tensor, "b ..."]:
    """z with normal noise of these standard deviations."""
    return z + sd * torch.randn_like(z)


def psnr(
    model: Model,
    pairs: Pairs,
    name: str,
    change: Callable[[Tensor], Tensor],
    target: Callable[[Tensor], Tensor] = lambda x: x,
    start: int = 0,
) -> dict[str, float | None]:
    """-10 log10 of the mean square error of each picture, from the column `start` on: mean and standard error over the pictures."""
    found = []
    for x, y, z in pairs:
        error = model.decode(change(z), y).mean.clamp(0, 1) - target(x)
        found.append(-10 * error[..., start:].double().square().flatten(1).mean(1).clamp(min=1e-12).log10().cpu())
    return average(name, torch.cat(found))


def channels(z: Float[Tensor, "n c ..."]) -> Float[Tensor, "m c"]:
    """The channels of all places of all examples, in double precision."""
    return z.double().cpu().movedim(1, -1).flatten(0, -2)


def effective_dimension(z: Shaped[Tensor, "n d"]) -> float:
    """exp of the entropy of the normalised eigenvalues of the covariance (Roy & Vetterli, 2007, EUSIPCO: the effective rank)."""
    shares = torch.linalg.svdvals(z - z.mean(0)).square()
    shares = shares / shares.sum()
    return float(torch.special.entr(shares).sum().exp()) if bool(shares.isfinite().all()) else 0.0
