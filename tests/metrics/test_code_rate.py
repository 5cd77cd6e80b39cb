"""Rates that are known in advance, of latents that are made for it."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MultivariateNormal, Normal

from vaelab import Draw, Model
from vaelab.data import DataModule, InMemory
from vaelab.distributions import Lattice, OneHot, Quantized, Table, VonMisesFisher
from vaelab.draw import Latent
from vaelab.metrics.code_rate import Encoded, code_rate, fitted
from vaelab.metrics.evaluation import evaluate
from vaelab.networks import CausalTransformer
from vaelab.networks.masked_conv import PixelCNN
from vaelab.priors import AutoregressiveCodes, AutoregressiveMixture, StandardNormal

NUM, NUM_TEST = 2000, 1000
Posterior = Callable[[Tensor], Distribution]


class Given(Model):
    """Latent variables with these posteriors."""

    def __init__(self, *posteriors: Posterior) -> None:
        super().__init__()
        self.posteriors = posteriors

    def encode(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return self.posteriors[0](x)

    def forward(self, x: Tensor, y: Tensor | None = None, num_samples: int = 1) -> Draw:
        first, *others = self.posteriors
        latents = [Latent.sample(first(x), prior_like(first(x)), num_samples)]
        for posterior in others:  # below the first, and so of each sample of it
            q = posterior(x.expand(num_samples, *x.shape))
            latents.append(Latent(z=q.rsample(), q=q, p=prior_like(q)))
        return Draw(x=x, y=y, p_x=Independent(Normal(torch.zeros(num_samples, *x.shape), 1.0), x.ndim - 1), latents=tuple(latents))

    decode = sample = reconstruct = lambda self: None


def prior_like(q: Distribution) -> Distribution:
    return StandardNormal(q.event_shape)() if isinstance(q, Independent) else q


def data(make: Callable[[int], Tensor]) -> DataModule:
    """Of which training and test data are both `make` of a number."""
    splits = {split: make(num) for split, num in (("train", NUM), ("test", NUM_TEST))}
    return DataModule(lambda split: InMemory(splits[split]), shape=splits["train"].shape[1:], batch_size=500, val_size=10)


def found(model: Model, make: Callable[[int], Tensor], network: type[nn.Module] = CausalTransformer, **options: Any) -> dict[str, Any]:
    prior = partial(AutoregressiveCodes, channels=16, num_layers=1, network=network, max_classes=16)
    numbers = partial(AutoregressiveMixture, channels=16, num_layers=1, num_components=4, network=network)
    how = {"num_steps": 200, "batch_size": 64, "learning_rate": 2e-2} | options
    return code_rate(model, data(make), prior, numbers, **how)


def gaussian(scale: float) -> Posterior:
    """N(sqrt(1 - scale^2) x, scale^2): if x are standard normal, so is z."""
    return lambda x: Independent(Normal(math.sqrt(1 - scale**2) * x, torch.full_like(x, scale)), 1)


def as_code(codebook: Any, space_ndim: int) -> Posterior:
    """z has the indices x."""
    return lambda x: Quantized(codebook.embed(x.long(), space_ndim), codebook, 1 + space_ndim, indices=x.long())


def correlated(rho: float, num: int) -> Tensor:
    """Three standard normal numbers, each with correlation rho with the one before."""
    x = torch.randn(num, 3)
    for i in (1, 2):
        x[:, i] = rho * x[:, i - 1] + math.sqrt(1 - rho**2) * x[:, i]
    return x


def mutual_information(rho: float, scale: float) -> float:
    """log det Cov z / 2 - 3 log scale."""
    covariance = torch.tensor([[rho ** abs(i - j) for i in range(3)] for j in range(3)]).double()
    return float(((1 - scale**2) * covariance + scale**2 * torch.eye(3)).logdet() / 2 - 3 * math.log(scale))


# --- real numbers


@pytest.mark.parametrize("network", [CausalTransformer, PixelCNN])
@pytest.mark.parametrize("rho", [0.0, 0.95])
def test_the_rate_of_gaussians_is_their_mutual_information(rho: float, network: type[nn.Module]) -> None:
    """No prior has less, and one that knows the aggregate posterior has that; N(0, I) has -3 log scale, more if they are correlated."""
    model, scale = Given(gaussian(0.3)), 0.3
    report = found(model, partial(correlated, rho), network)
    exact, error = mutual_information(rho, scale), 3 * report["code_rate_std_error"]
    assert exact - error < report["code_rate"] < exact + error + 0.1
    assert report["code_rate_bits_per_dim"] == pytest.approx(report["code_rate"] / math.log(2) / 3)
    own = evaluate(model, data(partial(correlated, rho)).batches("test"), num_samples=1)["rate"]
    assert own == pytest.approx(-3 * math.log(scale), abs=0.1)
    assert report["code_rate"] < own + error + 0.1


@pytest.mark.parametrize("full", [False, True])
def test_the_unit_of_a_channel_does_not_matter(full: bool) -> None:
    """z -> a z + b of each channel: the change of volume is counted, and the small prior is shown the same numbers."""
    a, b = torch.tensor([1e3, 2**-7]), torch.tensor([3e3, -0.25])

    def changed(x: Tensor) -> Distribution:
        loc = x * (a if full else a[:, None, None]) + (b if full else b[:, None, None])
        if full:
            return MultivariateNormal(loc, scale_tril=(0.3 * a).diag_embed().expand(len(x), -1, -1))
        return Independent(Normal(loc, 0.3 * a[:, None, None].expand(x.shape)), 3)

    def plain(x: Tensor) -> Distribution:
        if full:
            return MultivariateNormal(x, scale_tril=0.3 * torch.eye(2).expand(len(x), -1, -1))
        return Independent(Normal(x, torch.full_like(x, 0.3)), 3)

    def make(num: int) -> Tensor:
        torch.manual_seed(num)
        return torch.randn(num, 2) if full else torch.randn(num, 2, 2, 2).cumsum(-1)

    reports = []
    for posterior in (plain, changed):
        torch.manual_seed(0)
        reports.append(found(Given(posterior), make, num_steps=50))
    assert reports[1]["code_rate"] == pytest.approx(reports[0]["code_rate"], abs=1e-3)
    assert reports[1]["code_rate_std_error"] == pytest.approx(reports[0]["code_rate_std_error"], abs=1e-3)


def test_latents_that_know_nothing_of_x_cost_nothing() -> None:
    report = found(Given(lambda x: Independent(Normal(5 + 0 * x, 2.0), 1)), partial(correlated, 0.0))
    assert report["code_rate"] == pytest.approx(0, abs=0.05)


# --- codes


def vectors(num: int) -> Table:
    return Table(torch.randn(num, 5))


@pytest.mark.parametrize(
    ("make", "bits"),
    [
        (lambda num: torch.randint(8, (num, 2, 3)).float(), 3.0),
        (lambda num: torch.full((num, 2, 3), 5.0), 0.0),
        (lambda num: torch.randint(8, (num, 1, 1)).float().expand(num, 2, 3), 3 / 6),
        (lambda num: (torch.randint(8, (num, 2, 1)) + torch.arange(3)).remainder(8).float(), 3 * 2 / 6),
    ],
    ids=["independent", "always the same", "one for all places", "one for each row"],
)
def test_bits_of_codes(make: Callable[[int], Tensor], bits: float) -> None:
    report = found(Given(as_code(vectors(8), 2)), make)
    assert report["code_rate_bits_per_code"] == pytest.approx(bits, abs=0.03)
    assert report["code_rate"] == pytest.approx(6 * math.log(2) * report["code_rate_bits_per_code"])
    assert report["code_rate_bits_per_dim"] == pytest.approx(report["code_rate_bits_per_code"])  # x has a number for each code
    assert report["code_rate_num_train"] == NUM - 10
    assert report["code_rate_num_examples"] == NUM_TEST


def test_the_entropy_rate_of_a_markov_chain() -> None:
    """A code stays with probability .9, else it is any of the four: h = H(.925, .025, .025, .025)."""

    def chain(num: int) -> Tensor:
        x = torch.randint(4, (num, 10))
        for i in range(1, 10):
            x[:, i] = torch.where(torch.rand(num) < 0.9, x[:, i - 1], x[:, i])
        return x.float()

    h = float(Categorical(torch.tensor([0.925, 0.025, 0.025, 0.025])).entropy()) / math.log(2)
    report = found(Given(as_code(vectors(4), 1)), chain)
    assert report["code_rate_bits_per_code"] == pytest.approx((2 + 9 * h) / 10, abs=0.03)


def test_more_codes_than_a_softmax_has_classes() -> None:
    """2^20 codes of ten levels, all the same: two bits."""
    lattice = Lattice([4] * 10, torch.zeros(10), torch.ones(10))

    def posterior(x: Tensor) -> Distribution:
        indices = lattice.nearest(x.expand(-1, 10))[:, None]
        return Quantized(lattice.embed(indices, 1), lattice, 2, indices=indices)

    report = found(Given(posterior), lambda num: torch.randint(4, (num, 1)).float())
    assert report["code_rate_bits_per_code"] == pytest.approx(2, abs=0.05)


def test_one_hot_variables_have_an_entropy() -> None:
    """q gives the class of x .9 and the other one .1: log 2 - H(.9) for each variable, and 0 of those that are alike for all x."""

    def posterior(sure: float, x: Tensor) -> Distribution:
        chosen = torch.stack([1 - x, x], -1)
        return Independent(OneHot((sure * chosen + (1 - sure) * (1 - chosen)).log()), 1)

    def make(num: int) -> Tensor:
        return torch.randint(2, (num, 3)).float()

    entropy = float(Categorical(torch.tensor([0.1, 0.9])).entropy())
    report = found(Given(partial(posterior, 0.9)), make)
    assert report["code_rate"] == pytest.approx(3 * (math.log(2) - entropy), abs=3 * report["code_rate_std_error"] + 0.03)
    assert found(Given(partial(posterior, 0.5)), make)["code_rate"] == pytest.approx(0, abs=0.03)


# --- the protocol


def test_several_latents_are_added_up() -> None:
    """Also where those below the top have distributions for each sample of it; codes among real numbers have no bits of each code."""
    codebook = vectors(2)

    def signs(x: Tensor) -> Distribution:
        indices = (x > 0).long()
        return Quantized(codebook.embed(indices, 1), codebook, 2, indices=indices)

    report = found(Given(gaussian(0.3), gaussian(0.6), signs), partial(correlated, 0.0))
    of_latents = [-3 * math.log(0.3), -3 * math.log(0.6), 3 * math.log(2)]
    assert report["code_rate_of_latents"] == pytest.approx(of_latents, abs=0.15)
    assert "code_rate_bits_per_code" not in report
    assert report["code_rate"] == pytest.approx(sum(report["code_rate_of_latents"]))


def test_the_fit_has_a_seed_of_its_own() -> None:
    """The same weights whatever torch's generator is at, and the generator goes on where it was."""
    encoded = Encoded((3,), torch.randn(20, 3), torch.rand(20, 3), torch.zeros(20), None)
    priors = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        priors.append(fitted(partial(AutoregressiveMixture, (3,), channels=4, num_layers=1), encoded, 3, 8, 0.1))
        assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(*(prior.parameters() for prior in priors), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("posterior", "options", "words"),
    [
        (lambda x: VonMisesFisher(x / x.norm(dim=-1, keepdim=True), torch.ones(len(x))), {}, "z is of"),
        (gaussian(0.3), {"split": "train"}, "split=train"),
        (gaussian(0.3), {"num_train": 1}, "num_train=1"),
        (gaussian(0.3), {"num_steps": 0}, "num_steps=0"),
        (gaussian(0.3), {"learning_rate": 0}, "learning_rate=0"),
        (lambda x: Independent(Normal(x / 0, 1.0, validate_args=False), 1), {}, "not finite"),
    ],
)
def test_what_has_no_code_rate_is_said(posterior: Posterior, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        found(Given(posterior), partial(correlated, 0.0), **{"num_steps": 2} | options)
