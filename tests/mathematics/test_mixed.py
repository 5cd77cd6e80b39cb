"""The likelihood of tables: each family sums or integrates to one in the units of the data, and their product is that of all columns."""

import math
from functools import partial
from itertools import product

import pytest
import torch
from torch.distributions import LogNormal, Normal

from vaelab import VAE, likelihoods, posteriors, priors
from vaelab.distributions import Codes, MixedSupport, ordinal_logits
from vaelab.draw import Draw
from vaelab.networks import MLP
from vaelab.networks.columns import Columns
from vaelab.objectives import IWAE
from vaelab.training.callbacks.first_batch import check_support

pytestmark = pytest.mark.usefixtures("double")

COLUMNS = ["real", ["categorical", 3], "positive", "count", ["ordinal", 4], "nonnegative", "binary", ["ordinal", 2], ["categorical", 2]]
DECODER = partial(MLP, hidden=())


def rows(num: int) -> torch.Tensor:
    """A table in units of its own, of every kind of column."""
    codes = [torch.randint(size, (num,)).double() for size in (3, 4, 2, 2, 2)]
    amount = torch.empty(num).log_normal_(3.0, 0.5) * (torch.rand(num) < 0.4)
    numbers = [1e4 + 300 * torch.randn(num), torch.empty(num).log_normal_(-6.0, 1.5), torch.poisson(torch.full((num,), 40.0)), amount]
    return torch.stack([numbers[0], codes[0], numbers[1], numbers[2], codes[1], numbers[3], codes[2], codes[3], codes[4]], 1)


def fitted(columns=COLUMNS, **options) -> likelihoods.Mixed:
    """A likelihood with constants of a table, and parameters that are not those it begins with."""
    likelihood = likelihoods.Mixed(DECODER, (2,), (len(columns),), columns=columns, **options)
    chosen = [COLUMNS.index(column) for column in columns]
    likelihood.initialise(rows(500)[:, chosen])
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return likelihood


def mass(likelihood: likelihoods.Mixed, column: str | list) -> torch.Tensor:
    """The sum, or the integral, of p(x | z) over all x of a single column, for some z."""
    kind = column if isinstance(column, str) else column[0]
    p = likelihood(torch.randn(6, 2))
    if kind in ("ordinal", "categorical", "binary", "count"):
        most = {"binary": 2, "count": 3000}.get(kind) or column[1]
        return p.log_prob(torch.arange(float(most)).reshape(-1, 1, 1)).exp().sum(0)
    mean, sd = likelihood.mean[0], likelihood.sd[0]
    if kind == "real":
        x = mean + sd * torch.linspace(-60, 60, 400_001)
        return torch.trapezoid(p.log_prob(x.reshape(-1, 1, 1)).exp(), x, dim=0)
    u = mean + sd * torch.linspace(-60, 60, 400_001)  # log x, of which dx is x
    u = u[(u > -700) & (u < 700)]
    of_positive = torch.trapezoid((p.log_prob(u.exp().reshape(-1, 1, 1)) + u.unsqueeze(-1)).exp(), u, dim=0)
    return of_positive + (p.log_prob(torch.zeros(1)).exp() if kind == "nonnegative" else 0.0)


@pytest.mark.parametrize("options", [{}, {"scale": "per_value"}, {"counts": "poisson"}], ids=str)
@pytest.mark.parametrize("column", [*COLUMNS[:8], ["ordinal", 4]], ids=str)
def test_each_family_has_mass_one_in_the_units_of_the_data(column, options):
    torch.testing.assert_close(mass(fitted([column], **options), column), torch.ones(6), rtol=0, atol=1e-6)


def test_a_product_of_columns_sums_to_one():
    columns = [["categorical", 3], ["ordinal", 4], "binary", ["ordinal", 2], ["categorical", 2]]
    p = fitted(columns)(torch.randn(6, 2))
    x = torch.tensor(list(product(range(3), range(4), range(2), range(2), range(2)))).double()
    torch.testing.assert_close(p.log_prob(x.unsqueeze(1)).exp().sum(0), torch.ones(6))


def test_the_density_is_that_of_each_family_in_the_units_of_the_data():
    """N(m + s f, (s sigma)^2) of the data themselves, and of their logarithms with 1 / x, by torch's own families."""
    likelihood, x = fitted(["real", "positive"]), rows(5)[:, [0, 2]]
    z = torch.randn(3, 5, 2)
    f = likelihood.network(z.flatten(0, 1)).reshape(3, 5, 2)
    sigma = torch.stack([likelihood.log_scale_real, likelihood.log_scale_positive], -1)[0].exp() + likelihood.min_scale
    loc, scale = likelihood.mean + likelihood.sd * f, likelihood.sd * sigma
    expected = Normal(loc[..., 0], scale[0]).log_prob(x[:, 0]) + LogNormal(loc[..., 1], scale[1]).log_prob(x[:, 1])
    torch.testing.assert_close(likelihood(z).log_prob(x), expected)


def test_a_change_of_unit_is_a_jacobian():
    """x in metres or in millimetres: log p(x) differs by log 1000 for each real and each positive column, and that is all."""
    x = rows(400)[:, [0, 2]]
    one, other = (likelihoods.Mixed(DECODER, (2,), (2,), columns=["real", "positive"]) for _ in range(2))
    one.initialise(x)
    other.initialise(1000 * x)
    other.network.load_state_dict(one.network.state_dict())
    z = torch.randn(400, 2)
    torch.testing.assert_close(one(z).log_prob(x), other(z).log_prob(1000 * x) + 2 * math.log(1000))


def test_it_begins_as_the_marginals_of_the_training_data():
    """A network that gives 0: means, frequencies and shares of zeros are those of the data, NaN left out."""
    x = rows(20_000)
    x[torch.rand(x.shape) < 0.2] = torch.nan
    likelihood = likelihoods.Mixed(DECODER, (2,), (len(COLUMNS),), columns=COLUMNS)
    likelihood.initialise(x)
    for parameter in likelihood.network.parameters():
        parameter.data.zero_()
    p = likelihood(torch.zeros(2))
    torch.testing.assert_close(p.mean[[0, 3, 5]], x[:, [0, 3, 5]].nanmean(0), rtol=0.03, atol=0)  # the amounts are really log-normal
    for column, size in ((1, 3), (4, 4), (6, 2), (7, 2), (8, 2)):
        found = torch.stack([p.base_dist.log_prob(torch.full((9,), float(k)))[column].exp() for k in range(size)])
        share = torch.stack([(x[:, column] == k).double().sum() for k in range(size)])
        torch.testing.assert_close(found, share / share.sum(), rtol=0.01, atol=1e-3)


def test_proportional_odds():
    """P(x <= k) = sigmoid(theta_k - loc), by sums of the probabilities; a difference of sigmoids that rounds to 0 has its logarithm."""
    sizes, first, gaps = torch.tensor([5, 3]), torch.tensor([-1.0, 0.5]), torch.tensor([[0.5, 1.0, 2.0], [0.7, 9.0, 9.0]])
    loc = torch.tensor([[0.3, -2.0], [4.0, 80.0]])
    logits = ordinal_logits(loc, first, gaps, sizes)
    below = Codes(logits, sizes).probs.cumsum(-1)
    theta = torch.cat([first.unsqueeze(-1), gaps], -1).cumsum(-1)
    torch.testing.assert_close(below[:, 0, :4], torch.sigmoid(theta[0] - loc[:, :1]))
    torch.testing.assert_close(below[:, 1, :2], torch.sigmoid(theta[1, :2] - loc[:, 1:]))
    torch.testing.assert_close(below[:, 1, 2], torch.ones(2))
    assert Codes(logits, sizes).log_prob(torch.tensor([0.0, 1.0]))[1, 1].item() == pytest.approx(
        0.5 + 0.7 - 80 + math.log1p(-math.exp(-0.7))
    )
    middle = ordinal_logits(torch.tensor([-60.0]), torch.tensor([0.0]), torch.tensor([[1.0]]), torch.tensor([3]))
    assert middle[0, 1].item() == pytest.approx(-60 + math.log1p(-math.exp(-1)))


def test_columns_that_were_seen_are_scored_as_their_product():
    """The log-density of a subset of columns is that of a likelihood of these columns alone, for K samples."""
    likelihood, x = fitted(), rows(7)
    p = likelihood(torch.randn(3, 7, 2))
    seen = torch.rand(7, 9) < 0.5
    draw = Draw(x=x.masked_fill(~seen, 0.0), y=None, p_x=p, latents=(), observed=seen)
    each = torch.stack([p.base_dist.log_prob(x)[..., j] for j in range(9)], -1)
    torch.testing.assert_close(draw.log_px, (each * seen).sum(-1))
    torch.testing.assert_close(p.log_prob(x), each.sum(-1))


def test_samples_have_the_moments_that_are_told():
    likelihood = fitted()
    likelihood.log_scale_positive.data.fill_(-1.0)  # else the moments of a log-normal need millions of samples
    likelihood.log_scale_nonnegative.data.fill_(-1.0)
    p = likelihood(0.3 * torch.randn(2))
    x = p.sample((100_000,))
    assert p.support.check(x).all()
    error = (p.variance / len(x)).sqrt()
    assert ((x.mean(0) - p.mean).abs() < 5 * error).all()
    torch.testing.assert_close(x.var(0), p.variance, rtol=0.1, atol=0)


def test_only_continuous_columns_have_samples_with_gradients():
    assert fitted(["real", "positive"])(torch.randn(5, 2)).has_rsample
    assert not fitted(["real", "count"])(torch.randn(5, 2)).has_rsample


def test_what_an_encoder_is_shown():
    """Standardised numbers and logarithms, one-hot codes; zeros where NaN is, and who was observed; a label behind it passes."""
    x = rows(2000)
    x[0] = torch.nan
    shown = Columns((len(COLUMNS) + 3,), COLUMNS)
    shown.initialise(x)
    label = torch.eye(3)[torch.randint(3, (2000,))]
    found = shown(torch.cat([x, label], 1))
    assert found.shape == (2000, shown.width) == (2000, 7 + 1 + 3 + 2 + 9 + 3)
    assert (found[0, :-3] == 0).all()
    assert torch.equal(found[:, -3:], label)
    assert torch.equal(found[1:, -12:-3], torch.ones(1999, 9))
    numbers = torch.stack(
        [x[:, 0], x[:, 2].log(), x[:, 3].log1p(), x[:, 4], x[:, 5].where(x[:, 5] > 0, torch.nan).log(), x[:, 6], x[:, 7]], 1
    )
    expected = ((numbers - numbers.nanmean(0)) / (numbers - numbers.nanmean(0)).square().nanmean(0).sqrt()).nan_to_num(0.0)
    torch.testing.assert_close(found[:, :7].sort(1).values, expected.sort(1).values)
    assert torch.equal(found[1:, 7], (x[1:, 5] > 0).double())
    for place, column, size in ((8, 1, 3), (11, 8, 2)):
        assert torch.equal(found[1:, place : place + size], torch.eye(size)[x[1:, column].long()])


def test_an_encoder_of_columns_tells_a_missing_value_from_zero():
    """And nothing else of it: what stands where a value is missing has no influence on bounds and gradients."""
    encoder = partial(MLP, hidden=(5,), input=COLUMNS)
    model = VAE(posteriors.Gaussian(encoder, (9,), (2,)), fitted(), priors.StandardNormal((2,)), missing=True)
    x = rows(6)
    x[0, :4], x[1] = torch.nan, torch.nan
    assert not torch.equal(model.encode(x).mean[0], model.encode(x.nan_to_num(0.0)).mean[0])
    draw = model(x, num_samples=3)
    assert (draw.log_px[:, 1] == 0).all()
    IWAE(3)(draw, 0)["loss"].backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["real"], r"columns=\['real'\] must be a list of 2 kinds, one for each value of x, but there are 1"),
        ("real", "columns=real must be a list of 2 kinds"),
        (["real", "integer"], r"columns\[1\]=integer is unknown: choose real, positive, nonnegative, count"),
        (["real", "categorical"], r"columns\[1\]=categorical must be one of real, .* or a list of ordinal or categorical"),
        (["real", ["count", 3]], r"columns\[1\]=\['count', 3\] must be one of real"),
        (["real", ["ordinal", 1]], r"number of categories, at least 2"),
    ],
    ids=str,
)
def test_columns_that_are_none_are_refused_in_words(columns, message):
    with pytest.raises(ValueError, match=message):
        likelihoods.Mixed(DECODER, (2,), (2,), columns=columns)


def test_values_that_a_column_cannot_have_are_named():
    p, x = fitted()(torch.randn(2, 2)), rows(2)
    assert isinstance(p.support.base_constraint, MixedSupport)
    check_support(p, x)
    x[1, 1] = 3.0
    with pytest.raises(ValueError, match=r"expects x\[1\] in the codes 0, 1, .* but example 1 of the first batch has 3"):
        check_support(p, x)
    check_support(p, x, torch.arange(9) != torch.tensor([[1]]).expand(2, 9))
