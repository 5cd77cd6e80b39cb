"""encoder=ldm and decoder=ldm are the networks of AutoencoderKL in diffusers: same numbers, same weights, both ways.

What diffusers computes is in tests/reference/autoencoder_kl.json, which `make reference` writes.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vaelab import VAE
from vaelab.likelihoods import Bernoulli, Gaussian, Laplace
from vaelab.models import Model
from vaelab.models.autoencoder_kl import load_autoencoder_kl, to_autoencoder_kl
from vaelab.networks import MLP, LDMDecoder, LDMEncoder
from vaelab.posteriors import Gaussian as GaussianPosterior
from vaelab.posteriors import Laplace as LaplacePosterior
from vaelab.priors import StandardNormal

CASES: dict[str, dict[str, Any]] = json.loads((Path(__file__).parents[1] / "reference" / "autoencoder_kl.json").read_text())
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
GREY = CASES["grey, attention"]


def waves(name: str, shape: tuple[int, ...]) -> Tensor:
    """The weights that the reference was computed with."""
    numbers = torch.arange(1, torch.Size(shape).numel() + 1, dtype=torch.float64)
    return (numbers * (1 + sum(map(ord, name)) % 97) * 0.7).sin().reshape(shape) / max(1, torch.Size(shape[1:]).numel()) ** 0.5


def weights_of(case: dict[str, Any]) -> dict[str, Tensor]:
    return {name: waves(name, tuple(shape)) for name, shape in case["shapes"].items()}


def model_of(case: dict[str, Any], posterior=GaussianPosterior, likelihood=None, input="none", **options: Any) -> VAE:
    """A VAE with the networks of a case, in double precision."""
    config, x_shape = case["config"], torch.tensor(case["x"]).shape[1:]
    z_shape = torch.tensor(case["mean"]).shape[1:]
    sizes = {
        "channels": config["block_out_channels"],
        "num_blocks": config["layers_per_block"],
        "norm_groups": config["norm_num_groups"],
        "attention": config["mid_block_add_attention"],
    }
    encoder, decoder = partial(LDMEncoder, **sizes, input=input), partial(LDMDecoder, **sizes)
    q = posterior(encoder, x_shape, z_shape, num_classes=options.get("num_classes", 0))
    p = (likelihood or partial(Laplace, scale="learned"))(decoder, z_shape, x_shape, num_classes=options.get("num_classes", 0))
    return VAE(q, p, StandardNormal(z_shape), **options).double().eval()


@cases
def test_what_is_read_from_diffusers_computes_what_diffusers_does(case: dict[str, Any]) -> None:
    model = model_of(case)
    load_autoencoder_kl(model, case["config"], weights_of(case))
    x, mean, std, decoded = (torch.tensor(case[name], dtype=torch.float64) for name in ("x", "mean", "std", "decoded"))
    q = model.encode(x)
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.stddev, std)
    torch.testing.assert_close(model.decode(mean).mean, decoded)


@cases
def test_what_is_written_for_diffusers_is_what_was_read(case: dict[str, Any]) -> None:
    model = model_of(case)
    load_autoencoder_kl(model, case["config"], weights_of(case))
    config, weights = to_autoencoder_kl(model)
    torch.testing.assert_close(weights, weights_of(case), rtol=1e-15, atol=0)
    assert {name: list(value.shape) for name, value in weights.items()} == case["shapes"]
    same = [name for name in case["config"] if name in config and name not in ("sample_size", "force_upcast")]
    assert {name: config[name] for name in same} == {name: case["config"][name] for name in same}
    assert {"in_channels", "block_out_channels", "latent_channels", "norm_num_groups", "mid_block_add_attention"} <= set(same)


def test_former_names_of_attention_and_a_missing_quant_conv_are_read() -> None:
    model, plain = model_of(GREY), model_of(GREY)
    former = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, value in weights_of(GREY).items():
        for new, old in former.items():
            if f".attentions.0.{new}." in name:
                name = name.replace(f".{new}.", f".{old}.")
                value = value[..., None, None] if value.ndim == 2 else value  # 1x1 convolutions they were
        renamed[name] = value
    load_autoencoder_kl(plain, GREY["config"], weights_of(GREY))
    load_autoencoder_kl(model, GREY["config"], renamed)
    torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=0, atol=0)

    without = {name: value for name, value in weights_of(GREY).items() if "quant_conv" not in name}
    load_autoencoder_kl(model, GREY["config"] | {"use_quant_conv": False, "use_post_quant_conv": False}, without)
    x = torch.tensor(GREY["x"], dtype=torch.float64)
    before = []  # what the last layer is given is mean and log variance, if it changes nothing
    model.posterior.network.quant_conv.register_forward_hook(lambda _, given, __: before.append(given[0]))
    q = model.encode(x)
    mean, log_variance = before[0].chunk(2, dim=1)
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.stddev, (log_variance / 2).exp())


def flat(model: VAE) -> VAE:
    """Another network in the place of the encoder."""
    model.posterior.network = MLP((1, 8, 8), (2, 2, 4, 4)).double()
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: model_of(GREY, posterior=LaplacePosterior), "AutoencoderKL holds posterior=gaussian, but this model has Laplace"),
        (lambda: model_of(GREY, likelihood=Bernoulli), "gives the mean alone, but this model has the likelihood Bernoulli"),
        (lambda: model_of(GREY, likelihood=partial(Gaussian, sigma="per_pixel")), "gives the mean alone"),
        (lambda: model_of(GREY, num_classes=3), "holds a plain VAE, but this model is conditional on y"),
        (lambda: model_of(GREY, missing=True), "takes missing values"),
        (lambda: model_of(GREY, input="log1p"), "train with encoder.input=none"),
        (lambda: flat(model_of(GREY)), "the networks of encoder=ldm decoder=ldm, but this model has MLP and LDMDecoder"),
    ],
)
def test_what_cannot_be_held_is_refused_in_words(model: Any, words: str) -> None:
    built: Model = model()
    with pytest.raises(ValueError, match=words):
        to_autoencoder_kl(built)


def test_another_architecture_and_a_missing_weight_are_refused() -> None:
    model, weights = model_of(GREY), weights_of(GREY)
    with pytest.raises(ValueError, match=r"another architecture: latent_channels=8 \(here 2\)"):
        load_autoencoder_kl(model, GREY["config"] | {"latent_channels": 8}, weights)
    with pytest.raises(ValueError, match=r"another architecture: in_channels=3 .*block_out_channels=\[64\]"):
        load_autoencoder_kl(model, {"_class_name": "AutoencoderKL"}, weights)
    other: Any = model_of(GREY)
    other.likelihood.network.norm_groups = 1  # whose weights would fit
    with pytest.raises(ValueError, match="encoder and decoder of AutoencoderKL are of the same sizes"):
        load_autoencoder_kl(other, GREY["config"], weights)
    del weights["decoder.conv_in.bias"]
    with pytest.raises(ValueError, match=r"1 of its weights are missing or of another shape, the first is decoder\.conv_in\.bias"):
        load_autoencoder_kl(model, GREY["config"], weights)


@pytest.mark.parametrize(
    ("image", "z_shape", "channels", "words"),
    [
        ((1, 30, 30), (4, 7, 7), [8, 8, 8], "need sides that are multiples of 4, but the images have 30 x 30 pixels"),
        ((1, 32, 32), (4, 7, 7), [8, 8, 8], r"make 8 x 8 places of 32 x 32 pixels, but z has shape \(4, 7, 7\): set z_shape=\[4,8,8\]"),
        ((1, 32, 32), (16,), [8, 8, 8], r"but z has shape \(16,\): set z_shape=\[16,8,8\]"),
        ((1, 32, 32), (4, 8, 8), [8, 8, 9], "channels=.* must be multiples of norm_groups=8"),
        ((1, 32, 32), (4, 8, 8), [], "at least one layer"),
        ((32,), (4, 8, 8), [8], "needs in_shape = "),
    ],
)
def test_sizes_that_do_not_fit_are_refused(image: tuple[int, ...], z_shape: tuple[int, ...], channels: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LDMEncoder(image, (2, *z_shape), channels, norm_groups=8)
    with pytest.raises(ValueError, match=words.replace("in_shape", "out_shape")):
        LDMDecoder(z_shape, (1, *image), channels, norm_groups=8)


@pytest.mark.parametrize("option", ["num_blocks", "norm_groups"])
def test_no_blocks_and_no_groups_are_refused(option: str) -> None:
    for network, shapes in ((LDMEncoder, ((1, 8, 8), (2, 4, 4, 4))), (LDMDecoder, ((4, 4, 4), (1, 1, 8, 8)))):
        with pytest.raises(ValueError, match=f"{option}=0 must be a whole number of at least 1"):
            network(*shapes, [8, 8], **{"norm_groups": 2} | {option: 0})


@pytest.mark.parametrize("stride", [1, 2, 8])
def test_shapes(stride: int) -> None:
    channels = [4] * (stride.bit_length())
    encoder = LDMEncoder((3, 16, 24), (2, 5, 16 // stride, 24 // stride), channels, 1, norm_groups=2)
    decoder = LDMDecoder((5, 16 // stride, 24 // stride), (2, 3, 16, 24), channels, 1, norm_groups=2)
    assert isinstance(encoder, nn.Module)
    params = encoder(torch.rand(2, 3, 16, 24))
    assert params.shape == (2, 2, 5, 16 // stride, 24 // stride)
    assert decoder(params[:, 0]).shape == (2, 2, 3, 16, 24)


def test_published_sizes_have_the_published_number_of_weights() -> None:
    """83,653,863: those of the f8 autoencoder of Stable Diffusion."""
    with torch.device("meta"):
        networks = LDMEncoder((3, 256, 256), (2, 4, 32, 32)), LDMDecoder((4, 32, 32), (1, 3, 256, 256))
    assert sum(weight.numel() for network in networks for weight in network.parameters()) == 83_653_863
