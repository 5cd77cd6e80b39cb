"""Scores of codes whose relation to the factors is known: perfect, rotated, duplicated, constant, and independent of them.

Most samples are whole grids of factors, in which what is independent is exactly so.
"""

import inspect
import json
from functools import partial
from math import isclose, log, sqrt

import numpy as np
import pytest
import torch
from forked_scripts import ROOT
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy.linalg import sqrtm
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import mutual_info_score, roc_auc_score
from torch import nn

from vaelab import VAE, likelihoods, posteriors, priors
from vaelab.data import DataModule, InMemory, Rendered
from vaelab.metrics.disentanglement import (
    beta_vae_score,
    dci,
    dci_completeness,
    dci_disentanglement,
    disentanglement,
    explicitness,
    factor_vae_score,
    gaussian_total_correlation,
    gaussian_wasserstein_correlation,
    irs,
    mig,
    modularity,
    mutual_information,
    sap,
    sap_continuous,
    udr,
    udr_scores,
    validation_mig,
)
from vaelab.metrics.disentanglement.boosting import boosted_trees
from vaelab.metrics.disentanglement.bootstrap import percentile_interval, resamples
from vaelab.metrics.disentanglement.explicitness import roc_auc
from vaelab.metrics.disentanglement.information import discretize, information_modularity
from vaelab.metrics.disentanglement.interventions import batches_that_share, draw_factors, least_varying, pairs_that_share
from vaelab.metrics.disentanglement.sap import predicted, sap_of
from vaelab.metrics.disentanglement.suite import Sample, of_accuracy, of_counts, of_predictions
from vaelab.networks import MLP


def grid(*sizes, repeats=1):
    """Every combination of the values 0 ... size - 1, `repeats` times, (N, F)."""
    return np.tile(np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes)), (repeats, 1))


V = grid(2, 2, 2)  # two binary factors, and a third that only codes see
FACTORS, HIDDEN = V[:, :2], V[:, 2:].astype(float)
SIGNS = 2.0 * FACTORS - 1
PERFECT = SIGNS
ROTATED = np.stack([SIGNS.sum(1), SIGNS[:, 0] - SIGNS[:, 1]], axis=1) / sqrt(2)
DUPLICATED = SIGNS[:, [0, 0, 1]]
CONSTANT = np.full((8, 3), 0.1)
INDEPENDENT = np.concatenate([HIDDEN, 1 - HIDDEN], axis=1)


# information


def test_information_of_codes_that_are_the_factors():
    """I(v_i; v_k) is H(v_k) = log of its number of values if i = k, else 0; codes are rows and factors columns."""
    v = grid(3, 5, 2, 4)
    order = [2, 0, 3, 1]
    information, entropies = mutual_information(v[:, order].astype(float) * [1, -7, 0.01, 100], v)
    np.testing.assert_allclose(entropies, np.log([3, 5, 2, 4]))
    np.testing.assert_allclose(information, np.diag(entropies)[order], atol=1e-12)


def test_information_is_that_of_scikit_learn_and_bins_those_of_the_protocol():
    """np.digitize(z, np.histogram(z, 20)[1][:-1]), counted from 1 there and from 0 here."""
    rng = np.random.default_rng(0)
    v = rng.integers(0, 7, (500, 2))
    z = rng.normal(size=(500, 3)) + v[:, [0, 1, 0]]
    bins = np.stack([np.digitize(column, np.histogram(column, 20)[1][:-1]) for column in z.T], axis=1)
    np.testing.assert_array_equal(discretize(z), bins - 1)
    information, entropies = mutual_information(z, v)
    for k in range(2):
        assert isclose(entropies[k], mutual_info_score(v[:, k], v[:, k]))
        for j in range(3):
            assert isclose(information[j, k], mutual_info_score(v[:, k], bins[:, j]))


def test_the_memory_layout_changes_nothing():
    """Examples are rows: a view where a transposition is meant would mix examples with dimensions (PITFALLS)."""
    rng = np.random.default_rng(1)
    v = rng.integers(0, 4, (300, 3))
    z = np.concatenate([v + 0.1 * rng.normal(size=v.shape), rng.normal(size=v.shape)], axis=1)
    rows, _ = mutual_information(z, v)
    assert (rows[:3].diagonal() == rows.max(0)).all()
    for codes in (np.asfortranarray(z), np.ascontiguousarray(z.T).T, torch.from_numpy(z), torch.from_numpy(z).T.contiguous().T):
        np.testing.assert_array_equal(mutual_information(codes, v)[0], rows)
    scrambled = z.reshape(z.shape[1], -1).T
    assert mig(scrambled, v) < 0.1 < 0.8 < mig(z, v)


def test_mig_of_a_perfect_code_of_dsprites():
    """20 bins tell apart the values of shape (3) and scale (6), pairs of the 40 orientations, and of the 32 places 8 alone and 12 pairs."""
    v = grid(3, 6, 40, 32)
    place = (8 / 32 * log(32) + 24 / 32 * log(32 / 2)) / log(32)
    assert isclose(mig(v.astype(float), v), (1 + 1 + log(20) / log(40) + place) / 4, abs_tol=1e-12)
    assert isclose((1 + 1 + log(20) / log(40) + 2 * place) / 5, 0.90242, abs_tol=1e-5)  # x and y both: of all five factors


@pytest.mark.parametrize(
    ("codes", "expected"),
    [(PERFECT, 1.0), (ROTATED, 0.0), (DUPLICATED, 0.5), (CONSTANT, 0.0), (INDEPENDENT, 0.0)],
    ids=["perfect", "rotated", "duplicated", "constant", "independent"],
)
def test_mig(codes, expected):
    """Duplicated: the first factor has two codes that know as much, the second has one."""
    assert isclose(mig(codes, FACTORS), expected, abs_tol=1e-12)


def test_mig_of_half_a_rotation():
    """z = (v_0 + v_1, v_1): z_0 = 1 leaves v open, which happens half of the time, so I(z_0; v_k) = log 2 / 2: gaps 1/2 and 1/2."""
    codes = np.stack([FACTORS.sum(1), FACTORS[:, 1]], axis=1).astype(float)
    assert isclose(mig(codes, FACTORS), 0.5, abs_tol=1e-12)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [(PERFECT, 1.0), (ROTATED, 0.0), (DUPLICATED, 1.0), (CONSTANT, 0.0), (np.concatenate([PERFECT, CONSTANT[:, :2]], axis=1), 0.5)],
    ids=["perfect", "rotated", "duplicated", "constant", "half constant"],
)
def test_modularity(codes, expected):
    """Codes that know nothing count with 0."""
    assert isclose(modularity(codes, FACTORS), expected, abs_tol=1e-12)


def test_modularity_of_known_information():
    """1 - (1 + 4) / (2 * 9) = 13 / 18, 1 - 0 = 1, 0 and 1 - (1 + 1) / 2 = 0."""
    information = np.array([[3.0, 1.0, 2.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.0], [2.0, 2.0, 2.0]])
    assert isclose(information_modularity(information), (13 / 18 + 1) / 4)


# robustness


@pytest.mark.parametrize(
    ("codes", "expected"),
    [(PERFECT, 1.0), (ROTATED, 0.5), (DUPLICATED, 1.0), (CONSTANT, 0.0), (INDEPENDENT, 0.0)],
    ids=["perfect", "rotated", "duplicated", "constant", "independent"],
)
def test_irs(codes, expected):
    """Rotated: sqrt 2 is the largest deviation, and sqrt 2 / 2 that from the mean given either factor."""
    assert isclose(irs(codes, FACTORS), expected, abs_tol=1e-12)


def test_irs_weighs_codes_by_their_deviation():
    """A perfect code that deviates by 1 and one that is not, by 5: 1 / (1 + 5); constant ones do not count."""
    codes = np.concatenate([SIGNS[:, :1], 10 * HIDDEN, CONSTANT], axis=1)
    assert isclose(irs(codes, FACTORS), 1 / 6, abs_tol=1e-12)


def test_irs_takes_a_quantile():
    """Of 0, 1, ..., 100 in each group, centred: |z - 50| has the 0.99 quantile 49.5 (its largest 50 twice, 49 twice, ...)."""
    v = grid(2, 2)
    z = np.tile(np.arange(101.0), 4)
    codes, factors = np.stack([z, z + 7], axis=1), np.repeat(v, 101, axis=0)
    expected = np.quantile(np.abs(np.arange(101) - 50), 0.99)
    assert isclose(irs(codes, factors), 1 - expected / 50)
    assert isclose(irs(codes, factors, quantile=1.0), 0, abs_tol=1e-12)


def test_irs_puts_factors_into_bins():
    """40 values in 20 bins: the code of such a factor still moves by 1/2 of 19.5 within a bin (quantile 1)."""
    v = grid(40, 2)
    assert isclose(irs(v.astype(float), v, quantile=1.0), (19.5 * (1 - 0.5 / 19.5) + 0.5) / 20)


# classifiers


@pytest.mark.parametrize(
    ("codes", "expected"),
    [(PERFECT, 0.5), (DUPLICATED, 0.25), (CONSTANT, 0.0), (INDEPENDENT, 0.0)],
    ids=["perfect", "duplicated", "constant", "independent"],
)
def test_sap(codes, expected):
    """The best code is always right, and a code that knows nothing half of the time: the gap is 1/2 and not 1."""
    codes, factors = np.tile(codes, (50, 1)), np.tile(FACTORS, (50, 1))
    assert isclose(sap(codes, factors, codes[:80], factors[:80]), expected, abs_tol=1e-12)


def test_sap_of_a_code_that_is_right_at_the_ends():
    """v = 0, 1, 2 on a line: one against the rest finds the ends, and never the middle: accuracy 2/3, against 1/3 by chance."""
    v = grid(3, 3, repeats=50)
    assert isclose(sap(v.astype(float), v, v[:90].astype(float), v[:90]), 1 / 3, abs_tol=1e-12)


def test_sap_takes_classes_for_equally_likely():
    """v_0 = 0 in 10 % of the examples, then z = -1. v_0 = 1 in 90 %, then z = 1 in 60 % of them. As if the values were equally frequent,
    z = -1 speaks for 0: right in 0.1 + 0.6 * 0.9 of the examples; who always says 1 is right in 0.9."""
    v = np.stack([np.arange(1000) >= 100, np.arange(1000) % 2], axis=1).astype(int)
    z = np.stack([np.where(np.arange(1000) < 460, -1.0, 1.0), np.arange(1000.0)], axis=1)
    assert isclose(predicted(z, v, z, v)[:, 0, 0].mean(), 0.64)


def test_sap_of_known_predictions():
    """Accuracies (3/4, 1/4), (1/2, 1/4), (0, 1): gaps 1/4 and 3/4."""
    right = np.array([[[1, 0], [1, 0], [0, 1]], [[1, 0], [1, 0], [0, 1]], [[1, 0], [0, 0], [0, 1]], [[0, 1], [0, 1], [0, 1]]], dtype=bool)
    assert isclose(sap_of(right), 0.5)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [(PERFECT * [3, -0.1] + 5, 1.0), (ROTATED, 0.0), (DUPLICATED, 0.5), (CONSTANT, 0.0), (INDEPENDENT, 0.0)],
    ids=["perfect", "rotated", "duplicated", "constant", "independent"],
)
def test_sap_of_continuous_factors(codes, expected):
    """Squared correlations: of v_0 + v_1 with v_0, 1/2."""
    assert isclose(sap_continuous(codes, FACTORS), expected, abs_tol=1e-12)


def test_dci_of_known_importances():
    """Three codes, two factors. Each code has one factor, so D = 1; factor 0 has two codes: C = (1 - log 2 / log 3 + 1) / 2."""
    importance = np.array([[0.5, 0.0], [0.5, 0.0], [0.0, 1.0]])
    assert isclose(dci_disentanglement(importance), 1, abs_tol=1e-9)
    assert isclose(dci_completeness(importance), 1 - log(2) / log(3) / 2, abs_tol=1e-9)


def test_dci_weighs_rows_and_columns_by_their_importance():
    """Rows (3/4, 1/4) and (0, 1/4) have shares 4/5 and 1/5; columns have 3/5 and 2/5, of which the second is (1/2, 1/2)."""
    importance = np.array([[0.75, 0.25], [0.0, 0.25]])
    h = -(0.75 * log(0.75) + 0.25 * log(0.25)) / log(2)
    assert isclose(dci_disentanglement(importance), 0.8 * (1 - h) + 0.2, abs_tol=1e-9)
    assert isclose(dci_completeness(importance), 0.6, abs_tol=1e-9)


@pytest.mark.parametrize(("importance", "expected"), [(np.eye(4)[[2, 0, 3, 1]], 1.0), (np.ones((4, 4)), 0.0), (np.zeros((4, 4)), 0.0)])
def test_dci_of_extremes(importance, expected):
    """A permutation, everything of everything, and nothing of nothing."""
    assert isclose(dci_disentanglement(importance), expected, abs_tol=1e-9)
    assert isclose(dci_completeness(importance), expected, abs_tol=1e-9)


@pytest.mark.parametrize(
    ("codes", "disentangled", "complete", "informative"),
    [(PERFECT, 1.0, 1.0, 1.0), (DUPLICATED, 1.0, None, 1.0), (CONSTANT, 0.0, 0.0, 0.5)],
    ids=["perfect", "duplicated", "constant"],
)
def test_dci(codes, disentangled, complete, informative):
    """Trees choose between two equal codes at random: factor 0 then has p and 1 - p of its importance in them."""
    codes, factors = np.tile(codes, (25, 1)), np.tile(FACTORS, (25, 1))
    found = dci(codes, factors, codes[:40], factors[:40])
    assert isclose(found.disentanglement, disentangled, abs_tol=1e-8)
    assert isclose(found.informativeness, informative)
    if complete is None:
        p = found.importance[:2, 0]
        assert isclose(p.sum(), 1)
        assert 0.3 < p[0] < 0.7
        complete = 1 + (p * np.log(p)).sum() / log(3) / 2
    assert isclose(found.completeness, complete, abs_tol=1e-8)


def test_dci_of_a_rotated_code():
    """Both codes are needed for both factors, which together they tell."""
    codes, factors = np.tile(ROTATED, (25, 1)), np.tile(FACTORS, (25, 1))
    found = dci(codes, factors, codes[:40], factors[:40])
    assert found.informativeness == 1
    assert found.disentanglement < 0.15
    assert found.completeness < 0.15


def test_dci_keeps_the_order_of_codes_and_factors():
    v = grid(2, 4, 3, repeats=4)
    codes = v[:, [1, 2, 0]] + 0.1 * np.random.default_rng(0).normal(size=v.shape)
    found = dci(codes, v, codes, v)
    np.testing.assert_array_equal(found.importance.argmax(0), [2, 0, 1])
    assert found.correct.all()


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_boosted_trees_are_those_of_scikit_learn(num_classes):
    """Codes of few values, so that no two splits part the examples alike, which scikit-learn decides by chance."""
    rng = np.random.default_rng(0)
    z = rng.integers(0, 6, (500, 3)) * [1.0, -0.5, 10.0]
    labels = (z[:, 0] + 2 * rng.normal(size=500) + (z[:, 2] > 20)).astype(int) % num_classes * 3
    test_z = rng.normal(size=(400, 3)) * [2, 2, 20]
    importance, prediction = boosted_trees(z, labels, test_z, rng)
    reference = GradientBoostingClassifier().fit(z, labels)
    np.testing.assert_allclose(importance, reference.feature_importances_, rtol=1e-10)
    np.testing.assert_array_equal(prediction, reference.predict(test_z))


@pytest.mark.parametrize(
    ("codes", "expected"),
    [(PERFECT, 1.0), (ROTATED, 1.0), (DUPLICATED, 1.0), (CONSTANT, 0.5), (INDEPENDENT, 0.5)],
    ids=["perfect", "rotated", "duplicated", "constant", "independent"],
)
def test_explicitness(codes, expected):
    """A linear classifier undoes a rotation."""
    codes, factors = np.tile(codes, (5, 1)), np.tile(FACTORS, (5, 1))
    assert isclose(explicitness(codes, factors, codes, factors), expected, abs_tol=1e-12)


def test_explicitness_standardises_by_the_training_codes():
    """Test examples of other proportions are read as well; by their own mean and deviation, 1 would be taken for 0."""
    v = grid(3, 2, repeats=20)
    test = np.concatenate([v, np.repeat(v[-2:], 300, axis=0)])
    assert explicitness(v.astype(float), v, test.astype(float), test) == 1


def test_explicitness_does_not_depend_on_the_units_of_codes():
    rng = np.random.default_rng(2)
    v = rng.integers(0, 3, (400, 2))
    z = v + rng.normal(size=v.shape)
    scores = [explicitness(codes[:300], v[:300], codes[300:], v[300:]) for codes in (z, 1e4 * z - 7)]
    assert 0.6 < scores[0] < 0.95
    assert isclose(*scores, rel_tol=1e-4)


def test_the_area_under_the_curve_is_that_of_scikit_learn():
    """With ties, and with weights."""
    rng = np.random.default_rng(3)
    positive, scores, weights = rng.random(60) < 0.3, rng.integers(0, 9, 60) / 9, rng.integers(0, 4, (5, 60))
    expected = [roc_auc_score(positive, scores, sample_weight=w) for w in weights]
    np.testing.assert_allclose(roc_auc(scores, positive, weights), expected)
    assert np.isnan(roc_auc(scores, np.ones(60, dtype=bool), weights)).all()


# interventions


def of_indices(factors):
    """A perfect code."""
    return factors.double()


def rotated(factors):
    return torch.stack([factors.sum(1), factors[:, 0] - factors[:, 1]], dim=1).double()


def independent(factors):
    return torch.randn(len(factors), 3)


def constant(factors):
    return torch.ones(len(factors), 2)


def tiny(factors):
    return factors * 0.001


def test_a_batch_shares_one_factor_and_no_other():
    shared, codes = batches_that_share(of_indices, (50, 60, 70), 300, 16)
    alike = codes.min(1) == codes.max(1)
    np.testing.assert_array_equal(alike, np.eye(3, dtype=bool)[shared])
    np.testing.assert_allclose(np.bincount(shared, minlength=3), 100, atol=4 * sqrt(300 * 2 / 9))
    assert len(np.unique(codes[shared == 0, 0, 0])) > 30  # the shared value is another one in another batch


def test_a_pair_agrees_in_one_factor_and_no_other():
    """Within a pair, not over the batch; |v - v'| of independent v, v' of n values has the mean (n^2 - 1) / 3n."""
    sizes = (50, 60, 70)
    shared, distances = pairs_that_share(of_indices, sizes, 300, 16)
    np.testing.assert_array_equal(distances == 0, np.eye(3, dtype=bool)[shared])
    for k, n in enumerate(sizes):
        mean = (n**2 - 1) / (3 * n)
        assert abs(distances[shared != k, k].mean() - mean) < 4 * 0.71 * mean / sqrt(200 * 16)


def test_factors_are_drawn_uniformly():
    """All combinations, equally often: chi-square of 23 degrees of freedom, below its 99.99 % quantile of 58.6."""
    index = np.ravel_multi_index(tuple(draw_factors((4, 3, 2), 100, 48).flatten(0, 1).T.numpy()), (4, 3, 2))
    counts = np.bincount(index, minlength=24)
    assert ((counts - 200) ** 2 / 200).sum() < 58.6


def test_a_vote_is_for_the_smallest_relative_variance():
    """Deviations 2, 1, 4 in two batches against 4, 1, 16 of all, and 1, 2, 3 against the same: 1/4, 1, 1/16 and 1/16, 4, 9/256."""
    batches = np.array([1.0, -1.0])[None, :, None] * np.array([[2.0, 1.0, 4.0], [1.0, 2.0, 3.0]])[:, None, :] / sqrt(2)
    np.testing.assert_array_equal(least_varying(batches, np.array([4.0, 1.0, 16.0]) ** 2), [2, 2])
    np.testing.assert_array_equal(least_varying(batches, np.array([4.0, 1.0, 4.0]) ** 2), [0, 0])
    np.testing.assert_array_equal(least_varying(batches, np.ones(3)), [1, 0])


def test_factor_vae_score_of_a_perfect_and_a_duplicated_code():
    assert factor_vae_score(of_indices, (3, 6, 5), 200, 100, 500).accuracy == 1
    duplicated = factor_vae_score(lambda v: v[:, [0, 0, 1, 2]].double(), (3, 6, 5), 200, 100, 500)
    assert duplicated.accuracy == 1
    assert duplicated.num_codes == 4


def test_factor_vae_score_without_a_code_that_varies():
    """Deviations below 0.05 have no vote: these are below 0.003."""
    found = factor_vae_score(tiny, (6, 6), 20, 30, 100)
    assert (found.accuracy, found.num_codes, len(found.correct)) == (0, 0, 30)
    with_one = factor_vae_score(lambda v: torch.cat([tiny(v), v[:, :1]], dim=1), (6, 6), 200, 400, 100)
    assert with_one.num_codes == 1  # it gets all votes, and is right about the factor that had most of them
    assert abs(with_one.accuracy - 1 / 2) < 4 * 0.5 / sqrt(400)


def test_factor_vae_score_of_a_code_that_knows_one_of_two_factors():
    """z = (v_0, another): v_0 fixed, the vote is for code 0. v_1 fixed, it is for either alike: right in 1/2 + 1/2 * 1/2 of all."""

    def half(factors):
        return torch.stack([factors[:, 0], torch.randint(8, factors[:, 0].shape)], dim=1).double()

    accuracy = factor_vae_score(half, (8, 8), 1000, 1500).accuracy
    assert abs(accuracy - 0.75) < 4 * sqrt(0.75 * 0.25 / 1500)


@pytest.mark.parametrize(("encode", "sizes"), [(rotated, (8, 8)), (independent, (4, 4, 4))])
def test_factor_vae_score_by_chance(encode, sizes):
    """Rotated: with either factor fixed, both codes vary alike. 1 / F, a little more by luck in none."""
    accuracy, chance = factor_vae_score(encode, sizes, 1000, 1500).accuracy, 1 / len(sizes)
    assert abs(accuracy - chance) < 4 * sqrt(chance * (1 - chance) / 1500)


def test_beta_vae_score_of_perfect_codes():
    """A linear classifier sees which difference is 0, also in a code with a copy or with other units."""
    for encode in (of_indices, lambda v: 0.3 * v[:, [0, 0, 1, 2]].double() - 1):
        assert beta_vae_score(encode, (6, 6, 6), 400, 200).accuracy == 1


@pytest.mark.parametrize(
    ("encode", "sizes"),
    [(rotated, (8, 8)), (independent, (4, 4, 4)), (constant, (4, 4))],
    ids=["rotated", "random", "constant"],
)
def test_beta_vae_score_by_chance(encode, sizes):
    """Rotated: |z_0 - z_0'| = |z_1 - z_1'| with either factor fixed."""
    accuracy, chance = beta_vae_score(encode, sizes, 800, 1500).accuracy, 1 / len(sizes)
    assert abs(accuracy - chance) < 4 * sqrt(chance * (1 - chance) / 1500)


# without factors


def with_covariance(covariance, num=200):
    """Codes that have exactly this covariance."""
    z = np.random.default_rng(4).normal(size=(num, len(covariance)))
    z -= z.mean(0)
    white = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + 3


@pytest.mark.parametrize("rho", [0.0, 0.5, -0.9])
def test_gaussian_correlations_of_two_codes(rho):
    """TC = -log(1 - rho^2) / 2; W = 4 s^2 - 2 s^2 (sqrt(1 + rho) + sqrt(1 - rho)) with both variances s^2."""
    codes = with_covariance(2.25 * np.array([[1, rho], [rho, 1]]))
    assert isclose(gaussian_total_correlation(codes), -log(1 - rho**2) / 2, abs_tol=1e-12)
    assert isclose(gaussian_wasserstein_correlation(codes), 2.25 * (4 - 2 * (sqrt(1 + rho) + sqrt(1 - rho))), abs_tol=1e-12)
    units = codes * [10, 0.1]
    assert isclose(gaussian_total_correlation(units), -log(1 - rho**2) / 2, abs_tol=1e-12)


def test_gaussian_correlations_of_any_covariance():
    """KL of the two Gaussians by torch, and the protocol's own formula with a matrix square root."""
    root = np.random.default_rng(5).normal(size=(4, 4))
    covariance = root @ root.T + 0.1 * np.eye(4)
    codes, diagonal = with_covariance(covariance), np.diag(np.diag(covariance))
    joint, product = (
        torch.distributions.MultivariateNormal(torch.zeros(4, dtype=torch.double), torch.from_numpy(matrix))
        for matrix in (covariance, diagonal)
    )
    assert isclose(gaussian_total_correlation(codes), torch.distributions.kl_divergence(joint, product).item(), rel_tol=1e-9)
    wasserstein = 2 * np.trace(covariance) - 2 * np.trace(sqrtm(covariance @ diagonal)).real
    assert isclose(gaussian_wasserstein_correlation(codes), wasserstein, rel_tol=1e-9)


def test_gaussian_correlations_of_constant_and_duplicated_codes():
    """A constant is independent of everything; of a copy, TC is infinite, and W = 4 s^2 - 2 s^2 sqrt 2."""
    codes = with_covariance(np.array([[1.0, 0.5], [0.5, 1.0]]))
    with_constant = np.concatenate([codes, np.full((200, 2), 0.1)], axis=1)
    assert isclose(gaussian_total_correlation(with_constant), -log(0.75) / 2)
    assert gaussian_total_correlation(CONSTANT) == gaussian_wasserstein_correlation(CONSTANT) == 0
    copies = np.array([[1.0, 1.0], [-1.0, -1.0]]) / sqrt(2)  # s^2 = 1
    assert gaussian_total_correlation(copies) == np.inf
    assert isclose(gaussian_wasserstein_correlation(copies), 4 - 2 * sqrt(2))


def test_udr_of_codes_that_agree():
    """Up to order, sign and scale. The lasso takes its alpha = 0.1 from each weight of 1: 0.9^2 / 0.9; ranks correlate by 1."""
    codes = 3.0 * grid(5, 5, 5)
    models = [codes, -codes[:, [2, 0, 1]], 0.1 * codes[:, [1, 0, 2]] + 4]
    np.testing.assert_allclose(udr_scores(models), 0.9)
    np.testing.assert_allclose(udr_scores([torch.from_numpy(z) for z in models], similarity="spearman"), 1)


def test_udr_of_a_rotated_code():
    """Weights of 1/sqrt 2 - 0.1 all over: each row and column gives w^2 / 2w; each score is a median over the other models."""
    rotation = (1 / sqrt(2) - 0.1) / 2
    np.testing.assert_allclose(udr_scores([PERFECT, ROTATED]), rotation)
    np.testing.assert_allclose(udr_scores([PERFECT, -PERFECT, ROTATED]), [(0.9 + rotation) / 2, (0.9 + rotation) / 2, rotation])
    np.testing.assert_allclose(udr_scores([PERFECT, -PERFECT, 2 * PERFECT, ROTATED]), [0.9, 0.9, 0.9, rotation])


def test_udr_regresses_the_codes_of_a_model_on_those_of_the_others():
    """a = (v_0, (v_0 + v_1) / sqrt 2) on v has the weights (0.9, 0) and (w, w). v on a, whose codes correlate by c: (0.9, 0) and (s, t)."""
    c = 1 / sqrt(2)
    w, s, t = c - 0.1, (0.1 - c * (c - 0.1)) / (1 - c**2), (c - 0.1 - 0.1 * c) / (1 - c**2)
    a = np.stack([SIGNS[:, 0], SIGNS.sum(1) * c], axis=1)
    on_v = (0.81 / (0.9 + w) + w + 0.9 + w / 2) / 4
    on_a = (0.81 / (0.9 - s) + t + 0.9 + t**2 / (t - s)) / 4
    np.testing.assert_allclose(udr_scores([a, PERFECT]), [on_v, on_a], rtol=1e-3)  # the lasso stops when it is near enough
    assert on_v < 0.6 < 0.78 < on_a


def test_udr_leaves_out_codes_that_are_not_informative():
    """By their rate of at most 0.01 nats, and constant ones in any case; a model may have none."""
    noisy = np.concatenate([PERFECT, HIDDEN], axis=1)
    assert udr_scores([noisy, PERFECT])[0] < 0.8
    rates = [np.array([1.0, 0.5, 0.01]), torch.tensor([0.2, 0.02])]
    np.testing.assert_allclose(udr_scores([noisy, PERFECT], rates), 0.9)
    np.testing.assert_allclose(udr_scores([np.concatenate([CONSTANT, PERFECT], axis=1), PERFECT]), 0.9)
    for similarity in ("lasso", "spearman"):
        assert udr_scores([CONSTANT, PERFECT, PERFECT], similarity=similarity)[0] == 0


def test_udr_refuses():
    with pytest.raises(ValueError, match=r"two models or more .* codes of \[8\] examples"):
        udr_scores([PERFECT])
    with pytest.raises(ValueError, match=r"codes of \[8, 4\] examples"):
        udr_scores([PERFECT, PERFECT[:4]])
    with pytest.raises(ValueError, match=r"each of 2 models needs a rate .* shapes \[\(2,\), \(3,\)\]"):
        udr_scores([PERFECT, ROTATED], [np.ones(2), np.ones(3)])
    with pytest.raises(ValueError, match="similarity=pearson is unknown: choose lasso or spearman"):
        udr_scores([PERFECT, ROTATED], similarity="pearson")


def test_udr_of_models_that_read_the_factors():
    """Perfect readers of three factors agree with each other, 0.9, but not with one that mixes two of them."""
    perfect, flipped = reading(5 * np.eye(3)), reading([[0.0, 0, -5], [0, 0, 0], [5, 0, 0], [0, 5, 0]])
    mixing = reading([[5.0, 5, 0], [5, -5, 0], [0, 0, 5]])
    others, data = [flipped, mixing, perfect], whole_grid()
    found = udr(perfect.train(), data, others)
    assert found["udr_with_each"][0] == pytest.approx(0.9)
    assert found["udr_with_each"][1] < 0.8
    assert found["udr"] == pytest.approx(0.9) == np.median(found["udr_with_each"])
    assert found["udr_num_examples"] == 12
    assert perfect.training
    assert udr(perfect, data, others[::-1])["udr_with_each"] == found["udr_with_each"][::-1]


def whole_grid():
    """Test data that are every combination of three factors once, in batches of 5."""
    v = grid(2, 3, 2)
    x, y = torch.from_numpy(100 * v).to(torch.uint8)[:, None, None], torch.from_numpy(v)
    return DataModule(lambda split: InMemory(x, y, ("a", "b", "c")), [1, 1, 3], val_size=2, eval_batch_size=5)


def test_udr_leaves_out_codes_below_the_threshold():
    """A copy that is 0 or w has the mean rate w^2 / 4 = 0.006 nats: as if it were not there, unless the threshold is below that."""
    with_a_faint_copy = reading([[5.0, 0, 0], [0, 5, 0], [0, 0, 5], [2 * sqrt(0.006) / (100 / 255), 0, 0]])
    other, data = reading(5 * np.eye(3)), whole_grid()
    assert udr(with_a_faint_copy, data, [other])["udr"] == pytest.approx(0.9)
    assert udr(with_a_faint_copy, data, [other], threshold=0.0059)["udr"] < 0.85
    assert udr(with_a_faint_copy, data, [other], threshold=0.0061)["udr"] == pytest.approx(0.9)
    assert udr(with_a_faint_copy, data, [other], num_examples=7)["udr_num_examples"] == 7


def test_udr_of_models_refuses():
    with pytest.raises(ValueError, match=r"two models or more .* codes of \[12\] examples"):
        udr(reading(np.eye(3)), whole_grid(), [])
    shape = (2, 3)
    codes = VAE(
        posteriors.Categorical(MLP, (1, 1, 3), shape), likelihoods.Bernoulli(MLP, shape, (1, 1, 3)), priors.UniformCategorical(shape)
    )
    with pytest.raises(ValueError, match="is over one-hot codes: leave this metric out"):
        udr(codes, whole_grid(), [codes])


# what no score is defined for


@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (PERFECT[:4], FACTORS, "codes of 4 examples, but factors of 8"),
        (PERFECT[:, :1], FACTORS, "1 of the first and 2 of the second"),
        (PERFECT, FACTORS[:, :1], "2 of the first and 1 of the second"),
        (PERFECT, FACTORS * [1, 0], r"factor 1 \(counted from 0\) has the value 0 in all of 8 examples"),
        (np.where(PERFECT[:, :1] > 0, PERFECT, np.nan), FACTORS, "4 of 8 codes are not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(codes, factors, message):
    for score in (mig, modularity, irs, sap_continuous):
        with pytest.raises(ValueError, match=message):
            score(codes, factors)
    for score in (sap, dci, explicitness):
        with pytest.raises(ValueError, match=message):
            score(codes, factors, PERFECT, FACTORS)


# intervals


def test_the_interval_of_an_accuracy():
    """Of a mean of n = 1000 Bernoulli variables with p = 0.3: +- 1.96 sqrt(p (1 - p) / n), to a few per cent with 2000 resamples."""
    correct = np.arange(1000) < 300
    low, high = percentile_interval(0.3, correct[resamples(1000, 2000)].mean(1))
    assert isclose(high - low, 2 * 1.96 * sqrt(0.3 * 0.7 / 1000), rel_tol=0.08)
    assert isclose((low + high) / 2, 0.3, abs_tol=0.003)


def test_the_interval_of_a_biased_score_is_around_it():
    """Information of independent codes is 0 but estimated above it, and in a resample further above: the percentiles miss the score."""
    rng = np.random.default_rng(6)
    z, v = rng.normal(size=(500, 2)), rng.integers(0, 10, (500, 2))

    def score(z, v):
        return float(mutual_information(z, v)[0].mean())

    resampled = np.array([score(z[i], v[i]) for i in resamples(500, 100)])
    assert np.percentile(resampled, 2.5) > score(z, v)
    low, high = percentile_interval(score(z, v), resampled)
    assert low < score(z, v) < high


def test_the_interval_of_mig_is_as_wide_as_other_samples_scatter():
    """Twice 1.96 standard deviations of the score over 150 samples, within the error of such an estimate (a quarter)."""

    def sample(rng):
        v = rng.integers(0, 4, (400, 2))
        return v + rng.normal(size=v.shape), v

    scatter = np.std([mig(*sample(np.random.default_rng(seed))) for seed in range(150)])
    z, v = sample(np.random.default_rng(1000))
    low, high = percentile_interval(mig(z, v), np.array([mig(z[i], v[i]) for i in resamples(400, 150)]))
    assert isclose(high - low, 2 * 1.96 * scatter, rel_tol=0.25)


def test_an_interval_ends_where_the_score_does():
    assert percentile_interval(1.0, np.array([0.9, 1.0, 1.0])) == [pytest.approx(0.938333), 1.0]
    assert percentile_interval(0.01, np.array([0.0, 0.1]))[0] == 0
    assert percentile_interval(3.0, np.array([2.0, 4.0]), largest=np.inf) == pytest.approx([2.05, 3.95])


# a model and its data


def pictures(names=("a", "b", "c"), sizes=(2, 3, 2)):
    """Images whose pixels are the factors, and whose grid can be asked for."""

    def render(factors):
        return (100 * factors).to(torch.uint8)[:, None, None]

    return DataModule(partial(Rendered, render, names, sizes, num_train=6, num_test=6), [1, 1, len(sizes)], val_size=2)


def reading(weight, posterior=posteriors.Gaussian):
    """A VAE whose q(z | x) has the centre weight @ pixels."""
    weight = torch.as_tensor(weight, dtype=torch.get_default_dtype())
    dims = len(weight)
    q = posterior(partial(MLP, hidden=()), (1, 1, weight.shape[1]), (dims,))
    (linear,) = (module for module in q.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        linear.weight.zero_()[:dims] = weight
        linear.bias.zero_()
    return VAE(q, likelihoods.Bernoulli(MLP, (dims,), (1, 1, weight.shape[1])), priors.StandardNormal((dims,)))


SMALL = {"num_train": 300, "num_test": 200, "num_votes": 60, "num_test_votes": 40, "num_bootstrap": 20}
SCORES = [
    "mig",
    "modularity",
    "irs",
    "sap",
    "explicitness",
    "dci_disentanglement",
    "dci_completeness",
    "dci_informativeness",
    "factor_vae_score",
    "beta_vae_score",
    "gaussian_total_correlation",
    "gaussian_wasserstein_correlation",
]


def test_of_a_model_that_reads_the_factors():
    """In another order, with another sign and a code that is always 0: what only the factors decide is 1."""
    model = reading([[0, 5, 0], [0, 0, 0], [-5, 0, 0], [0, 0, 5]]).train()
    report = disentanglement(model, pictures(), **SMALL)
    assert model.training
    for name in (
        "irs",
        "dci_disentanglement",
        "dci_completeness",
        "dci_informativeness",
        "explicitness",
        "factor_vae_score",
        "beta_vae_score",
    ):
        assert isclose(report[name], 1, abs_tol=1e-6), name
    assert 0.9 < report["mig"] <= 1  # in 300 examples, factors are not quite independent
    assert isclose(report["modularity"], 3 / 4, abs_tol=0.01)
    assert report["factor_vae_score_num_codes"] == 3
    information = np.array([report[f"mutual_information_with_{name}"] for name in "abc"])
    np.testing.assert_array_equal(information.argmax(1), [2, 0, 3])
    np.testing.assert_allclose(information.max(1), [report[f"entropy_of_{name}"] for name in "abc"])
    assert report["entropy_of_b"] == pytest.approx(log(3), abs=0.02)
    assert report["disentanglement_num_train"] == 300


def test_validation_mig_is_that_of_validation_images():
    """Of their own factors, and of no other image of the grid."""
    data = pictures(sizes=(2, 3, 2))
    data.val_size = 4
    model = reading([[5.0, 1, 0], [0, 5, 1], [2, 0, 5]])
    found = validation_mig(model, data)
    x, v = (torch.cat(parts) for parts in zip(*data.batches("val"), strict=True))
    assert len(v) == 4
    assert found == {"val/mig": mig(model.encode(x).mean.detach().numpy(), v.numpy())}


def test_the_report_is_flat_and_every_score_has_its_interval():
    report = disentanglement(reading([[5.0, 1, 0], [0, 5, 1], [2, 0, 5]]), pictures(), **SMALL)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    for name, value in report.items():
        assert value is None or isinstance(value, int | float) or all(isinstance(number, float) for number in value), name
    for name in SCORES:
        if name in ("dci_disentanglement", "dci_completeness"):
            assert report[f"{name}_ci"] is None
        else:
            low, high = report[f"{name}_ci"]
            assert low <= report[name] <= high, name
    assert set(report) >= {"mutual_information_with_a", "entropy_of_c", "disentanglement_num_test_votes"}


def noisy_sample(num=300):
    """Codes of few values that tell two factors with errors."""
    rng = np.random.default_rng(7)
    z = rng.integers(0, 6, (2 * num, 3))
    v = (z[:, :2] + z[:, 1:] + rng.integers(0, 3, (2 * num, 2))) // 4
    return Sample(z[:num].astype(float), v[:num], z[num:].astype(float), v[num:])


def test_examples_are_resampled_with_their_factors():
    """Of the scores that count: the same resamples, scored one by one."""
    sample = noisy_sample()
    torch.manual_seed(0)
    report = of_counts(sample, 30, ("a", "b"))
    torch.manual_seed(0)
    again = resamples(300, 30)
    for name, score in (("mig", mig), ("modularity", modularity), ("irs", irs)):
        resampled = np.array([score(sample.z[i], sample.v[i]) for i in again])
        assert report[f"{name}_ci"] == pytest.approx(percentile_interval(score(sample.z, sample.v), resampled))


def test_the_interval_of_a_share_of_test_examples():
    """Of 0.3 of 1000, and of a mean of five factors that are all right or all wrong together."""
    for correct in (np.arange(1000) < 300, np.repeat(np.arange(1000) < 300, 5).reshape(1000, 5).mean(1)):
        report = of_accuracy("score", correct, resamples(1000, 2000))
        low, high = report["score_ci"]
        assert report["score"] == 0.3
        assert isclose(high - low, 2 * 1.96 * sqrt(0.3 * 0.7 / 1000), rel_tol=0.08)


def test_trees_are_fitted_anew_for_the_intervals_of_dci():
    """To other examples: fitted to the same, trees of these codes are the same."""
    sample = noisy_sample()
    scores = {dci(sample.z, sample.v, sample.test_z, sample.test_v).disentanglement for _ in range(3)}
    assert max(scores) - min(scores) < 1e-12
    report = of_predictions(sample, 2, 3)
    for name in ("dci_disentanglement", "dci_completeness"):
        low, high = report[f"{name}_ci"]
        assert low + 0.005 < high


def test_the_seed_decides():
    def scores(seed):
        torch.manual_seed(seed)
        return disentanglement(reading([[5.0, 1, 0], [0, 5, 1], [2, 0, 5]]), pictures(), **SMALL)

    assert scores(1) == scores(1) != scores(2)


class Counting(nn.Module):
    """Passes images on, and counts them."""

    def __init__(self, posterior):
        super().__init__()
        self.posterior, self.seen = posterior, 0

    def forward(self, x, y=None):
        self.seen += len(x)
        return self.posterior(x, y)


def test_each_point_of_the_grid_is_encoded_once():
    """There are 12, and one is encoded beforehand to see what the codes are."""
    model = reading(5 * np.eye(3))
    model.posterior = Counting(model.posterior)
    disentanglement(model, pictures(), **SMALL)
    assert model.posterior.seen == 12 + 1


def test_images_are_transformed_as_those_of_the_test_data():
    """Pixels are divided by 255, and then by whatever the data module does: here their sign changes, and with it that of the codes."""
    data = pictures()
    data.transform = lambda x, generator=None: -x
    model = reading(np.eye(3))
    model.posterior.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    seen = []
    disentanglement(model, data, **SMALL)
    pixels = torch.cat([x.flatten(1) for x in seen]).unique()
    torch.testing.assert_close(pixels, torch.tensor([-200 / 255, -100 / 255, 0.0]))


def test_codes_that_are_no_vectors_are_refused():
    shape = (2, 3)
    categorical = posteriors.Categorical(MLP, (1, 1, 3), shape)
    model = VAE(categorical, likelihoods.Bernoulli(MLP, shape, (1, 1, 3)), priors.UniformCategorical(shape))
    with pytest.raises(ValueError, match=r"q\(z \| x\) is over one-hot codes of shape \(2, 3\): use posterior=gaussian"):
        disentanglement(model, pictures(), **SMALL)
    with pytest.raises(ValueError, match=r"at least two real numbers, .* of shape \(1,\)"):
        disentanglement(reading([[1.0, 0, 0]]), pictures(), **SMALL)


def test_data_without_factors_are_refused():
    data = DataModule(lambda split: InMemory(torch.zeros(9, 1, 1, 3), torch.zeros(9)), [1, 1, 3], val_size=2)
    with pytest.raises(ValueError, match="any combination of known factors, which these data do not have: use data=shapes"):
        disentanglement(reading(np.eye(3)), data, **SMALL)


@pytest.mark.parametrize("option", [*SMALL, "num_dci_refits"])
def test_sizes_that_say_nothing_are_refused(option):
    with pytest.raises(ValueError, match=f"{option}=1"):
        disentanglement(reading(np.eye(3)), pictures(), **SMALL | {option: 1})


def test_the_config_has_the_options_with_their_defaults():
    (config,) = OmegaConf.load(ROOT / "conf" / "metrics" / "disentanglement.yaml").values()
    assert instantiate(config).func is disentanglement
    del config["_target_"], config["_partial_"]
    parameters = inspect.signature(disentanglement).parameters.values()
    assert config == {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}
