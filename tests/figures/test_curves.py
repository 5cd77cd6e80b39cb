"""Figures of series and vectors: what their lines are, in the units of the data, and that every kind of x has all of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from PIL import Image
from small_runs import composed

from vaelab.applications import Completion
from vaelab.build import build
from vaelab.data import DataModule, InMemory
from vaelab.data.modality import modality_of
from vaelab.data.scaling import Scaling
from vaelab.figures.charts.anomaly import Strip, extremes_chart
from vaelab.figures.completions import completed_curves, completions
from vaelab.figures.curves import families, fans, moving, overlaid, those_that_vary, tiled
from vaelab.figures.scene import Scene
from vaelab.figures.scenes import FIGURES, draw_figures

ALL = {f"{name}.{'gif' if name == 'moving_traversals' else 'png'}" for name in FIGURES}


def scaled(shape: tuple[int, ...], shift: float = 100.0, scale: float = 7.0):
    """The modality of this shape, with a scaling."""
    modality = modality_of(shape)
    modality.scaling = Scaling(torch.full(shape, shift), torch.full(shape, scale), torch.zeros(shape, dtype=torch.bool))
    return modality


def lines(axis: Axes) -> list[np.ndarray]:
    return [np.asarray(line.get_ydata(), dtype=float) for line in axis.get_lines()]


@pytest.mark.parametrize(("shape", "num_classes"), [((1,), 0), ((6, 40), 3)], ids=str)
def test_every_shape_has_every_figure(shape: tuple[int, ...], num_classes: int, tmp_path: Path) -> None:
    """Of a size that a person looks at: no wider than a screen, and no longer than two."""
    networks = ["encoder=conv1d", "decoder=conv1d"] if len(shape) == 2 else ["encoder=mlp", "decoder=mlp"]
    config = composed(
        ["likelihood=gaussian", f"data.shape={list(shape)}", *networks, "latent_dim=2", f"num_classes={num_classes}"], tmp_path
    )
    model = build(config).model.eval()
    x, y = torch.randn(60, *shape) * 30 + 100, torch.arange(60) % 3
    x[0] = torch.nan
    data = DataModule(lambda split: InMemory(x, y), shape, val_size=10, scale="standardize", missing=True)
    model.missing = True
    paths = draw_figures(model, data, tmp_path / "figures", torch.device("cpu"), num_images=2)
    assert {path.name for path in paths} == ALL
    for path in paths:
        with Image.open(path) as picture:
            assert 600 <= picture.width <= 1700
            assert 200 <= picture.height <= 2600
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20


def test_reconstructions_lie_over_the_data_in_their_units() -> None:
    modality = scaled((2, 30))
    x = torch.randn(3, 2, 2, 30)
    figure = overlaid(modality, x, ["x", "E[x | z]"], ["a", "", "c"], "words")
    axes = [axis for axis in figure.axes if axis.get_visible() and axis.get_lines()]
    assert len(axes) == 6  # three panels of two channels
    for panel in range(3):
        for channel in range(2):
            axis = axes[panel * 2 + channel]
            np.testing.assert_allclose(lines(axis), 100 + 7 * x[panel, :, channel].numpy(), rtol=1e-5)
            assert axis.get_ylim() == axes[channel].get_ylim()
    assert [axis.get_title() for axis in axes[::2]] == ["a", "", "c"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["x", "E[x | z]"]


def test_short_vectors_are_bars_with_points() -> None:
    x = torch.randn(1, 2, 5)
    (axis,) = overlaid(scaled((5,)), x, ["x", "E[x | z]"], [""], "words").axes
    np.testing.assert_allclose([bar.get_height() for bar in axis.patches], 100 + 7 * x[0, 0].numpy(), rtol=1e-5)
    (points,) = axis.get_lines()
    assert (points.get_linestyle(), points.get_marker()) == ("None", "o")


def test_fans_hold_half_and_nine_tenths() -> None:
    """The bands are quantiles of each time; data and samples have one range."""
    groups = {"test data": torch.randn(101, 1, 9), "samples": 3 * torch.randn(101, 1, 9)}
    figure = fans(scaled((1, 9)), groups, "words")
    for axis, x in zip(figure.axes, groups.values(), strict=True):
        for band, (low, high) in zip(axis.collections, ((0.05, 0.95), (0.25, 0.75)), strict=True):
            (path,) = band.get_paths()
            at_4 = path.vertices[path.vertices[:, 0] == 4, 1]
            expected = 100 + 7 * torch.quantile(x[:, 0, 4], torch.tensor([low, high])).numpy()
            np.testing.assert_allclose([at_4.min(), at_4.max()], expected, rtol=1e-4)
        assert len(axis.get_lines()) == 4
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_families_are_ordered_by_colour_and_their_ends_are_black() -> None:
    curves, ends = torch.randn(2, 5, 40).cumsum(-1), torch.randn(2, 2, 40).cumsum(-1)
    figure = families(modality_of((40,)), curves, [-2, -1, 0, 1, 2], ["z[3]", "z[0]"], "z", "words", ends)
    for axis, panel, pair in zip(figure.axes, curves, ends, strict=False):
        np.testing.assert_allclose(lines(axis), torch.cat([pair, panel]).numpy())
        drawn = axis.get_lines()
        assert [line.get_linestyle() for line in drawn[:3]] == ["-", "--", "-"]
        brightness = [sum(line.get_color()[:3]) for line in drawn[2:]]
        assert brightness == sorted(brightness)


def test_an_animation_moves_one_line_of_each_panel() -> None:
    curves = torch.linspace(-1, 1, 6)[None, :, None].expand(2, 6, 30)
    frames = [np.asarray(frame) for frame in moving(modality_of((30,)), curves, list(range(6)), ["a", "b"], [f"at {i}" for i in range(6)])]
    assert len({frame.tobytes() for frame in frames}) == 6
    heights = [np.flatnonzero((frame.max(-1).astype(int) - frame.min(-1) > 60).any(1)).mean() for frame in frames]
    assert heights == sorted(heights, reverse=True)  # rows are counted from above


def test_a_grid_has_a_line_in_each_cell() -> None:
    figure = tiled(modality_of((2, 11)), torch.randn(4, 5, 2, 11), "words")
    drawn = lines(figure.axes[0])
    assert len(drawn) == 4 * 5 * 2
    assert all((line >= 3 - row // 10).all() and (line <= 4 - row // 10).all() for row, line in enumerate(drawn))


def scene(shape: tuple[int, ...], x: torch.Tensor) -> Scene:
    data = DataModule(lambda split: InMemory(x), shape)
    data.modality = scaled(shape)
    model = build(composed([f"data.shape={list(shape)}", "encoder=mlp", "decoder=mlp"], Path())).model
    return Scene(model, data, x, torch.zeros(len(x)), "test", num_images=2)


def test_completions_go_on_from_what_was_observed() -> None:
    """What is hidden is drawn beside the completions; all in the units of the data."""
    s = torch.randn(3, 1, 50)
    observed = torch.ones_like(s, dtype=torch.bool)
    observed[..., 20:] = False
    mean = torch.full_like(s, 90.0)
    completion = Completion(x=mean[None], expected=mean[None], mean=mean, std=torch.ones_like(s))
    figure = completed_curves(scene((1, 50), s), observed, completion)
    found = {line.get_label(): np.asarray(line.get_ydata(), dtype=float) for line in figure.axes[0].get_lines()}
    x = 100 + 7 * s[0, 0].numpy()
    np.testing.assert_allclose(found["x, observed"][:20], x[:20], rtol=1e-5)
    assert np.isnan(found["x, observed"][20:]).all()
    np.testing.assert_allclose(found["x, hidden"][19:], x[19:], rtol=1e-5)
    assert np.isnan(found["mean"][:19]).all()
    assert (found["mean"][19:] == 90).all()
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["completions E[x | z]", "mean", "2 standard deviations", "x, hidden", "x, observed"]
    assert completions(scene((1, 50), s), observed, completion).width > 600


def test_anomalies_are_lines_too() -> None:
    strips = [
        Strip(title, torch.randn(3, 1, 20), torch.randn(3, 1, 20), torch.arange(3.0), ["a", "b", "c"]) for title in ("found", "missed")
    ]
    figure = extremes_chart(strips, scaled((1, 20)))
    np.testing.assert_allclose(lines(figure.axes[0]), torch.stack([strips[0].x[0, 0], strips[0].reconstructions[0, 0]]).numpy())
    assert [axis.get_title() for axis in figure.axes[:3]] == ["0\na", "1\nb", "2\nc"]
    assert [axis.texts[0].get_text() for axis in figure.axes[::3]] == ["found", "missed"]


def test_values_without_an_order_are_bars_of_those_that_vary_most() -> None:
    """White noise is shown by 16 of its values; what is like its neighbours, noisy or of narrow peaks, is a line, and so is a series."""
    draw, t = np.random.default_rng(0), np.linspace(0, 1, 300)
    waves = np.sin(20 * t + 6 * draw.random((50, 1)))
    peaks = np.exp(-(((t - draw.random((8, 50, 1))) / 0.005) ** 2)).sum(0)
    counts = draw.poisson(np.exp(2 * draw.normal(size=300)), (50, 300)).astype(float)
    assert those_that_vary(waves) is those_that_vary(waves + 0.7 * draw.normal(size=waves.shape)) is those_that_vary(peaks) is None
    assert those_that_vary(np.ones((3, 300))) is None
    chosen = those_that_vary(counts)
    assert chosen is not None
    np.testing.assert_array_equal(chosen, np.sort(np.argsort(-counts.var(0))[:16]))
    with_holes = np.where(draw.random(counts.shape) < 0.3, np.nan, counts)
    with_holes[0], with_holes[:, chosen[0]] = np.nan, np.nan
    found = those_that_vary(with_holes)
    assert found is not None
    assert chosen[0] not in found
    assert those_that_vary(np.full((3, 300), np.nan)) is None
    x = torch.from_numpy(counts[:6]).float().unflatten(0, (3, 2))
    figure = overlaid(modality_of((300,)), x, ["x", "E[x | z]"], ["", "", ""], "words")
    shown = those_that_vary(counts[:6])
    for axis, (first, second) in zip(figure.axes, x.numpy(), strict=True):
        np.testing.assert_array_equal([bar.get_height() for bar in axis.patches], first[shown])
        np.testing.assert_array_equal(lines(axis)[0], second[shown])
        assert [label.get_text() for label in axis.get_xticklabels()] == list(map(str, shown))
    assert figure.texts[0].get_text() == "words\n(the 16 of 300 values that vary most)"
    series = overlaid(modality_of((1, 300)), x[:, :, None], ["x", "E[x | z]"], ["", "", ""], "words")
    assert all(len(line) == 300 for axis in series.axes for line in lines(axis))
