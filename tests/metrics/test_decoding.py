"""What is known in advance of latents that are the pictures themselves."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from vaelab import Model
from vaelab.data import DataModule, InMemory
from vaelab.metrics.decoding import decoding, effective_dimension


class Linear(Model):
    """z = (x - 1/2) / .1, and x = 1/2 + .1 z + a ramp from left to right."""

    def __init__(self, ramp: float = 0.0) -> None:
        super().__init__()
        self.ramp = ramp

    def encode(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return Independent(Normal((x - 0.5 - self.slope(x)) / 0.1, 1.0), 3)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        return Independent(Normal(0.5 + 0.1 * z + self.slope(z), 1.0), 3)

    def slope(self, x: Tensor) -> Tensor:
        return self.ramp * torch.arange(x.shape[-1])

    forward = sample = reconstruct = lambda self: None


def data(x: Tensor) -> DataModule:
    return DataModule(lambda split: InMemory(x), shape=x.shape[1:], batch_size=50, val_size=10)


def found(model: Model, x: Tensor, **options: Any) -> dict[str, Any]:
    return decoding(model, data(x), **options)


def test_noise_has_the_size_that_is_said() -> None:
    """x = 1/2 + .05 e: with noise of s standard deviations, mse = (.05 s)^2."""
    x = 0.5 + 0.05 * torch.randn(200, 3, 8, 8)
    report = found(Linear(), x, noise=[0, 0.1, 1])
    assert report["psnr_at_noise_0"] == pytest.approx(120, abs=1e-6)
    assert report["psnr_at_noise_0.1"] == pytest.approx(-20 * math.log10(0.005), abs=0.05)
    assert report["psnr_at_noise_1"] == pytest.approx(-20 * math.log10(0.05), abs=0.05)
    assert report["decoding_num_examples"] == 200


def test_a_map_of_pixels_moves_as_pictures_do() -> None:
    report = found(Linear(), 0.5 + 0.05 * torch.randn(40, 1, 8, 8), noise=[0])
    assert report["psnr_of_flip"] == report["psnr_of_shift"] == pytest.approx(120, abs=1e-3)


def test_a_decoder_that_knows_where_it_is() -> None:
    """With a ramp of .01 a column, a flip is wrong by .01 (2 j - 7) at column j, and a shift by .01."""
    x = 0.4 + 0.01 * torch.arange(8) + 0.02 * torch.randn(40, 1, 8, 8)
    report = found(Linear(0.01), x, noise=[0])
    mse = sum((0.01 * (2 * j - 7)) ** 2 for j in range(8)) / 8
    assert report["psnr_of_flip"] == pytest.approx(-10 * math.log10(mse), abs=1e-3)
    assert report["psnr_of_shift"] == pytest.approx(40, abs=1e-3)


def test_effective_dimensions() -> None:
    """exp H of eigenvalues that are known: equal ones count each, (4, 1) counts exp(-.8 log .8 - .2 log .2), and one that is 0 does not."""
    z = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]], dtype=torch.float64)
    assert effective_dimension(z) == pytest.approx(2)
    assert effective_dimension(z * torch.tensor([2.0, 1, 1])) == pytest.approx(math.exp(-0.8 * math.log(0.8) - 0.2 * math.log(0.2)))
    assert effective_dimension(torch.ones(5, 3)) == 0
    x = 0.5 + 0.05 * torch.randn(2000, 3, 2, 2)
    report = found(Linear(), x, noise=[0], num_examples=2000)
    assert report["effective_channels"] == pytest.approx(3, rel=1e-3)
    assert report["effective_dimension"] == pytest.approx(12, rel=1e-2)


@pytest.mark.parametrize(
    ("x", "options", "words"),
    [
        (torch.randn(20, 5), {}, "of pictures with values in"),
        (torch.rand(20, 1, 4, 4), {"noise": [-1]}, "noise"),
        (torch.rand(20, 1, 4, 4), {"num_examples": 1}, "num_examples=1"),
        (torch.rand(20, 1, 4, 4), {"split": "train"}, "split=train"),
    ],
)
def test_what_cannot_be_judged_is_said(x: Tensor, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        found(Linear(), x, **options)
