"""Scalings: inverses, densities in the units of the data, and what is stored of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from linear_gaussian import at_sigma_points, orthogonal
from small_runs import QUICK, composed, train_small
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.distributions import Distribution, Independent, Normal

from vaelab import Draw
from vaelab.build import open_run
from vaelab.data import DataModule, InMemory, Missing
from vaelab.data.scaling import SCALES, Scaling, fit_scaling
from vaelab.evidence import importance_weighted
from vaelab.metrics import bound
from vaelab.runs.folder import RunFolder

NAMES = SCALES[1:]
SHAPES = [((5,), ()), ((3, 7), (1,)), ((2, 4, 3), (1, 2)), ((), ())]  # and the axes that are taken together


def data(shape: tuple[int, ...], num: int = 200) -> Tensor:
    """Positive numbers of very different sizes."""
    x = torch.randn(num, *shape, dtype=torch.float64).exp()
    return x * torch.arange(1, 1 + shape[0]).reshape(-1, *[1] * (len(shape) - 1)).double() ** 4 if shape else x


def fitted(name: str, x: Tensor, pooled: tuple[int, ...] = ()) -> Scaling:
    return fit_scaling(name, x.split(31), x.shape[1:], pooled)[0]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "pooled"), SHAPES, ids=str)
def test_the_inverse_and_the_determinant_are_those_of_the_map(name: str, shape: tuple[int, ...], pooled: tuple[int, ...]) -> None:
    x = data(shape)
    scaling = fitted(name, x, pooled)
    s = scaling.forward(x)
    torch.testing.assert_close(scaling.inverse(s), x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(scaling.inverse(torch.stack([s, s])), torch.stack([x, x]), rtol=1e-9, atol=1e-9)  # (K, B, ...)
    slopes = jacobian(lambda each: scaling.forward(each).flatten(), x[0]).reshape(s[0].numel(), -1)
    torch.testing.assert_close(scaling.log_det(s)[0], torch.linalg.slogdet(slopes).logabsdet)
    observed = torch.rand(s.shape) < 0.6
    seen = slopes.diagonal()[observed[0].flatten()]
    torch.testing.assert_close(scaling.log_det(s, observed)[0], seen.log().sum())


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("shape", "pooled"), SHAPES, ids=str)
def test_what_is_scaled_has_the_moments_or_the_range_that_it_is_scaled_to(shape: tuple[int, ...], pooled: tuple[int, ...]) -> None:
    """Of the observed values: others are NaN, and stay it."""
    x = data(shape)
    x[torch.rand(x.shape) < 0.2] = torch.nan
    axes = [0, *(1 + axis for axis in pooled)]
    s = fitted("standardize", x, pooled).forward(x)
    assert torch.equal(s.isnan(), x.isnan())
    zeros = torch.zeros_like(s.nanmean(axes))
    torch.testing.assert_close(s.nanmean(axes), zeros, rtol=0, atol=1e-9)
    torch.testing.assert_close(s.square().nanmean(axes), zeros + 1, rtol=0, atol=1e-9)
    s = fitted("minmax", x, pooled).forward(x)
    torch.testing.assert_close(s.nan_to_num(torch.inf).amin(axes), zeros, rtol=0, atol=1e-12)
    torch.testing.assert_close(s.nan_to_num(-torch.inf).amax(axes), zeros + 1, rtol=0, atol=1e-12)


def test_large_offsets_keep_their_digits() -> None:
    """Seconds since 1970 that differ by some milliseconds: 32 bits hold 1.7e9 to 128 seconds."""
    x = 1.7e9 + 1e-3 * torch.randn(500, 2, dtype=torch.float64)
    s = fitted("standardize", x).forward(x)
    assert s.dtype == torch.float32
    assert 0.99 < float(s.std()) < 1.01


class Exponential(Distribution):
    """Of s > 0, with rate 1: where log1p puts positive x."""

    event_shape, batch_shape = torch.Size([1]), torch.Size()

    def __init__(self) -> None:
        super().__init__(validate_args=False)

    def log_prob(self, s: Tensor) -> Tensor:
        return torch.where(s > 0, -s, -torch.inf).sum(-1)[None]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", NAMES)
def test_densities_integrate_to_one_over_x_in_the_units_of_the_data(name: str) -> None:
    """By quadrature of p(x | z) = p(s | z) |ds/dx|."""
    scaling = fitted(name, data((1,)) * 37)
    p: Distribution = Exponential() if name == "log1p" else Independent(Normal(torch.full((1, 1, 1), 0.2), torch.full((1, 1, 1), 0.7)), 1)
    ends = scaling.inverse(torch.tensor([[1e-9], [40.0]]) if name == "log1p" else torch.tensor([[-9.0], [9.0]])).flatten()
    x = ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, 200_001)
    if name == "log1p":
        x = torch.logspace(-8, 12, 400_001)
    draw = Draw(x=scaling.forward(x[:, None]), y=None, p_x=p, latents=(), units=scaling)
    assert abs(torch.trapezoid(draw.log_px[0].exp(), x).item() - 1) < 1e-5


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("shape", [(6,), (1, 2, 3)])
def test_log_p_of_x_is_the_same_however_the_data_are_scaled(shape: tuple[int, ...]) -> None:
    """A linear Gaussian model of s = (x - m) / c is one of x with the noise c sigma: both have its exact log p(x), ELBO and gradient."""
    theory = orthogonal()
    c, m = 7.0, torch.linspace(-50, 900, 6)
    scaling = Scaling(m.reshape(shape), torch.full(shape, c), torch.zeros(shape, dtype=torch.bool))
    scaled, plain = theory.vae(shape), replace(theory, weight=c * theory.weight, bias=m + c * theory.bias, sigma=c * theory.sigma)
    x = plain.sample(5).reshape(5, *shape)
    scaled.units = scaling
    s = scaling.forward(x)
    log_p = plain.log_prob(x)
    torch.testing.assert_close(scaled(s, num_samples=3).log_w, log_p.expand(3, 5), rtol=0, atol=1e-8)
    torch.testing.assert_close(importance_weighted(scaled, s, num_samples=4).log_likelihood, log_p, rtol=0, atol=1e-8)
    draw = replace(at_sigma_points(scaled, s), units=scaling)
    torch.testing.assert_close(bound(draw)["elbo"], log_p, rtol=0, atol=1e-8)
    mine, theirs = (
        torch.autograd.grad(each.log_px.sum(), scaled.likelihood.parameters(), retain_graph=True)
        for each in (draw, replace(draw, units=None))
    )
    assert all(map(torch.equal, mine, theirs))


@pytest.mark.usefixtures("double")
def test_log_p_of_what_was_observed_is_in_units_of_what_was_observed() -> None:
    theory = orthogonal()
    scaling = Scaling(torch.zeros(6), torch.arange(1, 7).double(), torch.zeros(6, dtype=torch.bool))
    model = theory.vae((6,))
    model.units, model.missing = scaling, True
    s = theory.sample(4)
    s[:, 2] = torch.nan
    with_units = model(s)
    without = replace(with_units, units=None)
    torch.testing.assert_close(with_units.log_px - without.log_px, torch.full((1, 4), -torch.tensor([1.0, 2, 4, 5, 6]).log().sum().item()))


def test_only_training_data_are_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither validation nor test data, nor what a transform hides."""
    x = torch.randn(60, 3)
    parts = {"train": x, "test": 1000 + x}
    module = DataModule(lambda split: InMemory(parts[split]), [3], val_size=20, scale="standardize")
    module.setup("test")
    train = x[module.splits["train"].indices].double()
    assert module.modality.scaling is not None
    torch.testing.assert_close(module.modality.scaling.shift, train.mean(0))
    torch.testing.assert_close(module.modality.scaling.scale, train.std(0, correction=0))
    hiding = DataModule(lambda split: InMemory(parts[split]), [3], val_size=20, scale="minmax", transform=Missing(0.5), static_seed=0)
    hiding.missing = True
    hiding.setup("fit")
    seen = torch.cat([s for s, _ in hiding.batches("train")])
    assert seen.isnan().double().mean() > 0.3
    assert (seen.nan_to_num(1).amin(0), seen.nan_to_num(0).amax(0)) == (pytest.approx([0] * 3), pytest.approx([1] * 3))
    assert capsys.readouterr().out == ""


def test_a_value_that_is_always_the_same_is_not_divided(capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.randn(50, 3)
    x[:, 1], x[:, 2] = 0.1, torch.nan
    module = DataModule(lambda split: InMemory(x), [3], val_size=10, scale="standardize", missing=True)
    s = next(module.batches("val"))[0]
    assert torch.equal(s[:, 1], torch.zeros(10))
    assert s[:, 2].isnan().all()
    words = "note: 2 of 3 values of x are the same in all training data, 1 of them always missing, and are not divided: x[1]; x[2]\n"
    assert capsys.readouterr().out == words


def test_8_bit_pictures_are_scaled_from_the_unit_interval() -> None:
    x = torch.randint(256, (40, 1, 4, 4)).to(torch.uint8)
    module = DataModule(lambda split: InMemory(x), [1, 4, 4], val_size=10, scale="minmax", augment="flip")
    s, _ = next(module.batches("train"))
    assert (float(s.min()), float(s.max())) == pytest.approx((0, 1), abs=1e-6)
    raw = x[module.splits["val"].indices]
    torch.testing.assert_close(module.modality.unscale(next(module.batches("val"))[0]), raw / 255)


@pytest.mark.parametrize(("value", "words"), [(-1.0, r"row 17 of the train data has x\[2\]=-1.0: data.scale=log1p takes values above -1")])
def test_what_has_no_logarithm_is_found(value: float, words: str) -> None:
    x = torch.rand(40, 3)
    x[17, 2] = value
    with pytest.raises(ValueError, match=words):
        DataModule(lambda split: InMemory(x), [3], val_size=10, scale="log1p").setup("fit")
    with pytest.raises(ValueError, match=r"data\.scale=normal is unknown: choose none, standardize, minmax or log1p"):
        DataModule(lambda split: InMemory(x), [3], scale="normal")


def test_a_run_stores_its_scaling_and_reports_the_units_of_the_data(tmp_path: Path) -> None:
    """Its checkpoint has the scaling; an opened run has it before any data are read, and log p(x) as training reported it."""
    run = train_small(tmp_path / "run", "data.scale=standardize", "likelihood=gaussian", "trainer.max_epochs=1", *QUICK)
    opened = open_run(run)
    assert not opened.datamodule.splits
    assert opened.model.units is opened.datamodule.modality.scaling is not None
    stored = opened.datamodule.modality.scaling.state_dict()
    fresh = DataModule(opened.datamodule.dataset, opened.datamodule.shape, val_size=64, scale="standardize")
    fresh.setup("fit")
    assert fresh.modality.scaling is not None
    assert all(torch.equal(stored[key], value) for key, value in fresh.modality.scaling.state_dict().items())
    x, y = opened.datamodule.examples("val", 64)
    with torch.no_grad():
        found = bound(opened.model(x, y, num_samples=50))["distortion"].mean().item()
        opened.model.units = None
        without = bound(opened.model(x, y, num_samples=50))["distortion"].mean().item()
    det = float(fresh.modality.scaling.log_det(x[:1]))
    assert without - found == pytest.approx(det, abs=5)
    assert RunFolder(run).results()["val"]["distortion"] == pytest.approx(found, abs=0.05 * abs(det))
    assert composed(["data=circles"], tmp_path).data.scale == "none"
