"""Draws from p(x_missing | x_observed) of a trained model, and numbers that say how good they are.

p(x_m | x_o) is the mean of p(x_m | z) over p(z | x_o), where p(x | z) is a product over the values of x. q(z | x) was made for whole x, and
each method comes to p(z | x_o) in its own way: see `pseudo_gibbs`, `metropolis_within_gibbs` and `importance_resampling`.
"""

import math
from collections.abc import Mapping

from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from vaelab.applications.completion import Completion
from vaelab.applications.gibbs import metropolis_within_gibbs, pseudo_gibbs
from vaelab.applications.importance_resampling import evidence_of_observed, importance_resampling
from vaelab.evidence import importance_weighted
from vaelab.models import Model

ROOTS = {"mse": "rmse", "scaled_mse": "scaled_rmse", "mse_of_completions": "rmse_of_completions", "variance": "std"}


def inpaint(
    model: Model,
    x: Float[Tensor, "b ..."],
    observed: Bool[Tensor, "b ..."],
    y: Shaped[Tensor, "b ..."] | None = None,
    method: str = "metropolis_within_gibbs",
    num_completions: int = 8,
    num_steps: int = 500,
    num_pseudo_gibbs: int = 50,
    num_samples: int = 2000,
) -> Completion:
    """Complete x with the chosen method.

    Raises:
        ValueError: if the method is unknown, or cannot be used for this model.
    """
    if method == "pseudo_gibbs":
        return pseudo_gibbs(model, x, observed, y, num_completions, num_steps)
    if method == "metropolis_within_gibbs":
        return metropolis_within_gibbs(model, x, observed, y, num_completions, num_steps, num_pseudo_gibbs)
    if method == "importance_resampling":
        guesses = guess(model, x, observed, y, num_pseudo_gibbs)
        return importance_resampling(model, x, observed, y, num_completions, num_samples, guesses=guesses)
    raise ValueError(f"method={method} must be pseudo_gibbs, metropolis_within_gibbs or importance_resampling")


def guess(
    model: Model,
    x: Float[Tensor, "b ..."],
    observed: Bool[Tensor, "b ..."],
    y: Shaped[Tensor, "b ..."] | None,
    num_pseudo_gibbs: int,
    num_guesses: int = 32,
) -> Float[Tensor, "m b ..."] | None:
    """x with its missing values as M chains of pseudo-Gibbs leave them; None after no step, or if the model has learned q(z | x_o)."""
    if num_pseudo_gibbs == 0 or model.missing:
        return None
    return pseudo_gibbs(model, x, observed, y, num_guesses, num_pseudo_gibbs).x


def errors(x: Float[Tensor, "b ..."], observed: Bool[Tensor, "b ..."], completion: Completion) -> dict[str, Float[Tensor, "b"]]:
    """Mean squares over the hidden values of each example, where x is known; NaN where there are none. In the units of x, squared.

    - mse of E[x_m | x_o], the best guess of x_m in the mean square, and mse_of_completions, of single draws;
    - variance of hidden values, in the mean over them: where the model is right, the expectation of mse, and half that of
      mse_of_completions.

    Args:
        x: of which NaN is not known.
        observed: which values the completion was made from.
        completion: in the same units.
    """
    hidden = ~x.isnan() & ~observed
    return {
        "mse": mean_over(hidden, (completion.mean - x).square()),
        "mse_of_completions": mean_over(hidden, (completion.x - x).square().mean(0)),
        "variance": mean_over(hidden, completion.std.square()),
    }


def assess(
    model: Model,
    x: Float[Tensor, "b ..."],
    observed: Bool[Tensor, "b ..."],
    y: Shaped[Tensor, "b ..."] | None,
    completion: Completion,
    num_pseudo_gibbs: int = 50,
    num_samples: int = 2000,
) -> dict[str, Float[Tensor, "b"]]:
    """Numbers that say how good the completion of each example is, where x is known: its `errors`, and

    - log_p_missing: log p(x_m | x_o) = log p(x) - log p(x_o) in nats, from importance-weighted estimates of both. Each is too low in the
      mean, that of x_o more, so that their difference tends to be too high; their effective sample sizes say how far they can be trusted.
      It does not depend on the method. Left out where importance sampling has no weights: where q(z | x) is a point, or p(x | z) does not
      score each value by itself.

    Args:
        model, x, observed, y: as the completion was made with; NaN in x is not known.
        completion: to be assessed.
        num_pseudo_gibbs: of the guesses, see `guess`.
        num_samples: of both estimates.
    """
    scores = errors(x, observed, completion)
    evidence = completion.evidence
    if evidence is None:
        guesses = guess(model, x, observed, y, num_pseudo_gibbs)
        try:
            evidence = evidence_of_observed(model, x, observed, y, num_samples, guesses=guesses)
        except ValueError:  # there are no weights: whatever else it refuses, the method has refused before
            return scores
    whole = importance_weighted(model, x, y, num_samples)
    scores["log_p_missing"] = whole.log_likelihood - evidence.log_likelihood
    for name, found in (("whole", whole), ("observed", evidence)):
        scores |= {f"log_p_{name}": found.log_likelihood, f"effective_sample_size_{name}": found.effective_sample_size}
    return scores


def summarized(scores: Mapping[str, Float[Tensor, "b"]]) -> dict[str, float | None]:
    """Means over examples with their standard errors, each example weighing the same.

    rmse and std are the roots of the mean mse and variance. The standard error of the root of a mean m is that of m, divided by 2 sqrt(m).
    """
    report: dict[str, float | None] = {}
    for name, values in scores.items():
        known = values[~values.isnan()].double()
        mean = known.mean().item()
        error = known.std().item() / math.sqrt(len(known)) if len(known) > 1 else None
        if name.startswith("effective"):
            report[name] = mean
            continue
        if not name.startswith("log"):
            name, mean = ROOTS[name], math.sqrt(mean)
            error = error / (2 * mean) if error and mean else None
        report |= {name: mean, f"{name}_std_error": error}
    return report


def mean_over(chosen: Bool[Tensor, "b ..."], values: Float[Tensor, "b ..."]) -> Float[Tensor, "b"]:
    """The mean of the chosen values of each example; NaN if it has none."""
    return values.where(chosen, 0.0).flatten(1).sum(1) / chosen.flatten(1).sum(1)
