"""Numbers that say how well a score tells anomalies, which are the positives, from normal examples.

Only the order of the scores matters. Examples whose score is at least a threshold are called anomalies. The true positive rate is the share
of the anomalies that are called so, the false positive rate that of the normal examples, and the precision the share of anomalies among all
that are called so.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def detection(scores: Float[Tensor, "n"], is_anomaly: Bool[Tensor, "n"], num_bootstrap: int = 200) -> dict[str, float]:
    """auroc, average_precision and fpr_at_95_tpr, and the standard error of each over the examples, <name>_std_error.

    - auroc: the area under the ROC curve, 0.5 for a score that knows nothing; 0 for one that is right but for its sign; see `delong`.
    - average_precision: the area under the precision-recall curve (AUPR); the share of anomalies for a score that knows nothing.
    - fpr_at_95_tpr: the false positive rate at the largest threshold whose true positive rate is at least 95 %.

    The standard errors of the last two are those of the bootstrap (Efron, 1979, https://doi.org/10.1214/aos/1176344552) over anomalies and,
    apart from them, normal examples.

    Args:
        scores: the larger the more anomalous, inf allowed.
        is_anomaly: of these examples.
        num_bootstrap: how many resamples, at least 2.

    Raises:
        ValueError: if a score is not a number, or there are not at least 2 anomalies and 2 normal examples.
    """
    if bool(scores.isnan().any()):
        raise ValueError(f"{int(scores.isnan().sum())} of {len(scores)} scores are not a number: the model does not fit these data")
    levels, ranks = scores.unique(return_inverse=True)
    anomalies, normals = ranks[is_anomaly], ranks[~is_anomaly]
    if min(len(anomalies), len(normals)) < 2:
        raise ValueError(f"at least 2 anomalies and 2 normal examples are needed: there are {len(anomalies)} and {len(normals)}")
    auroc, auroc_error = delong(anomalies, normals)
    curve = torch.stack(of_curve(anomalies, normals, len(levels)))
    resampled = [of_curve(resample(anomalies), resample(normals), len(levels)) for _ in range(num_bootstrap)]
    errors = torch.stack([torch.stack(pair) for pair in resampled]).std(0)
    names, values = ("average_precision", "fpr_at_95_tpr"), zip(curve.tolist(), errors.tolist(), strict=True)
    report = {"auroc": auroc, "auroc_std_error": auroc_error}
    for name, (value, error) in zip(names, values, strict=True):
        report |= {name: value, f"{name}_std_error": error}
    return report


def delong(anomalies: Int[Tensor, "m"], normals: Int[Tensor, "n"]) -> tuple[float, float]:
    """The area under the ROC curve, P(s > s') + P(s = s') / 2, and its standard error without an assumption on the two laws.

    sqrt(var(V_i) / m + var(V_j) / n): V_i is the share of the n normal examples below anomaly i, V_j the share of the m anomalies above
    normal example j, ties by half (DeLong et al., 1988, https://doi.org/10.2307/2531595; in the order n log n, as Sun & Xu, 2014,
    https://doi.org/10.1109/LSP.2014.2337313).
    """
    below, above = share_below(anomalies, normals), 1 - share_below(normals, anomalies)
    return below.mean().item(), (below.var() / len(anomalies) + above.var() / len(normals)).sqrt().item()


def share_below(values: Int[Tensor, "n"], others: Int[Tensor, "m"]) -> Float[Tensor, "n"]:
    """The share of the others that is below each value; equal ones count half."""
    others = others.sort().values
    return (torch.searchsorted(others, values) + torch.searchsorted(others, values, right=True)).double() / (2 * len(others))


def of_curve(anomalies: Int[Tensor, "m"], normals: Int[Tensor, "n"], num_levels: int) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The average precision, sum_t (R_t - R_t-1) P_t of recall R and precision P at falling thresholds t, and the fpr at 95 % tpr."""
    found = anomalies.bincount(minlength=num_levels).flip(0)  # at each threshold, the highest first
    true, false = found.cumsum(0), normals.bincount(minlength=num_levels).flip(0).cumsum(0)
    precision = true.double() / (true + false).clamp(min=1)  # before the first example there is none: found is 0 there
    enough = (100 * true >= 95 * len(anomalies)).int().argmax()
    return (found * precision).sum() / len(anomalies), false[enough].double() / len(normals)


def resample(ranks: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Scores drawn with replacement, as many as there are."""
    return ranks[torch.randint(len(ranks), (len(ranks),))]
