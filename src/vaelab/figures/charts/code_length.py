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
    bound, most = results["code_bound_bits_per_dim"], max(*shown.values(), results["code_bound_bits_per_dim"])
    bars = axis.barh(list(shown), list(shown.values()), height=0.7, color=[BLUE, *[GREY] * (len(shown) - 1)])
    axis.axvline(bound, color=VERMILION, lw=1.5)
    axis.annotate(
        f"-ELBO {bound:.4g}",
        (bound, 1),
        xycoords=("data", "axes fraction"),
        xytext=(3, 3),
        textcoords="offset points",
        color=VERMILION,
        fontsize=9,
    )
    axis.bar_label(bars, fmt="%.4g", padding=3, fontsize=9, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    axis.invert_yaxis()
    axis.set_xlim(0, 1.15 * most)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(f"{results['code_num_examples']:,} examples without loss", fontsize=11, pad=18)
    axis.set_xlabel("bits per dimension", fontsize=9)
    return figure
