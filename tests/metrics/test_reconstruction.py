"""Distances of reconstructions that are known in advance."""

import math
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vaelab import VAE, Model
from vaelab.data import DataModule, InMemory
from vaelab.likelihoods import Bernoulli
from vaelab.metrics.reconstruction import reconstruction
from vaelab.networks import MLP
from vaelab.posteriors import LookupFree
from vaelab.priors import UniformCodes


class Reconstructs(Model):
    """A model that has learned a function of x."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.function(x)

    def encode(self, x: Tensor, y: Tensor | None = None) -> torch.distributions.Distribution:
        return torch.distributions.Normal(0.0, 1.0)

    forward = decode = sample = lambda self: None


def data(x: Tensor, y: Tensor | None = None, **options: Any) -> DataModule:
    return DataModule(lambda split: InMemory(x, y), shape=x.shape[1:], batch_size=16, val_size=10, **options)


def pictures(num: int = 40, side: int = 16, channels: int = 1) -> Tensor:
    return 0.25 + 0.5 * torch.rand(num, channels, side, side)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_shift_of_a_tenth(channels: int) -> None:
    """mse .01, 20 dB, a Frechet distance of pixels of .01 a pixel, since the covariances are equal; ssim by its formula."""
    x = pictures(channels=channels)
    found = reconstruction(Reconstructs(lambda x: x + 0.1), data(x), features="pixels")
    assert found["reconstruction_mse"] == pytest.approx(0.01, rel=1e-5)
    assert found["reconstruction_l1"] == pytest.approx(0.1, rel=1e-5)
    assert found["psnr"] == pytest.approx(20, rel=1e-5)
    assert found["frechet_distance_of_reconstructions_pixels"] == pytest.approx(0.01 * x[0].numel(), rel=1e-3)
    assert found["reconstruction_num_examples"] == 40
    assert not any(name.startswith("lpips") for name in found)  # there are no weights


def test_ssim_of_constant_pictures() -> None:
    """Without variance, ssim = (2 a b + c) / (a^2 + b^2 + c) with c = .01^2."""
    x = torch.linspace(0.2, 0.8, 30).reshape(-1, 1, 1, 1).expand(30, 1, 16, 16)
    found = reconstruction(Reconstructs(lambda x: x / 2), data(x.clone()), features="none")
    a, c = torch.linspace(0.2, 0.8, 30).double(), 1e-4
    assert found["ssim"] == pytest.approx(((a * a + c) / (1.25 * a * a + c)).mean().item(), rel=1e-4)
    assert found["psnr"] == pytest.approx((-10 * (a / 2).square().log10()).mean().item(), rel=1e-5)


def test_a_perfect_reconstruction() -> None:
    found = reconstruction(Reconstructs(lambda x: x), data(pictures()))
    assert found["psnr"] == pytest.approx(120)
    assert found["ssim"] == pytest.approx(1)
    assert found["frechet_distance_of_reconstructions_pixels"] == pytest.approx(0, abs=1e-4)


def test_values_that_are_missing_are_left_out() -> None:
    x = torch.randn(30, 5)
    x[::2, 1] = torch.nan
    found = reconstruction(Reconstructs(lambda x: x.nan_to_num(7.0) + 2), data(x, missing=True))
    assert found["reconstruction_mse"] == pytest.approx(4, rel=1e-5)
    assert found["reconstruction_l1"] == pytest.approx(2, rel=1e-5)
    assert not {"psnr", "ssim"} & found.keys()
    assert not any("frechet" in name for name in found)


def test_errors_are_in_the_units_of_the_data() -> None:
    x = 100 * torch.randn(50, 3)
    scaled = data(x, scale="standardize")
    found = reconstruction(Reconstructs(lambda x: x + 1), scaled, features="pixels")
    scaled.setup("fit")
    scale = scaled.modality.scaling.scale
    assert found["reconstruction_mse"] == pytest.approx(scale.square().mean().item(), rel=1e-4)
    assert found["frechet_distance_of_reconstructions_pixels"] == pytest.approx(3, rel=1e-3)  # of what models see


def test_features_of_a_classifier_where_there_are_labels() -> None:
    x, y = pictures(60), torch.arange(60) % 2
    x[y == 1, :, :8] = 1.0
    near, far = (
        reconstruction(Reconstructs(lambda x, by=by: (x + by).clamp(0, 1)), data(x, y), num_epochs=2)[
            "frechet_distance_of_reconstructions_classifier"
        ]
        for by in (0.01, 0.5)
    )
    assert 0 <= near < far


def test_small_pictures_and_those_of_other_ranges() -> None:
    assert "ssim" not in reconstruction(Reconstructs(lambda x: x), data(pictures(side=8)), features="none")
    found = reconstruction(Reconstructs(lambda x: x), data(pictures() * 4 - 2), features="none")
    assert math.isfinite(found["reconstruction_mse"])
    assert "psnr" not in found


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "train"}, "split=train"),
        ({"num_examples": 0}, "num_examples=0"),
        ({"lpips": "vgg"}, "lpips=vgg needs torchvision's weights as .*vgg16-397923af.pth: put them there, or set lpips=none"),
        ({"features": "inception"}, "inception"),
    ],
)
def test_what_cannot_be_computed_is_said(options: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=words):
        reconstruction(Reconstructs(lambda x: x), data(pictures()), **options)


def test_codes_are_counted_over_the_whole_split() -> None:
    """Distances are of the first examples, the use of codes is of all: 12 of 16, of which 4 of the examples that come last."""
    levels = torch.tensor([0.0, 1.0])
    digits = torch.tensor(list(product(levels.tolist(), repeat=4)))
    x = torch.cat([digits[:8].repeat(20, 1), digits[8:12]])[:, :, None].expand(-1, -1, 2).contiguous()
    posterior = LookupFree(Centred, (4, 2), (4, 2))
    likelihood = Bernoulli(partial(MLP, hidden=()), (4, 2), (4, 2))
    model = VAE(posterior, likelihood, partial(UniformCodes)).eval()
    found = reconstruction(model, data(x), num_examples=20, features="none")
    assert found["reconstruction_num_examples"] == 20
    assert found["code_usage"] == 12 / 16
    shares = torch.tensor([20.0] * 8 + [1.0] * 4) / 164
    assert found["code_perplexity"] == pytest.approx(torch.distributions.Categorical(shares).entropy().exp().item(), rel=1e-5)


class Centred(nn.Module):
    """x - 1/2, as the one parameter of a quantiser."""

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5).unsqueeze(1)
