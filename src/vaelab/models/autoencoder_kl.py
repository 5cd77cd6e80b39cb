"""A VAE of `vaelab.networks.LDMEncoder` and `LDMDecoder` as config and weights of `AutoencoderKL` in diffusers, and back.

Weights have the same names and shapes there. Two things differ: its encoder gives the logarithm of the variance, ours that of the standard
deviation, so half of the last layer is doubled; and its pictures lie in [-1, 1], ours in [0, 1]. So with its mean and standard deviation
m, s and its decoder g, q(z | x) = N(m(2 x - 1), s(2 x - 1)^2) and E[x | z] = (g(z) + 1) / 2.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Laplace, Normal

from vaelab.models.base import Model
from vaelab.models.vae import VAE
from vaelab.networks import LDMDecoder, LDMEncoder

Weights = dict[str, Tensor]
OF_QUANT = ("quant_conv.weight", "quant_conv.bias")
# what diffusers takes if a config.json does not say it
DEFAULTS = {
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [64],
    "layers_per_block": 1,
    "act_fn": "silu",
    "latent_channels": 4,
    "norm_num_groups": 32,
    "mid_block_add_attention": True,
    "down_block_types": ["DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D"],
}
FORMER_NAMES = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}  # of attention's weights


def networks_of(model: Model) -> tuple[LDMEncoder, LDMDecoder]:
    """The networks of a model that AutoencoderKL can hold.

    Raises:
        ValueError: if it cannot hold the model, with the reason.
    """
    if not isinstance(model, VAE) or model.num_classes or model.missing:
        kind = "is conditional on y" if model.num_classes else "takes missing values" if model.missing else f"is a {type(model).__name__}"
        raise ValueError(f"AutoencoderKL holds a plain VAE, but this model {kind}")
    encoder, decoder = model.posterior.network, model.likelihood.network
    if not isinstance(encoder, LDMEncoder) or not isinstance(decoder, LDMDecoder):
        names = f"{type(encoder).__name__} and {type(decoder).__name__}"
        raise ValueError(f"AutoencoderKL holds the networks of encoder=ldm decoder=ldm, but this model has {names}")
    if not isinstance(encoder.input, nn.Identity):
        raise ValueError("AutoencoderKL is shown pictures as they are: train with encoder.input=none")
    with torch.no_grad():
        p_x = model.decode(encoder.conv_in.weight.new_zeros(1, *encoder.out_shape[1:]))
        q = model.encode(p_x.mean)
    if not isinstance(q, Independent) or type(q.base_dist) is not Normal:
        raise ValueError(f"AutoencoderKL holds posterior=gaussian, but this model has {type(model.posterior).__name__}")
    if len(decoder.out_shape) != 4 or decoder.out_shape[0] != 1 or type(getattr(p_x, "base_dist", p_x)) not in (Normal, Laplace):
        raise ValueError(
            f"the decoder of AutoencoderKL gives the mean alone, but this model has the likelihood {type(model.likelihood).__name__}:"
            " train with likelihood=gaussian or laplace, with a number or learned for its scale"
        )
    return encoder, decoder


def sizes(network: LDMEncoder | LDMDecoder) -> dict[str, Any]:
    """Those that encoder and decoder share."""
    return {
        "block_out_channels": list(network.channels),
        "layers_per_block": network.num_blocks,
        "norm_num_groups": network.norm_groups,
        "mid_block_add_attention": network.attention,
    }


def described(encoder: LDMEncoder, decoder: LDMDecoder) -> dict[str, Any]:
    """The config of AutoencoderKL with these networks.

    Raises:
        ValueError: if they are of different sizes.
    """
    if sizes(encoder) != sizes(decoder):
        raise ValueError(f"encoder and decoder of AutoencoderKL are of the same sizes, but here {sizes(encoder)} and {sizes(decoder)}")
    num_levels = len(encoder.channels)
    return {
        "in_channels": encoder.conv_in.in_channels,
        "out_channels": decoder.conv_out.out_channels,
        **sizes(encoder),
        "act_fn": "silu",
        "latent_channels": encoder.out_shape[1],
        "down_block_types": ["DownEncoderBlock2D"] * num_levels,
        "up_block_types": ["UpDecoderBlock2D"] * num_levels,
    }


def to_autoencoder_kl(model: Model) -> tuple[dict[str, Any], Weights]:
    """Config and weights of the AutoencoderKL that encodes and decodes as a model does.

    Raises:
        ValueError: if there is none, with the reason.
    """
    encoder, decoder = networks_of(model)
    size = decoder.out_shape[-2:]
    config = {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": "0.31.0",  # the first one with all of these keys
        **described(encoder, decoder),
        "sample_size": size[0] if size[0] == size[1] else list(size),
        "force_upcast": False,
        "use_quant_conv": True,
        "use_post_quant_conv": True,
    }
    weights: Weights = {}
    for part, network in (("encoder", encoder), ("decoder", decoder)):
        for name, value in network.state_dict().items():
            name = name if name.startswith(("quant_conv.", "post_quant_conv.")) else f"{part}.{name}"
            weights[name] = value.detach().cpu().clone().contiguous()
    for name in OF_QUANT:  # log sigma^2 = 2 log sigma
        weights[name][len(weights[name]) // 2 :] *= 2
    return config, weights


def load_autoencoder_kl(model: Model, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Give a model the weights of an AutoencoderKL.

    Raises:
        ValueError: if it is of another architecture than the model, or a weight is missing or of another shape.
    """
    encoder, decoder = networks_of(model)
    mine = described(encoder, decoder)
    theirs = {key: list(value) if isinstance(value := config.get(key, default), tuple) else value for key, default in DEFAULTS.items()}
    differing = [f"{key}={theirs[key]} (here {mine[key]})" for key in mine if theirs[key] != mine[key]]
    if differing:
        raise ValueError(f"it is of another architecture: {', '.join(differing)}: set encoder.channels, .num_blocks, .norm_groups, z_shape")
    found = dict(weights)
    for old, new in FORMER_NAMES.items():
        found = {name.replace(old, new): value for name, value in found.items()}
    found = {name: value.flatten(1) if ".attentions." in name and value.ndim == 4 else value for name, value in found.items()}
    for name, layer in (("quant_conv", encoder.quant_conv), ("post_quant_conv", decoder.post_quant_conv)):
        if not config.get(f"use_{name}", True):  # it has no such layer: here it changes nothing
            width = layer.out_channels
            found[f"{name}.weight"], found[f"{name}.bias"] = torch.eye(width)[..., None, None], torch.zeros(width)
    for name in OF_QUANT:
        if name in found:
            found[name] = found[name].clone()
            found[name][len(found[name]) // 2 :] /= 2
    for part, network in (("encoder", encoder), ("decoder", decoder)):
        own = {f"{part}.{name}" if "quant_conv" not in name else name: value for name, value in network.state_dict().items()}
        wrong = [name for name, value in own.items() if name not in found or found[name].shape != value.shape]
        if wrong:
            raise ValueError(f"{len(wrong)} of its weights are missing or of another shape, the first is {wrong[0]}")
        network.load_state_dict({name.removeprefix(f"{part}."): found[name] for name in own})
