"""The chart of what codes know of factors shows the numbers that it is given."""

import pytest
from matplotlib.colors import to_rgb

from vaelab.figures.charts.disentanglement import disentanglement_chart

RESULTS = {
    "mig": 0.4321,
    "mig_ci": [0.401, 0.459],
    "mutual_information_with_shape": [0.9, 0.0, 0.45],
    "mutual_information_with_position x": [0.5, 2.0, 1.0],
    "entropy_of_shape": 0.9,
    "entropy_of_position x": 4.0,
}


def test_each_cell_is_the_share_of_the_entropy_that_a_code_knows():
    axis, bar = disentanglement_chart(RESULTS).axes
    (image,) = axis.images
    assert image.get_array().tolist() == [[1, 0.125], [0, 0.5], [0.5, 0.25]]
    assert image.get_clim() == (0, 1)  # of every chart, so that two can be compared
    assert {text.get_position(): text.get_text() for text in axis.texts} == {
        (0, 0): "1.00",
        (1, 0): "0.12",
        (0, 1): "0.00",
        (1, 1): "0.50",
        (0, 2): "0.50",
        (1, 2): "0.25",
    }
    assert {text.get_position() for text in axis.texts if text.get_weight() == "bold"} == {(0, 0), (1, 1)}
    assert bar.get_ylabel() == r"$I(z_d; v)\ /\ H(v)$"


def test_axes_are_named():
    axis = disentanglement_chart(RESULTS).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["shape\n0.90 nats", "position x\n4.00 nats"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["0", "1", "2"]
    assert axis.get_title() == "mutual information gap 0.432 (0.401 to 0.459)"
    assert disentanglement_chart(RESULTS | {"mig_ci": None}).axes[0].get_title() == "mutual information gap 0.432"
    without = {name: value for name, value in RESULTS.items() if not name.startswith("mig")}
    assert disentanglement_chart(without).axes[0].get_title() == "what codes know of factors"


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_numbers_are_read_on_every_colour():
    """A contrast of 4.5 and more (WCAG 2.1, level AA) for every value."""
    shares = [i / 39 for i in range(40)]
    axis = disentanglement_chart({"mutual_information_with_a": shares, "entropy_of_a": 1.0}).axes[0]
    (image,) = axis.images
    for text, share in zip(axis.texts, shares, strict=True):
        light, dark = sorted((luminance(text.get_color()), luminance(image.to_rgba(share)[:3])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, share


def test_many_codes_are_shown_without_numbers_on_a_page_of_bounded_height(tmp_path):
    figure = disentanglement_chart({"mutual_information_with_a": [0.1] * 300, "entropy_of_a": 1.0})
    assert not figure.axes[0].texts
    assert figure.get_size_inches()[1] < 10
    figure.savefig(tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 1000


def test_results_without_information_are_refused():
    with pytest.raises(ValueError, match=r"no mutual_information_with_<factor>: .* \(add metrics=\[disentanglement\]\)"):
        disentanglement_chart({"mig": 0.3})
