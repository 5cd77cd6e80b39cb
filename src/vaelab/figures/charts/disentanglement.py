"""A chart of what codes know of factors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

INFORMATION, ENTROPY = "mutual_information_with_", "entropy_of_"
MAX_NUMBERED = 40  # codes, with a number in each of their cells


def disentanglement_chart(results: Mapping[str, Any]) -> Figure:
    """I(z_d; v) / H(v) of each code and each factor, 0 (nothing) to 1 (all); the best code of each factor in bold.

    The mutual information gap is how far the bold number of a column is ahead of the next, a mean over the columns. In viridis, whose
    lightness rises with the value: it is read in grey and with any colour vision.

    Args:
        results: with `mutual_information_with_<factor>` and `entropy_of_<factor>`, as `vaelab.metrics.disentanglement` reports them.

    Raises:
        ValueError: if the results have none.
    """
    names = [key.removeprefix(INFORMATION) for key in results if key.startswith(INFORMATION)]
    if not names:
        raise ValueError(f"the results have no {INFORMATION}<factor>: disentanglement was not measured (add metrics=[disentanglement])")
    shares = np.array([results[INFORMATION + name] for name in names]).T / [results[ENTROPY + name] for name in names]
    num_codes, num_factors = shares.shape
    width = max(1.0 * num_factors, 0.085 * sum(map(len, names)) + 0.3 * num_factors)
    figure = Figure(figsize=(width + 2.2, (0.32 * num_codes if num_codes <= MAX_NUMBERED else 7.0) + 1.5), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axis.set_xticks(range(num_factors), [f"{name}\n{results[ENTROPY + name]:.2f} nats" for name in names])
    axis.tick_params(length=0)
    axis.set(xlabel="factor, and its entropy", ylabel="code $z_d$", title=_title(results))
    if num_codes <= MAX_NUMBERED:
        axis.set_yticks(range(num_codes), [str(d) for d in range(num_codes)])
        for (d, k), value in np.ndenumerate(shares):
            weight = "bold" if d == shares[:, k].argmax() else "normal"
            axis.text(k, d, f"{value:.2f}", ha="center", va="center", color="black" if value > 0.43 else "white", size=9, weight=weight)
    bar = figure.colorbar(image, ax=axis, label=r"$I(z_d; v)\ /\ H(v)$")
    bar.outline.set_visible(False)
    axis.spines[:].set_visible(False)
    return figure


def _title(results: Mapping[str, Any]) -> str:
    if results.get("mig") is None:
        return "what codes know of factors"
    limits = results.get("mig_ci")
    between = "" if limits is None else f" ({limits[0]:.3f} to {limits[1]:.3f})"
    return f"mutual information gap {results['mig']:.3f}{between}"
