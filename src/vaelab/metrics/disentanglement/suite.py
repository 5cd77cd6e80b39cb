"""All scores of one model, with the samples of Locatello et al. (2019, https://arxiv.org/abs/1811.12359), and their intervals."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from vaelab.evidence import evaluating
from vaelab.metrics.data import Data
from vaelab.metrics.disentanglement.bootstrap import percentile_interval, resamples
from vaelab.metrics.disentanglement.correlation import gaussian_total_correlation, gaussian_wasserstein_correlation
from vaelab.metrics.disentanglement.dci import dci
from vaelab.metrics.disentanglement.explicitness import class_scores, explicitness_of
from vaelab.metrics.disentanglement.grid import GridCodes, grid_codes
from vaelab.metrics.disentanglement.information import information_gap, information_modularity, mutual_information
from vaelab.metrics.disentanglement.interventions import beta_vae_score, draw_factors, factor_vae_score
from vaelab.metrics.disentanglement.robustness import irs
from vaelab.metrics.disentanglement.sap import predicted, sap_of
from vaelab.metrics.progress import progress, stage
from vaelab.models import Model


@dataclass(frozen=True)
class Sample:
    """Codes z (N, D) of random points of the grid of factors v (N, F), to learn from, and others to test on."""

    z: Float[np.ndarray, "n d"]
    v: Int[np.ndarray, "n f"]
    test_z: Float[np.ndarray, "m d"]
    test_v: Int[np.ndarray, "m f"]


@torch.no_grad()
def disentanglement(
    model: Model,
    data: Data,
    num_train: int = 10_000,
    num_test: int = 5_000,
    num_votes: int = 10_000,
    num_test_votes: int = 5_000,
    num_bootstrap: int = 200,
    num_dci_refits: int = 0,
) -> dict[str, Any]:
    """Scores of how the codes of a model and the factors of its data correspond: mig, modularity, irs, sap, explicitness, dci_*, ...

    The code of an image is the centre of q(z | x). Images are those of factors drawn at random, all combinations equally likely, whether
    or not the model was trained on them. Each score has its 95 % interval `<score>_ci`, over samples of this size of this model. What is
    resampled: the training examples for mig, modularity, irs and the Gaussian correlations; of what is learned from them, the test
    examples for sap, explicitness and dci_informativeness, and the test votes for the scores of FactorVAE and beta-VAE. For
    dci_disentanglement and dci_completeness the trees have to be fitted anew: their intervals are None unless num_dci_refits says how
    often. `mutual_information_with_<factor>` and `entropy_of_<factor>`, in nats, are what `disentanglement_chart` shows.

    Args:
        model: with a posterior over vectors.
        data: with a grid of factors.
        num_train: codes that are counted, and that classifiers learn from.
        num_test: codes that classifiers are tested on.
        num_votes: batches of 64 that share a factor (of 64 pairs, for the beta-VAE score), to learn from.
        num_test_votes: batches to test on.
        num_bootstrap: resamples for the intervals.
        num_dci_refits: resamples for those of dci_disentanglement and dci_completeness; each takes as long as all of the rest.

    Raises:
        ValueError: if the codes are no vectors, the data have no grid of factors, or a size is too small.
    """
    from sklearn.exceptions import ConvergenceWarning  # not at the top: training imports this room, and need not wait for it

    sizes = {"num_train": num_train, "num_test": num_test, "num_votes": num_votes, "num_test_votes": num_test_votes}
    if min(sizes.values()) < 2 or num_bootstrap < 2 or num_dci_refits not in (0, *range(2, num_dci_refits + 1)):
        raise ValueError(
            f"{', '.join(f'{name}={size}' for name, size in sizes.items())} and num_bootstrap={num_bootstrap} must be at least 2, and"
            f" num_dci_refits={num_dci_refits} 0 or at least 2"
        )
    with evaluating(model), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the protocol has scikit-learn's default number of iterations
        stage("disentanglement: the codes of all images, and the scores of information")
        codes_of = grid_codes(model, data)
        sample = draw_sample(codes_of, num_train, num_test)
        return {
            **of_counts(sample, num_bootstrap, codes_of.grid.factor_names),
            **of_predictions(sample, num_bootstrap, num_dci_refits),
            **of_interventions(codes_of, num_votes, num_test_votes, num_bootstrap),
            **{f"disentanglement_{name}": size for name, size in sizes.items()},
        }


@torch.no_grad()
def validation_mig(model: Model, data: Data) -> dict[str, Any]:
    """The mutual information gap of the validation images and their factors, as val/mig: what hyper-parameters may be chosen by.

    `disentanglement` draws its images from the whole grid, of which the test data are a part.

    Raises:
        ValueError: as `disentanglement`.
    """
    with evaluating(model):
        codes_of = grid_codes(model, data)
        data.setup("fit")
        v = torch.cat([y for _, y in data.batches("val")])
        return {"val/mig": information_gap(*mutual_information(codes_of(v).numpy(), v.numpy()))}


def draw_sample(codes_of: GridCodes, num_train: int, num_test: int) -> Sample:
    """Codes of random points of the grid."""
    v, test_v = (draw_factors(codes_of.grid.factor_sizes, size) for size in (num_train, num_test))
    return Sample(codes_of(v).numpy(), v.numpy(), codes_of(test_v).numpy(), test_v.numpy())


def of_counts(sample: Sample, num_bootstrap: int, names: tuple[str, ...]) -> dict[str, Any]:
    """The scores in which nothing is learned: of information, of robustness, of covariance."""
    information, entropies = mutual_information(sample.z, sample.v)
    again = resamples(len(sample.z), num_bootstrap)
    scores, resampled = _counted(sample.z, sample.v), [_counted(sample.z[i], sample.v[i]) for i in progress("resamples", again)]
    return {
        **{f"mutual_information_with_{name}": known.tolist() for name, known in zip(names, information.T, strict=True)},
        **{f"entropy_of_{name}": float(h) for name, h in zip(names, entropies, strict=True)},
        **{
            key: value
            for name, score in scores.items()
            for key, value in with_interval(
                name, score, np.array([r[name] for r in resampled]), np.inf if name.startswith("gaussian") else 1.0
            ).items()
        },
    }


def _counted(z: Float[np.ndarray, "n d"], v: Int[np.ndarray, "n f"]) -> dict[str, float]:
    information, entropies = mutual_information(z, v)
    return {
        "mig": information_gap(information, entropies),
        "modularity": information_modularity(information),
        "irs": irs(z, v),
        "gaussian_total_correlation": gaussian_total_correlation(z),
        "gaussian_wasserstein_correlation": gaussian_wasserstein_correlation(z),
    }


def of_predictions(sample: Sample, num_bootstrap: int, num_dci_refits: int) -> dict[str, Any]:
    """The scores of classifiers that read factors from codes."""
    stage("disentanglement: the scores of classifiers, of which the trees of DCI take longest")
    z, v, test_z, test_v = sample.z, sample.v, sample.test_z, sample.test_v
    again = resamples(len(test_z), num_bootstrap)
    correct = predicted(z, v, test_z, test_v)
    scores, values = class_scores(z, v, test_z, test_v)
    weights = np.stack([np.bincount(i, minlength=len(test_z)) for i in again])
    trees = dci(z, v, test_z, test_v)
    refits = [dci(z[i], v[i], test_z, test_v) for i in resamples(len(z), num_dci_refits)]
    return {
        **with_interval("sap", sap_of(correct), np.array([sap_of(correct[i]) for i in again])),
        **with_interval("explicitness", explicitness_of(scores, values)[0], explicitness_of(scores, values, weights)),
        **with_interval("dci_disentanglement", trees.disentanglement, np.array([refit.disentanglement for refit in refits])),
        **with_interval("dci_completeness", trees.completeness, np.array([refit.completeness for refit in refits])),
        **of_accuracy("dci_informativeness", trees.correct.mean(1), again),
    }


def of_interventions(codes_of: GridCodes, num_votes: int, num_test_votes: int, num_bootstrap: int) -> dict[str, Any]:
    """The scores of batches that share a factor."""
    stage("disentanglement: the scores of FactorVAE and beta-VAE")
    again, sizes = resamples(num_test_votes, num_bootstrap), codes_of.grid.factor_sizes
    votes = factor_vae_score(codes_of, sizes, num_votes, num_test_votes)
    pairs = beta_vae_score(codes_of, sizes, num_votes, num_test_votes)
    return {
        **of_accuracy("factor_vae_score", votes.correct, again),
        "factor_vae_score_num_codes": votes.num_codes,
        **of_accuracy("beta_vae_score", pairs.correct, again),
    }


def of_accuracy(name: str, correct: Bool[np.ndarray, "n"] | Float[np.ndarray, "n"], again: Int[np.ndarray, "b n"]) -> dict[str, Any]:
    """A mean over test examples, and what it is over resamples of them."""
    return with_interval(name, float(correct.mean()), correct[again].mean(1))


def with_interval(name: str, score: float, resampled: Float[np.ndarray, "b"], largest: float = 1.0) -> dict[str, Any]:
    """A score and its interval; None for what is infinite, or was not resampled."""
    known = len(resampled) > 0 and bool(np.isfinite(resampled).all()) and np.isfinite(score)
    return {
        name: float(score) if np.isfinite(score) else None,
        f"{name}_ci": percentile_interval(score, resampled, largest) if known else None,
    }
