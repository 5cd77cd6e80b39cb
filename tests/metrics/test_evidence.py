"""log p(x) by importance sampling: the number itself, how it is put together, and how it is averaged."""

import math
import warnings
from dataclasses import replace

import pytest
import torch
from linear_gaussian import orthogonal
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal, constraints

from vaelab import VAE, Draw, likelihoods, priors
from vaelab.data import DataModule, Dequantize, InMemory
from vaelab.distributions import GridCategorical
from vaelab.evidence import bits_per_dim, decodings_at_once, importance_weighted
from vaelab.metrics import bound, evaluate, evaluate_test_data
from vaelab.networks import MLP

pytestmark = pytest.mark.usefixtures("double")


class Known(Distribution):
    """An observation whose log-density is what it was told to be, (K, B)."""

    def __init__(self, log_density: Tensor) -> None:
        super().__init__(log_density.shape, validate_args=False)
        self.log_density = log_density

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_density


class Weights(nn.Module):
    """A model without latents, so that log w = log p(x), which hands out the rows of a table in order."""

    def __init__(self, log_w: Tensor) -> None:
        super().__init__()
        self.log_w, self.drawn = log_w, 0

    def forward(self, x: Tensor, y: Tensor | None = None, num_samples: int = 1) -> Draw:
        rows = self.log_w[self.drawn : self.drawn + num_samples]
        assert len(rows) == num_samples
        self.drawn += num_samples
        return Draw(x=x, y=y, p_x=Known(rows), latents=())


def of_weights(*log_w: float) -> Tensor:
    """One example with these log-weights, (S, 1)."""
    return torch.tensor(log_w)[:, None]


def estimate(log_w: Tensor, chunk_size: int = 50):
    return importance_weighted(Weights(log_w), torch.zeros(log_w.shape[1]), None, len(log_w), chunk_size)


def test_a_number_known_in_advance():
    """log (1/4) (e^-90 + e^-92 + e^-95 + e^-91) = -90.97421605 (PITFALLS)."""
    assert estimate(of_weights(-90.0, -92.0, -95.0, -91.0)).log_likelihood.item() == pytest.approx(-90.97421605, abs=1e-8)


def test_it_stays_finite_where_weights_underflow():
    """log mean exp shifts with its argument, also where exp gives 0 and where float32 has no digit left for the differences."""
    log_w = torch.tensor([-90.0, -92.0, -95.0, -91.0])
    for shift in (-1e4, 1e4):
        evidence = estimate((log_w + shift)[:, None], chunk_size=3)
        assert evidence.log_likelihood.item() - shift == pytest.approx(-90.97421605, abs=1e-8)
    single = estimate(of_weights(-5e5, -5e5).float(), chunk_size=1)
    assert single.log_likelihood.dtype == torch.float64
    assert single.log_likelihood.item() == pytest.approx(-5e5, abs=1e-8)


def test_effective_sample_size():
    """(sum w)^2 / sum w^2: S for equal weights, 1 for one that has all, and 36/20 for weights 4, 2 (and of any size)."""
    assert estimate(torch.full((10, 1), -700.0), chunk_size=3).effective_sample_size.item() == pytest.approx(10, abs=1e-9)
    assert estimate(of_weights(0.0, -800.0, -900.0)).effective_sample_size.item() == pytest.approx(1, abs=1e-9)
    for shift in (0.0, -1e4):
        uneven = of_weights(math.log(4) + shift, math.log(2) + shift)
        assert estimate(uneven, chunk_size=1).effective_sample_size.item() == pytest.approx(36 / 20, abs=1e-9)


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 20, 21, 1000])
def test_chunking_changes_nothing(chunk_size):
    """The same weights, in chunks that divide S or do not, each example for itself; against exp and mean without any trick."""
    log_w = 3 * torch.randn(20, 5)
    weights = log_w.exp()
    evidence = estimate(log_w, chunk_size)
    torch.testing.assert_close(evidence.log_likelihood, weights.mean(0).log())
    torch.testing.assert_close(evidence.effective_sample_size, weights.sum(0).square() / weights.square().sum(0))


def test_an_impossible_x():
    """Weights of zero add nothing; log p^(x) is -inf if all are."""
    assert estimate(of_weights(-math.inf, 0.0, -math.inf), chunk_size=1).log_likelihood.item() == pytest.approx(-math.log(3), abs=1e-12)
    assert estimate(of_weights(-math.inf, -math.inf)).log_likelihood.item() == -math.inf


@pytest.mark.parametrize("chunk_size", [1, 7, 50])
def test_it_equals_the_exact_value(chunk_size):
    """With q = p(z | x), every estimate is log p(x), and every sample counts."""
    theory = orthogonal()
    model, x = theory.vae((1, 2, 3)), theory.sample(4).reshape(4, 1, 2, 3)
    evidence = importance_weighted(model, x, num_samples=20, chunk_size=chunk_size)
    torch.testing.assert_close(evidence.log_likelihood, theory.log_prob(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(evidence.effective_sample_size, torch.full((4,), 20.0), rtol=0, atol=1e-8)
    torch.testing.assert_close(model.log_likelihood(x, num_samples=20, chunk_size=chunk_size), evidence.log_likelihood, rtol=0, atol=1e-10)


def test_one_sample_of_the_true_posterior_is_enough():
    """The weight p(x, z) / p(z | x) does not depend on z: each of 50 estimates from one sample is log p(x)."""
    theory = orthogonal()
    model, x = theory.vae((6,)), theory.sample(3)
    found = torch.stack([importance_weighted(model, x, num_samples=1).log_likelihood for _ in range(50)])
    torch.testing.assert_close(found, theory.log_prob(x).expand(50, 3), rtol=0, atol=1e-10)


def test_enough_samples_come_near_it_with_another_q():
    """With 100,000 samples, log p^ is within 5 of its standard errors, sd(w) / (p(x) sqrt(S)), of log p(x)."""
    theory = orthogonal()
    model, x = theory.vae((6,), shift=0.2, widen=1.3), theory.sample(3)
    evidence = importance_weighted(model, x, num_samples=100_000, chunk_size=10_000)
    error = (1 / evidence.effective_sample_size - 1 / 100_000).sqrt()  # because Var(w) / p(x)^2 = S / ESS - 1
    assert ((evidence.log_likelihood - theory.log_prob(x)).abs() < 5 * error).all()
    assert (error < 0.01).all()


class Counting(nn.Module):
    """A likelihood that counts the rows that it decodes."""

    def __init__(self, likelihood: nn.Module) -> None:
        super().__init__()
        self.likelihood, self.rows, self.decoded, self.recorded = likelihood, [], [], []

    def forward(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        self.rows.append(z.shape[0])
        self.decoded.append(z.shape[:-1].numel())
        p = self.likelihood(z, y)
        self.recorded.append(p.mean.requires_grad)
        return p


@pytest.mark.parametrize(
    ("num_samples", "chunk_size", "rows"),
    [(10, 4, [4, 4, 2]), (3, 50, [3]), (8, 4, [4, 4]), (1, 1, [1]), (1003, 100, [*[100] * 10, 3])],
)
def test_exactly_as_many_samples_as_asked(num_samples, chunk_size, rows):
    """S for each datum, also below a chunk and where chunks do not divide it."""
    theory = orthogonal()
    model = theory.vae((6,))
    model.likelihood = counting = Counting(model.likelihood)
    importance_weighted(model, theory.sample(5), num_samples=num_samples, chunk_size=chunk_size)
    assert counting.rows == rows


@pytest.mark.parametrize(("num_images", "num_samples"), [(5, 10), (3, 5000), (1, 1), (700, 7), (2, 2049)])
def test_without_a_chunk_size_memory_is_bounded(num_images, num_samples):
    """However many images and samples there are, no more decodings are in memory at once than fit; all images together get S each."""
    theory = orthogonal()
    model, x = theory.vae((6,)), theory.sample(num_images)
    model.likelihood = counting = Counting(model.likelihood)
    importance_weighted(model, x, num_samples=num_samples)
    assert sum(counting.decoded) == num_images * num_samples
    assert max(counting.decoded) <= decodings_at_once(x)
    assert len(counting.decoded) <= 2 * math.ceil(num_images * num_samples / decodings_at_once(x)) + num_images


def test_no_graph_is_kept():
    """Neither in the result nor while decoding, although the model is trainable."""
    theory = orthogonal()
    model = theory.vae((6,))
    model.likelihood = counting = Counting(model.likelihood)
    evidence = importance_weighted(model, theory.sample(5), num_samples=4, chunk_size=2)
    assert not evidence.log_likelihood.requires_grad
    assert not evidence.effective_sample_size.requires_grad
    assert counting.recorded == [False, False]
    model(theory.sample(5))
    assert counting.recorded[-1]


class Labelled(nn.Module):
    """A model whose log-weights are the labels."""

    def forward(self, x: Tensor, y: Tensor, num_samples: int = 1) -> Draw:
        return Draw(x=x, y=y, p_x=Known(y.expand(num_samples, len(x))), latents=())


@pytest.mark.parametrize("chunk_size", [3, None])
def test_labels_reach_the_model(chunk_size):
    """log mean exp of S equal numbers is that number, here y, also where not all images are scored at once."""
    y = torch.randn(700)
    evidence = importance_weighted(Labelled(), torch.zeros(700), y, num_samples=7, chunk_size=chunk_size)
    torch.testing.assert_close(evidence.log_likelihood, y)


class ByDerivative(nn.Module):
    """The mean W z + b of a likelihood, as the derivative of c^T (W z + b) with respect to c."""

    def __init__(self, likelihood: nn.Module, how: str) -> None:
        super().__init__()
        self.likelihood, self.how = likelihood, how

    def forward(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        c = torch.zeros(*z.shape[:-1], 6)

        def product(c: Tensor, z: Tensor) -> Tensor:
            return (c * self.likelihood.network(z.reshape(-1, 2)).reshape(c.shape)).sum()

        if self.how == "autograd":
            with torch.enable_grad():
                (mean,) = torch.autograd.grad(product(c.requires_grad_(), z), c)
        elif self.how == "func.grad":
            mean = torch.func.grad(product)(c, z)
        elif self.how == "func.vmap":
            mean = torch.func.vmap(torch.func.grad(product))(c.flatten(0, 1), z.flatten(0, 1)).reshape(c.shape)
        else:
            mean = torch.stack([torch.func.jvp(lambda c: product(c, z), (c,), (e.expand_as(c),))[1] for e in torch.eye(6)]).expand(c.shape)
        return Independent(Normal(mean, self.likelihood.sigma), 1)


@pytest.mark.parametrize("how", ["autograd", "func.grad", "func.vmap", "func.jvp"])
def test_a_decoder_that_is_a_derivative(how):
    """As in some flows: what is differentiated inside the model is so although nothing is recorded outside."""
    theory = orthogonal()
    model, x = theory.vae((6,)), theory.sample(1 if how == "func.jvp" else 4)
    model.likelihood = ByDerivative(model.likelihood, how)
    found = importance_weighted(model, x, num_samples=1 if how == "func.jvp" else 5).log_likelihood
    torch.testing.assert_close(found, theory.log_prob(x), rtol=0, atol=1e-10)


def covered(errors: Tensor, std_errors: Tensor) -> int:
    """How often zero lies in the 95 % interval."""
    return int((errors.abs() < 1.959964 * std_errors).sum())


COVERAGE = range(180, 200)  # of 200: a binomial of probability 0.95 leaves it once in 600 times


def test_standard_error_of_one_log_likelihood():
    """sqrt((S / ESS - 1) / (S - 1)) covers log p(x) in 95 % of 200 repetitions."""
    theory = orthogonal()
    model, x = theory.vae((6,), shift=0.2, widen=1.3), theory.sample(1)
    evidence = importance_weighted(model, x.expand(200, 6), num_samples=1000)
    assert covered(evidence.log_likelihood - theory.log_prob(x), evidence.std_error(1000)) in COVERAGE


def test_standard_error_in_closed_form():
    """Of the log of the mean of weights 4 and 2 it is sd / (mean sqrt 2) = sqrt 2 / (3 sqrt 2); of equal weights 0."""
    assert estimate(of_weights(math.log(4), math.log(2))).std_error(2).item() == pytest.approx(1 / 3, abs=1e-12)
    assert estimate(torch.zeros(10, 1)).std_error(10).item() == pytest.approx(0, abs=1e-7)


def test_standard_error_over_images():
    """It covers E log p(x) = -1/2 log det(2 pi e (W W^T + sigma^2 I)) in 95 % of 200 repetitions, each on 100 other images."""
    theory = orthogonal()
    model = theory.vae((6,))
    covariance = theory.weight @ theory.weight.T + theory.sigma**2 * torch.eye(6)
    expected = -0.5 * torch.logdet(2 * math.pi * math.e * covariance).item()
    reports = [evaluate(model, [(theory.sample(100), torch.zeros(100))], num_samples=1) for _ in range(200)]
    errors = torch.tensor([report["log_likelihood"] - expected for report in reports])
    assert covered(errors, torch.tensor([report["log_likelihood_std_error"] for report in reports])) in COVERAGE


@pytest.mark.parametrize(("effective", "num_samples", "warned"), [(9, 1000, True), (10, 1000, False), (1, 1, False), (1, 2, True)])
def test_a_warning_where_few_samples_are_effective(effective, num_samples, warned):
    """(1 / ESS - 1 / S) / 2 is above 0.05 nats for 9 equal weights among 1000, but not for 10."""
    log_w = torch.full((num_samples, 1), -math.inf)
    log_w[:effective] = -90.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert estimate(log_w).effective_sample_size.item() == pytest.approx(effective, abs=1e-9)
    assert [f"num_samples={num_samples} importance samples" in str(warning.message) for warning in caught] == [True] * warned


@pytest.mark.parametrize("wrong", [{"num_samples": 0}, {"chunk_size": 0}, {"num_samples": -3}])
def test_too_few_samples(wrong):
    ((name, value),) = wrong.items()
    theory = orthogonal()
    with pytest.raises(ValueError, match=f"{name}={value} must be at least 1"):
        importance_weighted(theory.vae((6,)), theory.sample(2), **wrong)


def test_bits_per_dim():
    """A uniform law over 256 values has 8 bits, a fair coin has 1."""
    assert bits_per_dim(-784 * math.log(2), 784) == pytest.approx(1, abs=1e-12)
    assert bits_per_dim(-3072 * math.log(256), 3072) == pytest.approx(8, abs=1e-12)
    assert bits_per_dim(0.0, 3072, num_levels=256) == pytest.approx(8, abs=1e-12)


class AtItsMean(Normal):
    """N(loc, scale) that always draws its mean: a model with it has no noise."""

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.loc.expand(*sample_shape, *self.loc.shape)


class Encoder(nn.Module):
    """q(z | x) = N(2 x, 0.5^2) for two numbers x."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Independent:
        return Independent(AtItsMean(2 * x, torch.full_like(x, 0.5)), 1)


def noiseless() -> tuple[VAE, Tensor, Tensor, dict[str, Tensor]]:
    """A model and 7 examples, whose elbo, rate, distortion and log-likelihood follow from z = 2 x by hand."""
    likelihood = likelihoods.Gaussian(MLP, (2,), (2,), sigma=0.5)
    model, x, y = VAE(Encoder(), likelihood, priors.StandardNormal((2,))), torch.randn(7, 2), torch.arange(7)
    z, mu = 2 * x, likelihood.network(2 * x).detach().reshape(7, 2)
    distortion = (2 * (x - mu).square() + 0.5 * math.log(2 * math.pi) + math.log(0.5)).sum(-1)
    rate = 0.5 * (z.square() + 0.25 - 1 - math.log(0.25)).sum(-1)
    log_p, log_q = (-0.5 * z.square() - 0.5 * math.log(2 * math.pi)).sum(-1), -2 * (0.5 * math.log(2 * math.pi) + math.log(0.5))
    known = {"distortion": distortion, "rate": rate, "elbo": -distortion - rate, "log_likelihood": -distortion + log_p - log_q}
    return model, x, y, known


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_every_example_counts_the_same(batch_size):
    """7 images in batches of 4 have the mean and the standard error, sd / sqrt(7), of one batch of 7."""
    model, x, y, known = noiseless()
    report = evaluate(model, zip(x.split(batch_size), y.split(batch_size), strict=True), num_samples=6, chunk_size=4)
    for name, values in known.items():
        assert report[name] == pytest.approx(values.mean().item(), abs=1e-10)
        assert report[f"{name}_std_error"] == pytest.approx((values.var(correction=1) / 7).sqrt().item(), abs=1e-10)
    assert report["effective_sample_size"] == pytest.approx(6, abs=1e-9)
    assert (report["num_images"], report["num_images_log_likelihood"], report["num_samples"]) == (7, 7, 6)


def test_a_batch_larger_than_what_is_decoded_at_once():
    """30 copies of the 7 images, as one batch of 210, have the same means, and standard errors of sd / sqrt(210)."""
    model, x, y, known = noiseless()
    report = evaluate(model, [(x.repeat(30, 1), y.repeat(30))], num_samples=2)
    for name, values in known.items():
        assert report[name] == pytest.approx(values.mean().item(), abs=1e-10)
        assert report[f"{name}_std_error"] == pytest.approx((values.repeat(30).var() / 210).sqrt().item(), abs=1e-10)
    assert report["num_images_log_likelihood"] == 210


def test_evaluation_mode():
    """A model that comes from training is scored with the sigma that it remembers, 2, and does not learn from what it is scored on."""
    model, x, y, _ = noiseless()
    model.likelihood = likelihoods.Gaussian(MLP, (2,), (2,), sigma="optimal")
    model.likelihood.variance.fill_(4.0)
    mu = model.likelihood.network(2 * x).detach().reshape(7, 2)
    expected = ((x - mu).square() / 8 + 0.5 * math.log(2 * math.pi) + math.log(2)).sum(-1).mean()
    assert evaluate(model.train(), [(x, y)], num_samples=2)["distortion"] == pytest.approx(expected.item(), abs=1e-10)
    assert model.likelihood.variance.item() == 4.0


def test_the_first_images_only():
    """num_images=5 of 4 + 3: the log-likelihood is that of the first five, the ELBO that of all."""
    model, x, y, known = noiseless()
    report = evaluate(model, zip(x.split(4), y.split(4), strict=True), num_samples=2, num_images=5)
    assert report["log_likelihood"] == pytest.approx(known["log_likelihood"][:5].mean().item(), abs=1e-10)
    assert report["log_likelihood_std_error"] == pytest.approx((known["log_likelihood"][:5].var() / 5).sqrt().item(), abs=1e-10)
    assert report["elbo"] == pytest.approx(known["elbo"].mean().item(), abs=1e-10)
    assert (report["num_images"], report["num_images_log_likelihood"]) == (7, 5)


def test_one_image_has_no_standard_error():
    """The spread of one number is not 0 but unknown."""
    model, x, y, known = noiseless()
    report = evaluate(model, [(x[:1], y[:1])], num_samples=1)
    assert report["elbo"] == pytest.approx(known["elbo"][0].item(), abs=1e-10)
    assert report["elbo_std_error"] is None


def test_the_bound_is_for_each_example():
    """elbo = -(distortion + rate), (B,), with the mean over samples."""
    model, x, y, known = noiseless()
    terms = bound(model(x, y, num_samples=3))
    for name in ("elbo", "distortion", "rate"):
        torch.testing.assert_close(terms[name], known[name])


def test_the_bound_sums_the_rates_of_all_latents():
    """Two latents of one model: elbo = -(D + R_1 + R_2)."""
    model, x, y, known = noiseless()
    draw = model(x, y)
    twice = replace(draw, latents=(draw.latent, draw.latent))
    torch.testing.assert_close(bound(twice)["elbo"], -known["distortion"] - 2 * known["rate"])


def test_bits_are_for_probabilities():
    """Pixels of a fair coin that ignores z take 1 bit each; a density has none."""
    model, x, y, _ = noiseless()
    assert evaluate(model, [(x, y)], num_samples=2)["bits_per_dim"] is None
    coin = likelihoods.Bernoulli(MLP, (2,), (1, 2, 3))
    for parameter in coin.parameters():
        nn.init.zeros_(parameter)
    prior = priors.StandardNormal((2,))
    model = VAE(AsPrior(prior), coin, prior)
    report = evaluate(model, [(torch.randint(2, (7, 1, 2, 3)).double(), y)], num_samples=2)
    assert report["bits_per_dim"] == pytest.approx(1, abs=1e-12)
    assert report["log_likelihood"] == pytest.approx(-6 * math.log(2), abs=1e-12)


def grey(num_images: int = 20) -> DataModule:
    """8-bit images, on which uniform noise is put; fewer than a batch."""
    x = torch.randint(256, (num_images, 1, 2, 3), dtype=torch.uint8)
    return DataModule(lambda split: InMemory(x, torch.zeros(num_images)), (1, 2, 3), transform=Dequantize(), val_size=2)


class Given(nn.Module):
    """A likelihood that does not look at z."""

    def __init__(self, make) -> None:
        super().__init__()
        self.make = make

    def forward(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        return Independent(self.make((*z.shape[:-1], 1, 2, 3)), 3, validate_args=False)


def ignoring_z(make) -> VAE:
    """A model of six independent pixels."""
    prior = priors.StandardNormal((2,))
    return VAE(AsPrior(prior), Given(make), prior)


def uniform(shape: tuple[int, ...]) -> Distribution:
    return torch.distributions.Uniform(torch.zeros(shape), torch.ones(shape))


class OfCells(Distribution):
    """The density that is 256 P(k) where k <= 256 x < k + 1."""

    support, arg_constraints = constraints.unit_interval, {}

    def __init__(self, levels: Categorical) -> None:
        super().__init__(levels.batch_shape, validate_args=False)
        self.levels = levels

    def log_prob(self, value: Tensor) -> Tensor:
        return self.levels.log_prob((256 * value).floor()) + math.log(256)


def test_bits_of_dequantised_pixels():
    """If the density is 256 P(k) all over the cell of level k, its bits are those of P."""
    levels, data = Categorical(logits=torch.randn(256)), grey()
    report = evaluate_test_data(ignoring_z(lambda shape: OfCells(levels.expand(shape))), data, num_samples=3)
    data.setup("test")
    x = data.splits["test"].dataset.x.long()
    log_p = levels.log_prob(x).flatten(1).sum(1)
    assert report["bits_per_dim"] == pytest.approx(-log_p.mean().item() / (6 * math.log(2)), abs=1e-9)
    assert report["bits_per_dim_std_error"] == pytest.approx(log_p.std().item() / math.sqrt(20) / (6 * math.log(2)), abs=1e-9)
    assert report["num_images_log_likelihood"] == 20


def test_a_uniform_density_of_dequantised_pixels_has_eight_bits():
    assert evaluate_test_data(ignoring_z(uniform), grey(), num_samples=2)["bits_per_dim"] == 8


def test_a_density_of_grey_levels_has_no_bits():
    """Without noise on the levels, it could be as high as one likes."""
    data = grey()
    data.transform = None
    report = evaluate_test_data(ignoring_z(uniform), data, num_samples=2)
    assert (report["bits_per_dim"], report["bits_per_dim_std_error"]) == (None, None)


def test_grey_levels_of_a_probability_have_bits_as_they_are():
    """256 equally likely levels have 8 bits."""
    data = grey()
    data.transform = None
    assert evaluate_test_data(ignoring_z(lambda shape: GridCategorical(torch.zeros(*shape, 256))), data, num_samples=2)[
        "bits_per_dim"
    ] == pytest.approx(8, abs=1e-12)


class AsPrior(nn.Module):
    """q(z | x) = p(z): a collapsed posterior, whose log-weights are log p(x | z)."""

    def __init__(self, prior: nn.Module) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        p = self.prior()
        return p.expand(x.shape[:1])


def test_nothing_to_evaluate():
    """No batch is an error in words, and not a mean of nothing."""
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(noiseless()[0], [])
