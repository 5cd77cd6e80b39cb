"""Unsupervised disentanglement ranking (Duan et al., 2020, https://arxiv.org/abs/1905.12614), as its authors' code computes it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.checks import check_choice
from vaelab.distributions import is_euclidean, space_of
from vaelab.evidence import evaluating
from vaelab.metrics.data import Data, first
from vaelab.metrics.disentanglement.samples import Codes, array, code_array
from vaelab.metrics.latent.encoding import encoded
from vaelab.models import Model


@torch.no_grad()
def udr(
    model: Model,
    data: Data,
    others: Sequence[Model],
    num_examples: int = 1000,
    similarity: str = "lasso",
    threshold: float = 0.01,
) -> dict[str, Any]:
    """Scores of how much the codes of models agree that differ in their seeds, see `udr_scores`. Factors need not be known.

    - udr: the score of the model, the median of
    - udr_with_each: what it has with each of the others, in their order.

    Codes are the centres of q(z | x) of the first examples of the test data; those whose rate, E_x KL(q(z_d | x) || p(z_d)), is at most
    the threshold do not count. Where q or p does not factorise there is no rate of a code, and all count that are not constant.

    Args:
        model: with a posterior over vectors.
        data: whose test examples all models encode.
        others: trained on these data as the model was, with other seeds.
        num_examples: how many at most; 1,000 as in the authors' code.
        similarity: "lasso" or "spearman".
        threshold: in nats.

    Raises:
        ValueError: if there is no other model, codes are no vectors of real numbers, or an option is out of range.
    """
    codes, rates = zip(*(codes_and_rates(each, data, num_examples) for each in (model, *others)), strict=True)
    known = None if any(rate is None for rate in rates) else list(rates)
    scores = agreements(informative(codes, known, threshold), 0, similarity)
    return {"udr": float(np.median(scores)), "udr_with_each": scores.tolist(), "udr_num_examples": len(codes[0])}


def codes_and_rates(model: Model, data: Data, num_examples: int) -> tuple[Float[Tensor, "n d"], Float[Tensor, "d"] | None]:
    """The centres of q(z | x) of test examples, and the mean rate of each code, if q and p factorise."""
    with evaluating(model):
        codes = encoded(model, first(data.batches("test", model.device), num_examples))
    q = codes.posteriors[0]
    if not is_euclidean(q):
        raise ValueError(f"UDR compares codes that are vectors of real numbers, but q(z | x) is over {space_of(q)}: leave this metric out")
    return codes.centres.flatten(1), None if codes.rates is None else codes.rates.mean(0)


def udr_scores(
    codes: Sequence[Codes],
    rates: Sequence[Float[Tensor, "_"] | Float[np.ndarray, "_"]] | None = None,
    similarity: str = "lasso",
    threshold: float = 0.01,
) -> list[float]:
    """A score for each of several models that differ in their seeds: are its codes those of the others, up to order and sign? 0 to 1.

    The score of a model is the median, over the other models, of how one-to-one the similarities R_ab of their codes are: the average of
    r_b^2 / sum_a R_ab over the codes b of the model, r_b = max_a R_ab, and of the same over the codes a of the other model, halved and
    added. It ranks models without knowing factors: those that disentangle agree, since there are more ways not to.

    Args:
        codes: of the same N examples, (N, D), by each model.
        rates: the mean KL(q(z_j | x) || p(z_j)) of each code in nats, (D,), by each model; codes below the threshold do not count.
            None: all that are not constant count.
        similarity: "lasso", the absolute weights of the regression of one model's standardised codes on another's, with
            scikit-learn's alpha = 0.1; or "spearman", absolute rank correlations.
        threshold: the paper's 0.01 nats.

    Raises:
        ValueError: if there are fewer than two models, codes are not finite or not of the same number of examples, a rate is missing,
            or the similarity is unknown.
    """
    kept = informative(codes, rates, threshold)
    return [float(np.median(agreements(kept, model, similarity))) for model in range(len(kept))]


def informative(
    codes: Sequence[Codes], rates: Sequence[Float[Tensor, "_"] | Float[np.ndarray, "_"]] | None, threshold: float
) -> list[Float[np.ndarray, "n _"]]:
    """The codes that count, standardised."""
    all_codes = [code_array(z) for z in codes]
    if len(all_codes) < 2 or len({len(z) for z in all_codes}) > 1:
        raise ValueError(
            f"UDR compares two models or more on the same examples, but got codes of {[len(z) for z in all_codes]} examples: encode the"
            " same data with each model"
        )
    shapes = None if rates is None else [tuple(rate.shape) for rate in rates]
    if shapes is not None and shapes != [z.shape[1:] for z in all_codes]:
        raise ValueError(f"each of {len(all_codes)} models needs a rate for each of its codes, but the rates are of shapes {shapes}")
    kept = [z.min(0) < z.max(0) for z in all_codes] if rates is None else [array(rate) > threshold for rate in rates]
    return [_standardised(z[:, keep]) for z, keep in zip(all_codes, kept, strict=True)]


def agreements(kept: Sequence[Float[np.ndarray, "n _"]], model: int, similarity: str) -> Float[np.ndarray, "others"]:
    """Scores of how one-to-one the codes of a model are with those of each of the others."""
    check_choice(("lasso", "spearman"), similarity=similarity)
    of = _lasso if similarity == "lasso" else _spearman
    return np.array([one_to_one(of(other, kept[model])) for i, other in enumerate(kept) if i != model])


def one_to_one(similarities: Float[np.ndarray, "a b"]) -> float:
    """(mean_b r_b^2 / sum_a R_ab + mean_a r_a^2 / sum_b R_ab) / 2, r the largest of a row or column: 1 of a permutation; 0 if empty."""
    if not similarities.size:
        return 0.0
    return float(np.mean([_peaks(similarities), _peaks(similarities.T)]))


def _peaks(rows: Float[np.ndarray, "a b"]) -> float:
    largest, total = rows.max(1), rows.sum(1)
    return float((largest**2 / np.where(total > 0, total, 1)).mean())


def _standardised(z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    scale = z.std(0)
    return (z - z.mean(0)) / np.where(scale > 0, scale, 1)


def _lasso(a: Float[np.ndarray, "n a"], b: Float[np.ndarray, "n b"]) -> Float[np.ndarray, "a b"]:
    from sklearn.linear_model import Lasso  # not at the top: training imports this room, and need not wait for it

    if not a.shape[1] or not b.shape[1]:
        return np.zeros((a.shape[1], b.shape[1]))
    return np.abs(Lasso(alpha=0.1).fit(a, b).coef_).reshape(b.shape[1], a.shape[1]).T


def _spearman(a: Float[np.ndarray, "n a"], b: Float[np.ndarray, "n b"]) -> Float[np.ndarray, "a b"]:
    from scipy.stats import rankdata  # not at the top: training imports this room, and need not wait for it

    ranks_a, ranks_b = (_standardised(rankdata(z, axis=0)) for z in (a, b))
    return np.abs(ranks_a.T @ ranks_b) / len(a)
