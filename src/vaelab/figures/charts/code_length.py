"""A chart of the bits that codes need."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from vaelab.figures.charts.colours import BLUE, GREY, VERMILION

NAMES = {"": "this model", "gzip_": "gzip", "bz2_": "bz2", "xz_": "xz", "png_": "PNG, one picture of all"}


def code_length_chart(results: Mapping[str, Any]) -> Figure:
    """Bits per dimension of the data as the model codes them and as others do, as bars; -ELBO as a line, where the model's should end.

    Args:
        results: as `vaelab.applications.compression.code_length` reports them.
    """
    found = {name: results.get(f"code_{key}bits_per_dim") for key, name in NAMES.items()}
    shown = {name: value for name, value in found.items() if value is not None}
    figure = Figure(figsize=(7.0, 1.2 + 0.34 * len(shown)), layout="constrained")
    axis = figure.subplots()
    bars = axis.barh(list(shown), list(shown.values()), height=0.7, color=[BLUE, *[GREY] * (len(shown) - 1)])
    axis.bar_label(bars, fmt="%.4g", padding=3, fontsize=9)
    axis.axvline(results["code_bound_bits_per_dim"], color=VERMILION, lw=1.5, label=f"-ELBO, {results['code_bound_bits_per_dim']:.4g}")
    axis.invert_yaxis()
    axis.set_xlim(0, 1.15 * max(*shown.values(), results["code_bound_bits_per_dim"]))
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(f"bits per dimension of {results['code_num_examples']:,} examples, without loss", fontsize=11)
    axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, -0.02 - 0.5 / (1 + 0.34 * len(shown))), ncols=1)
    return figure
