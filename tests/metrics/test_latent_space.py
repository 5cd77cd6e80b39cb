"""What is reported of a latent space: known numbers of models that were built to have them, and every kind of model."""

import inspect
import json
import math
from functools import partial

import pytest
import torch
import yaml
from forked_scripts import ROOT
from hydra.utils import instantiate
from linear_gaussian import set_affine
from torch import Tensor

from vaelab import VAE, flows, likelihoods, posteriors, priors
from vaelab.data import InMemory
from vaelab.metrics import evaluate
from vaelab.metrics.latent import latent, rate_per_dimension
from vaelab.models import HierarchicalVAE, SemiSupervisedVAE
from vaelab.networks import MLP, DenseLadder

pytestmark = pytest.mark.usefixtures("double")

AFFINE, SMALL = partial(MLP, hidden=()), partial(MLP, hidden=(8,))


class Rows:
    """Splits of rows (x, y) that are given, in batches of 16."""

    def __init__(self, **splits: tuple[Tensor, Tensor]) -> None:
        self.splits = {name: InMemory(x, y) for name, (x, y) in splits.items()}

    def setup(self, stage: str) -> None: ...

    def batches(self, split: str, device: torch.device | str = "cpu"):
        data = self.splits[split]
        yield from zip(data.x.split(16), data.y.split(16), strict=True)


def rows(dims: int = 1, num: int = 40, num_classes: int = 3) -> Rows:
    """Normal x, and y that the sign of x says something about."""
    x = torch.randn(2 * num, dims)
    y = (torch.randint(2, (2 * num,)) + (x[:, 0] > 0)) % num_classes
    return Rows(train=(x[:num], y[:num]), test=(x[num:], y[num:]))


def linear(*weights: float, scale: float = 0.5) -> VAE:
    """q(z | x) = N(w x, scale^2 I) for one number x."""
    dims = len(weights)
    posterior = posteriors.Gaussian(AFFINE, (1,), (dims,))
    log_scale = torch.full((dims,), math.log(scale))
    set_affine(posterior, torch.cat([torch.tensor(weights)[:, None], torch.zeros(dims, 1)]), torch.cat([torch.zeros(dims), log_scale]))
    return VAE(posterior, likelihoods.Gaussian(AFFINE, (dims,), (1,)), priors.StandardNormal((dims,)))


def test_exactly_the_units_that_were_built_to_be_active():
    """Var(w x) = w^2 Var(x): 0.25 Var(x), ..., of which so many are above each threshold; two are 0."""
    weights = (0.5, 0.0, -2.0, 0.02, 0.0, 0.2)
    model, data = linear(*weights), rows()
    report = latent(model, data)
    variances = [w**2 * data.splits["test"].x.var(correction=0).item() for w in weights]
    assert report["active_units_variances"] == pytest.approx(variances)
    thresholds, counts = report["active_units_thresholds"], report["active_units_counts"]
    assert counts == [sum(v > t for v in variances) for t in thresholds]
    assert dict(zip(thresholds, counts, strict=True))[0.01] == 3
    assert (counts[0], counts[-1], len(thresholds)) == (4, 0, 11)
    assert [t / s for t, s in zip(thresholds[1:], thresholds, strict=False)] == pytest.approx([10**0.5] * 10)


def test_the_rate_of_each_dimension():
    """Sum over x of (mu^2 + s^2 - 1 - ln s^2) / 2; together they are the rate that evaluate reports."""
    model, data = linear(0.5, 0.0, -2.0), rows()
    x = data.splits["test"].x
    rates = [((w * x).square().mean().item() + 0.25 - 1 - math.log(0.25)) / 2 for w in (0.5, 0.0, -2.0)]
    report = latent(model, data)
    assert report["rate_per_dimension"] == pytest.approx(rates)
    assert sum(rates) == pytest.approx(evaluate(model, data.batches("test"), num_samples=1)["rate"])
    assert abs(report["rate_monte_carlo"] - sum(rates)) < 5 * report["rate_monte_carlo_std_error"]


def test_the_parts_of_the_rate_in_closed_form():
    """q(z | x) = N(w x, s^2 I) with x ~ N(0, 1): q(z) = N(0, w w^T + s^2 I), det = s^4 (1 + |w|^2 / s^2) for two dimensions.

    2,000 examples know their own posterior, which is 1 / 2000 of q(z): the MI is off by some e^MI / N, a tenth of its standard error.
    """
    w, s, num = torch.tensor([1.2, 0.9]), 0.6, 2000
    model = linear(*w.tolist(), scale=s)
    x = torch.randn(num, 1)
    report = latent(model, Rows(test=(x, torch.full((num,), -1))), num_projections=10)
    variances = w.square() + s**2
    information = math.log(1 + float(w.square().sum()) / s**2) / 2
    exact = {
        "mutual_information": information,
        "total_correlation": float(variances.log().sum()) / 2 - 2 * math.log(s) - information,
        "dimension_wise_kl": float((variances - 1 - variances.log()).sum()) / 2,
    }
    exact["marginal_kl"] = exact["total_correlation"] + exact["dimension_wise_kl"]
    exact["rate_monte_carlo"] = exact["marginal_kl"] + information
    for name, value in exact.items():
        assert abs(report[name] - value) < 5 * report[f"{name}_std_error"], name
        assert 0 < report[f"{name}_std_error"] < 0.1
    assert report["mutual_information_limit"] == math.log(num)
    assert report["latent_num_examples"] == num


@pytest.mark.parametrize("weights", [(1.0, -0.5), (30.0, 10.0)])
def test_the_parts_add_up(weights):
    """rate = MI + TC + dimension-wise KL of the same samples; the MI of codes that are far apart is its limit."""
    report = latent(linear(*weights, scale=0.01), rows())
    assert report["rate_monte_carlo"] == pytest.approx(report["mutual_information"] + report["marginal_kl"])
    assert report["marginal_kl"] == pytest.approx(report["total_correlation"] + report["dimension_wise_kl"])
    assert report["mutual_information"] <= report["mutual_information_limit"] == math.log(40)
    if weights[0] == 30:
        assert report["mutual_information"] == pytest.approx(math.log(40), abs=0.1)


def test_a_posterior_that_is_the_prior():
    """q(z | x) = N(0, I): no part of the rate, and no distance beyond that of samples of one law."""
    report = latent(linear(0.0, 0.0, scale=1.0), rows(num=300))
    parts = ("rate_monte_carlo", "mutual_information", "marginal_kl", "total_correlation", "dimension_wise_kl")
    assert [report[name] for name in parts] == pytest.approx([0] * 5, abs=1e-10)
    assert report["rate_per_dimension"] == pytest.approx([0, 0], abs=1e-12)
    assert abs(report["mmd_squared"]) < 5 * report["mmd_squared_std_error"]
    assert report["sliced_wasserstein"] < 2 * report["sliced_wasserstein_of_prior"] < 1


def test_an_aggregate_that_is_not_the_prior():
    """q(z | x) = N(3 x, 0.1^2) has q(z) = N(0, 9.01), and W_2 = 9.01^(1/2) - 1.

    E exp(-(a - b)^2 / C) = (1 + 2 v / C)^(-1/2) where a - b has the variance v, which gives the MMD.
    """
    num, scales = 1000, (0.5, 2.0)
    data = Rows(test=(torch.randn(num, 1), torch.full((num,), -1)))
    report = latent(linear(3.0, scale=0.1), data, kernel="rbf", scales=scales, num_projections=5)
    deviation = math.sqrt(9.01)
    assert abs(report["sliced_wasserstein"] - (deviation - 1)) < 5 * deviation / math.sqrt(2 * num)
    assert report["sliced_wasserstein_of_prior"] < 5 / math.sqrt(num)
    exact = sum(sign * (1 + 2 * v / (2 * s)) ** -0.5 for s in scales for sign, v in ((1, 2 * 9.01), (1, 2), (-2, 10.01)))
    assert abs(report["mmd_squared"] - exact) < 5 * report["mmd_squared_std_error"] < exact


def test_only_the_first_examples():
    """20 of 40, in batches of 16, both of the test and of the training data."""
    model, data = linear(1.0), rows()
    report = latent(model, data, num_examples=20)
    assert report["latent_num_examples"] == report["probe_test_num_examples"] == report["probe_train_num_examples"] == 20
    assert report["active_units_variances"] == pytest.approx([data.splits["test"].x[:20].var(correction=0).item()])


def test_chunks_change_nothing():
    """The same samples, scored 7 or 1000 at a time."""
    model, data, reports = linear(1.0, 0.3), rows(), []
    for chunk_size in (7, 1000):
        torch.manual_seed(1)
        reports.append(latent(model, data, chunk_size=chunk_size))
    for name, value in reports[0].items():
        assert reports[1][name] == pytest.approx(value), name


def test_what_the_centres_tell_about_y():
    """z = x to within its noise, and y is the sign of x: the linear probe sees nearly all of it, and 0 of a z that does not move."""
    x = torch.randn(400, 1)
    data = Rows(train=(x[:200], (x[:200, 0] > 0).long()), test=(x[200:], (x[200:, 0] > 0).long()))
    report = latent(linear(1.0, 0.0), data)
    assert report["linear_probe_accuracy"] > 0.97
    assert report["knn_accuracy"] > 0.97
    blind = latent(linear(0.0, 0.0), data)
    assert blind["linear_probe_accuracy"] == blind["majority_accuracy"] < 0.6


def test_examples_without_a_label_are_not_probed():
    """-1 in the training or in the test data; with no label at all there is no probe, and the training data are not read."""
    data = rows()
    data.splits["train"].y[:30] = -1
    data.splits["test"].y[5:15] = -1
    report = latent(linear(1.0), data)
    assert (report["probe_train_num_examples"], report["probe_test_num_examples"], report["latent_num_examples"]) == (10, 30, 40)
    data.splits["test"].y[:] = -1
    del data.splits["train"]
    report = latent(linear(1.0), data)
    assert report["linear_probe_accuracy"] is None
    assert report["probe_test_num_examples"] == 0
    data = rows()
    data.splits["train"].y[:] = -1
    assert latent(linear(1.0), data)["knn_accuracy"] is None


def gaussian(**options) -> VAE:
    return vae(posteriors.Gaussian(SMALL, (5,), (3,), **options), **options)


def vae(posterior, prior=None, z_shape=(3,), **options) -> VAE:
    likelihood = likelihoods.Bernoulli(SMALL, z_shape, (5,), **options)
    return VAE(posterior, likelihood, priors.StandardNormal(z_shape) if prior is None else prior, **options)


def vector_quantized() -> VAE:
    posterior = posteriors.VectorQuantized(SMALL, (5,), (2, 3), num_codes=4)
    return vae(posterior, priors.UniformCodes(posterior), (2, 3))


RATES = {"rate_per_dimension"}
PARTS = {"mutual_information", "marginal_kl", "total_correlation", "dimension_wise_kl"}
OF_VECTORS = {"active_units_variances", "active_units_counts", "mmd_squared", "sliced_wasserstein", "sliced_wasserstein_of_prior"}
# models, and what is not defined for them
MODELS = {
    "gaussian": (gaussian, set()),
    "feature_maps": (lambda: vae(posteriors.Gaussian(SMALL, (5,), (2, 3, 1)), z_shape=(2, 3, 1)), set()),
    "laplace": (lambda: vae(posteriors.Laplace(SMALL, (5,), (3,)), priors.StandardLaplace((3,))), set()),
    "full_covariance": (lambda: vae(posteriors.FullCovarianceGaussian(SMALL, (5,), (3,))), RATES),
    "mixture_prior": (
        lambda: vae(posteriors.Gaussian(SMALL, (5,), (3,)), priors.Mixture((3,), 4)),
        RATES | {"dimension_wise_kl"},
    ),
    "vamp_prior": (
        lambda: vae(posteriors.Gaussian(SMALL, (5,), (3,)), partial(priors.VampPrior, x_shape=(5,), num_components=4)),
        RATES | {"dimension_wise_kl"},
    ),
    "conditional": (partial(gaussian, num_classes=3), set()),
    "conditional_prior": (
        lambda: vae(posteriors.Gaussian(SMALL, (5,), (3,), 3), priors.ConditionalGaussian((3,), 3), num_classes=3),
        {"marginal_kl", "dimension_wise_kl"},
    ),
    "flow": (lambda: vae(posteriors.Flow(SMALL, (5,), (3,), partial(flows.Planar, num_flows=2))), RATES | PARTS),
    "gumbel": (lambda: vae(posteriors.GumbelSoftmax(SMALL, (5,), (2, 3)), priors.UniformCategorical((2, 3)), (2, 3)), OF_VECTORS),
    "sphere": (
        lambda: vae(posteriors.VonMisesFisher(SMALL, (5,), (3,)), priors.UniformSphere((3,))),
        OF_VECTORS | RATES | {"total_correlation", "dimension_wise_kl"},
    ),
    "vector_quantized": (vector_quantized, OF_VECTORS | RATES | PARTS),
    "hierarchy": (
        lambda: HierarchicalVAE(
            DenseLadder((5,), (4, 3), SMALL, hidden=8),
            partial(likelihoods.Bernoulli, network=SMALL, event_shape=(5,)),
            priors.StandardNormal((3,)),
        ),
        set(),
    ),
    "semi_supervised": (
        lambda: SemiSupervisedVAE(
            posteriors.Categorical(SMALL, (5,), (3,)),
            posteriors.Gaussian(SMALL, (5,), (3,), 3),
            likelihoods.Bernoulli(SMALL, (3,), (5,), 3),
            priors.StandardNormal((3,)),
            3,
        ),
        set(),
    ),
}


@pytest.mark.parametrize(("build", "undefined"), MODELS.values(), ids=MODELS.keys())
def test_every_kind_of_model(build, undefined):
    """None for exactly what is not defined; the rest is numbers that JSON has, the same parts that add up, and no key of evaluate."""
    model = build().train()
    report = latent(model, rows(dims=5), num_examples=32)
    assert model.training
    not_of_labels = {
        "linear_probe_r2",
        "linear_probe_r2_per_factor",
        *(f"{name}_accuracy_per_factor" for name in ("linear_probe", "knn", "majority")),
    }
    errors = {f"{name}_std_error" for name in undefined if f"{name}_std_error" in report}
    assert {name for name, value in report.items() if value is None} == undefined | errors | not_of_labels
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    if not undefined & {"mutual_information", "marginal_kl"}:
        assert report["rate_monte_carlo"] == pytest.approx(report["mutual_information"] + report["marginal_kl"])
        assert report["mutual_information"] <= math.log(32)
    if not undefined:
        assert abs(report["rate_monte_carlo"] - sum(report["rate_per_dimension"])) < 5 * report["rate_monte_carlo_std_error"]
    assert not report.keys() & evaluate(model, rows(dims=5).batches("test"), num_samples=1).keys()


def test_z_of_a_model_that_classifies_is_not_told_the_class():
    """The same codes whatever the labels."""
    model, data = MODELS["semi_supervised"][0](), rows(dims=5)
    variances = latent(model, data)["active_units_variances"]
    data.splits["test"].y = (data.splits["test"].y + 1) % 3
    assert latent(model, data)["active_units_variances"] == variances


def test_a_rate_without_a_closed_form_is_sampled():
    """KL(Laplace || StudentT) is not known to torch; of q = p it is 0 for each sample."""
    from torch.distributions import Independent, StudentT

    from vaelab import Latent

    q, p = (Independent(StudentT(torch.full(shape, 5.0)), 1) for shape in ((4, 3), (3,)))
    z = q.sample((2,))
    torch.testing.assert_close(rate_per_dimension(Latent(z=z, q=q, p=p, log_q=q.log_prob(z))), torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "train"}, "split=train must be test or val"),
        ({"num_examples": 1}, "at least 2 examples"),
        ({"num_examples": 0}, "at least 2 examples"),
        ({"chunk_size": 0}, "chunk_size=0 must be at least 1"),
        ({"num_projections": 0}, "num_projections=0 must be at least 1"),
        ({"kernel": "gauss"}, "kernel=gauss is unknown: choose imq or rbf"),
        ({"num_neighbours": 41}, "num_neighbours=41 must be from 1 to.* 40"),
    ],
)
def test_what_is_wrong_is_said(options, message):
    """One ValueError with the value."""
    with pytest.raises(ValueError, match=message):
        latent(linear(1.0), rows(), **options)


def test_codes_and_a_prior_over_another_space():
    """Nothing is compared across spaces."""
    model = vae(posteriors.VonMisesFisher(SMALL, (5,), (3,)))
    with pytest.raises(ValueError, match="the posterior is over points of a sphere, but the prior over vectors of real numbers"):
        latent(model, rows(dims=5))


def test_the_yaml_has_every_option_with_its_default():
    """conf/metrics/latent.yaml and the function say the same."""
    options = yaml.safe_load((ROOT / "conf" / "metrics" / "latent.yaml").read_text())["latent"]
    assert instantiate(options).func is latent
    del options["_target_"], options["_partial_"]
    defaults = {name: p.default for name, p in inspect.signature(latent).parameters.items() if p.default is not p.empty}
    assert options == {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
