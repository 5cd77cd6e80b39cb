"""Distances of reconstructions that are known in advance."""

import math
import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics.functional.image
import torchvision
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


# --- LPIPS and rFID, whose weights are not here: random ones in their place, which the metric reads


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where weights are looked for."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def random_weights(network: str, path: Path) -> nn.Sequential:
    """The convolutions of a network of torchvision, whose weights are written; those of its classifier, which are large, are zeros."""
    features = getattr(torchvision.models, network)(weights=None).features
    with torch.device("meta"):
        whole = getattr(torchvision.models, network)(weights=None).state_dict()
    zeros = {name: torch.zeros(()).expand(value.shape) for name, value in whole.items() if name.startswith("classifier")}
    torch.save(zeros | {f"features.{name}": value for name, value in features.state_dict().items()}, path)
    return features.eval()


def lpips_by_hand(features: nn.Sequential, layers: list[int], network: str, x: Tensor, ours: Tensor) -> Tensor:
    """sum_l mean_hw w_l (f_l / |f_l| - g_l / |g_l|)^2 of features f and g of x and of its reconstruction, with the weights w of LPIPS."""
    package = Path(torchmetrics.functional.image.__file__).parent
    learned = torch.load(package / "lpips_models" / f"{network}.pth", map_location="cpu", weights_only=True)
    shift, scale = (torch.tensor(each)[:, None, None] for each in ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]))
    f, g = ((2 * part.expand(-1, 3, -1, -1) - 1 - shift) / scale for part in (x, ours))
    total = torch.zeros(len(x))
    for i, layer in enumerate(features[: layers[-1] + 1]):
        f, g = layer(f), layer(g)
        if i in layers:
            unit, other = (part / (part.square().sum(1, keepdim=True) + 1e-8).sqrt() for part in (f, g))
            weights = learned[f"lin{layers.index(i)}.model.1.weight"]
            total += ((unit - other).square() * weights.squeeze(0)).sum(1).mean((1, 2))
    return total


@pytest.mark.parametrize(
    ("network", "of_torchvision", "file", "layers"),
    [("alex", "alexnet", "alexnet-owt-7be5be79.pth", [1, 4, 7, 9, 11]), ("vgg", "vgg16", "vgg16-397923af.pth", [3, 8, 15, 22, 29])],
)
@torch.no_grad()
def test_lpips_is_computed_with_the_weights_on_disk(
    network: str, of_torchvision: str, file: str, layers: list[int], checkpoints: Path
) -> None:
    """By its formula, of grey and colour pictures; 0 of a perfect reconstruction, and the same with both exchanged."""
    features = random_weights(of_torchvision, checkpoints / file)
    for channels in (1, 3):
        x = pictures(17, side=31 if network == "alex" else 16, channels=channels)  # a batch of 16, and one of a single picture
        expected = lpips_by_hand(features, layers, network, x, x.flip(-1))
        options = {"features": "none", "lpips": network}
        found = reconstruction(Reconstructs(lambda x: x.flip(-1)), data(x), **options)
        assert expected.min() > 1e-4
        assert found[f"lpips_{network}"] == pytest.approx(expected.mean().item(), rel=1e-4)
        assert found[f"lpips_{network}_std_error"] == pytest.approx((expected.std() / 17**0.5).item(), rel=1e-3)
        exchanged = reconstruction(Reconstructs(lambda x: x.flip(-1)), data(x.flip(-1)), **options)
        assert exchanged[f"lpips_{network}"] == pytest.approx(found[f"lpips_{network}"], rel=1e-5)
    assert reconstruction(Reconstructs(lambda x: x), data(x), **options)[f"lpips_{network}"] == 0


def test_lpips_is_chosen_where_it_can_see_the_pictures(checkpoints: Path) -> None:
    """28 x 28 leave alex no place in its last layers, and 32 x 32 do; vgg needs 16 x 16."""
    path = checkpoints / "alexnet-owt-7be5be79.pth"
    random_weights("alexnet", path)
    same = Reconstructs(lambda x: x)
    assert reconstruction(same, data(pictures(side=32)), features="none")["lpips_alex"] == 0
    assert "lpips_alex" not in reconstruction(same, data(pictures(side=28)), features="none")
    for lpips, side in (("alex", 30), ("vgg", 15)):
        least = side + 1
        with pytest.raises(ValueError, match=rf"lpips={lpips} needs pictures of at least {least} x {least}, but x has shape \(1, {side}"):
            reconstruction(same, data(pictures(side=side)), lpips=lpips)
    with pytest.raises(ValueError, match="needs pictures"):
        reconstruction(same, data(torch.randn(20, 5)), lpips="alex")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"alexnet-owt-7be5be79.pth cannot be read as torchvision's weights: put the file there anew"):
        reconstruction(same, data(pictures(side=32)), lpips="alex")


def test_the_network_of_lpips_is_read_once(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random_weights("alexnet", checkpoints / "alexnet-owt-7be5be79.pth")
    made, alexnet = list[int](), torchvision.models.alexnet
    monkeypatch.setattr(torchvision.models, "alexnet", lambda **options: made.append(1) or alexnet(**options))
    assert "lpips_alex" in reconstruction(Reconstructs(lambda x: x), data(pictures(50, side=32)), features="none")
    assert made == [1]


STAND_IN = """
import torch
class FeatureExtractorInceptionV3(torch.nn.Module):
    def __init__(self, name, features_list, feature_extractor_weights_path=None):
        super().__init__()
        self.weights = torch.load(feature_extractor_weights_path, weights_only=True)
    def forward(self, x):
        assert x.dtype == torch.uint8 and x.shape[1] == 3
        return (x.double().flatten(1) @ self.weights,)
"""


def test_rfid_in_the_features_of_inception(checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The distance between features of 8-bit pictures: 0 of equal ones, |d|^2 of those that are moved by d."""
    for name in ("torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "torch_fidelity").mkdir()
    (tmp_path / "torch_fidelity" / "__init__.py").touch()
    (tmp_path / "torch_fidelity" / "feature_extractor_inceptionv3.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    weights = torch.randn(3 * 16 * 16, 4).double()
    torch.save(weights, checkpoints / "weights-inception-2015-12-05-6726825d.pth")
    x = (255 * pictures(40)).round() / 255
    assert reconstruction(Reconstructs(lambda x: x), data(x))["rfid"] == pytest.approx(0, abs=1e-3)
    moved = reconstruction(Reconstructs(lambda x: x + 10 / 255), data(x))["rfid"]
    assert moved == pytest.approx((10 * weights.sum(0)).square().sum().item(), rel=1e-4)
    (checkpoints / "weights-inception-2015-12-05-6726825d.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"weights-inception.*cannot be read as torch-fidelity's weights"):
        reconstruction(Reconstructs(lambda x: x), data(x), features="inception")
    for name in list(sys.modules):
        if name.startswith("torch_fidelity"):
            monkeypatch.delitem(sys.modules, name)


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
