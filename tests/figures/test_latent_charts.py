"""The charts of a latent space show the numbers that they are given, and name them."""

import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba

from vaelab.figures.charts.colours import OKABE_ITO
from vaelab.figures.charts.latent import MAX_CLASSES, MAX_NAMED, active_units_chart, concentration, latent_scatter, rate_chart

VARIANCES = [0.5, 0.0, 0.02, 1.0, 0.01]
RATES = [0.5, 3.0, 0.0, 1.5]


def labels(axis):
    return [label.get_text() for label in axis.get_xticklabels()]


def dots(axis):
    return [collection for collection in axis.collections if isinstance(collection, PathCollection)]


def test_every_unit_has_a_dot_filled_if_it_is_active():
    """Sorted: dimensions 3, 0, 2 are active; 4, at the threshold, and 1, which has no variance, are not. 0 is shown at 10^-8."""
    axis = active_units_chart({"active_units_variances": VARIANCES}).axes[0]
    active, inactive, line = axis.lines
    assert active.get_xydata().tolist() == [[0, 1.0], [1, 0.5], [2, 0.02]]
    assert inactive.get_xydata().tolist() == [[3, 0.01], [4, 1e-8]]
    assert active.get_markerfacecolor() != inactive.get_markerfacecolor() == "white"
    assert list(line.get_ydata()) == [0.01, 0.01]
    assert labels(axis) == ["3", "0", "2", "4", "1"]
    assert axis.get_yscale() == "log"
    assert axis.get_ylim()[0] < 1e-8
    assert axis.get_title() == "3 of 5 units are active"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["active: 3", "inactive: 2"]
    assert [text.get_text() for text in axis.texts] == ["threshold 0.01"]


def test_the_threshold_decides_which_units_are_active():
    axis = active_units_chart({"active_units_variances": VARIANCES}, threshold=0.7).axes[0]
    assert axis.get_title() == "1 of 5 units are active"
    assert axis.lines[0].get_xydata().tolist() == [[0, 1.0]]
    assert active_units_chart({"active_units_variances": [0.0, 0.0]}).axes[0].get_title() == "0 of 2 units are active"


def test_every_dimension_has_a_bar_as_high_as_its_rate():
    """3.0, 1.5 and 0.5 of 5 nats: 90 % in two dimensions, all in three."""
    axis = rate_chart({"rate_per_dimension": RATES}).axes[0]
    assert [bar.get_height() for bar in axis.patches] == [3.0, 1.5, 0.5, 0.0]
    assert labels(axis) == ["1", "3", "0", "2"]
    assert axis.get_title() == "rate 5 nats, 95% of it in 3 of 4 dimensions"
    assert axis.get_ylabel() == "rate (nats)"
    assert axis.get_ylim()[0] == 0


def test_in_how_many_dimensions_most_of_a_rate_is():
    """Nothing is said of rates that sum up to nothing, or of estimates of which one is below 0."""
    assert concentration([19.0, 1.0]) == ", 95% of it in 1 of 2 dimensions"
    assert concentration([18.9, 1.1]) == ", 95% of it in 2 of 2 dimensions"
    assert concentration([1.0] * 20) == ", 95% of it in 19 of 20 dimensions"
    assert concentration([0.0, 0.0]) == concentration([1.0, -0.01]) == ""
    assert rate_chart({"rate_per_dimension": [1.0, -0.5]}).axes[0].get_ylim()[0] < -0.4


@pytest.mark.parametrize(("chart", "name"), [(active_units_chart, "active_units_variances"), (rate_chart, "rate_per_dimension")])
def test_many_dimensions_are_counted_and_not_named(chart, name):
    axis = chart({name: [1.0] * (MAX_NAMED + 1)}).axes[0]
    assert axis.get_xlabel() == "rank of the dimension of z"
    assert len(labels(axis)) < MAX_NAMED
    for results in ({}, {name: None}):
        with pytest.raises(ValueError, match=f"no {name}: it was not measured, or is not defined for this model"):
            chart(results)


def test_classes_are_told_apart_and_named():
    """Three classes and three points of no known class in the plane of the dimensions of largest rate, 2 and 0."""
    z, y = torch.arange(36.0).reshape(12, 3), torch.tensor([-1, 0, 1, 4] * 3)
    (axis,) = latent_scatter(z, y, names=["cat", "dog"], rates=[0.5, 0.1, 2.0], title="codes").axes
    unknown, *known = dots(axis)
    assert [len(cloud.get_offsets()) for cloud in (unknown, *known)] == [3] * 4
    assert known[1].get_offsets().tolist() == z[y == 1][:, [2, 0]].tolist()
    colours = [tuple(cloud.get_facecolor()[0][:3]) for cloud in known]
    assert colours == [to_rgba(colour)[:3] for colour in OKABE_ITO[:3]]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["unknown", "cat", "dog", "4"]
    assert {text.get_text(): text.get_position() for text in axis.texts} == {  # each at the median of its class
        name: tuple(z[y == label][1, [2, 0]].tolist()) for label, name in ((0, "cat"), (1, "dog"), (4, "4"))
    }
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("$z_{2}$ (rate 2 nats)", "$z_{0}$ (rate 0.5 nats)")
    assert axis.figure.get_suptitle() == "codes"


def test_more_classes_than_colours_have_other_markers():
    """And more than can be told apart are refused."""
    y = torch.arange(MAX_CLASSES)
    (axis,) = latent_scatter(torch.randn(MAX_CLASSES, 2), y).axes
    looks = {(tuple(cloud.get_facecolor()[0]), cloud.get_paths()[0].vertices.tobytes()) for cloud in dots(axis)}
    assert len(looks) == MAX_CLASSES
    with pytest.raises(ValueError, match=f"{MAX_CLASSES + 1} classes cannot be told apart"):
        latent_scatter(torch.randn(MAX_CLASSES + 1, 2), torch.arange(MAX_CLASSES + 1))


def test_each_factor_has_a_panel():
    """Few values have a colour bar in steps, many and real ones a continuous one."""
    z, v = torch.randn(60, 2), torch.stack([torch.arange(60) % 3, torch.arange(60), torch.arange(60) % 2, torch.arange(60) % 5], dim=1)
    figure = latent_scatter(z, v, names=("shape", "x", "y", "scale"))
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["shape", "x", "y", "scale"]
    for axis, values in zip(panels, v.T, strict=True):
        (cloud,) = dots(axis)
        assert cloud.get_offsets().tolist() == z.tolist()
        assert cloud.get_array().tolist() == values.tolist()
    bars = [axis for axis in figure.axes if not axis.get_title()]
    assert len(bars) == 4
    assert bars[0].get_yticks().tolist() == [0, 1, 2]
    assert [axis.get_title() for axis in latent_scatter(z, v.double()[:, :2]).axes[:2]] == ["factor 0", "factor 1"]


def test_the_plane_of_many_dimensions_is_that_of_the_principal_components():
    """Deviations 3 and 4 along two directions and none along the third: 64 % and 36 % of the variance."""
    turn = torch.tensor([[0.6, 0.0, 0.8], [0.64, 0.6, -0.48], [-0.48, 0.8, 0.36]]).double()  # its rows are orthonormal
    components = torch.tensor([[4.0, 0, 7], [-4, 0, 7], [0, 3, 7], [0, -3, 7]]).double()
    z = components @ turn
    (axis,) = latent_scatter(z, torch.zeros(4, dtype=torch.long)).axes
    assert axis.get_xlabel() == "principal component 1 (64% of the variance)"
    assert axis.get_ylabel() == "principal component 2 (36% of the variance)"
    shown = torch.as_tensor(dots(axis)[0].get_offsets()).abs()
    torch.testing.assert_close(shown, components[:, :2].abs())
    (axis,) = latent_scatter(z[:, :1], torch.zeros(4, dtype=torch.long)).axes
    assert [float(x) for x, _ in dots(axis)[0].get_offsets()] == z[:, 0].tolist()
    assert axis.get_ylabel() == "no meaning: points spread out"


@pytest.mark.parametrize(
    ("z", "y", "rates", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(4), None, "z has 3 points and y has 4"),
        (torch.zeros(0, 2), torch.zeros(0), None, "z has 0 points"),
        (torch.zeros(3, 2), torch.zeros(3), [1.0], "z has 2 dimensions, but there are 1 rates"),
    ],
)
def test_points_that_do_not_fit_are_refused(z, y, rates, message):
    with pytest.raises(ValueError, match=message):
        latent_scatter(z, y, rates=rates)


def test_named_values_are_classes_and_an_angle_has_a_cyclic_map():
    y = torch.stack([torch.arange(6) % 3, torch.arange(6)], dim=1)
    figure = latent_scatter(torch.randn(6, 2), y, ["shape", "angle"], values={"shape": ["square", "ellipse", "heart"]}, cyclic=["angle"])
    shape, angle = (axis for axis in figure.axes if axis.get_title() in ("shape", "angle"))
    assert [text.get_text() for text in shape.get_legend().get_texts()] == ["square", "ellipse", "heart"]
    assert not shape.texts  # clouds that lie above each other would hide the names
    (points,) = angle.collections
    assert points.get_cmap().name == "twilight"
