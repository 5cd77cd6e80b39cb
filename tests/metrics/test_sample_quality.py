"""Distances between samples and data: closed forms, point sets with known answers, and what mode dropping and outliers do."""

import pytest
import torch
from torch import Tensor

from vaelab.metrics.sample_quality import (
    density_coverage,
    frechet_distance,
    kernel_distance,
    precision_recall,
)

pytestmark = pytest.mark.usefixtures("double")


def with_moments(num: int, mean: Tensor, factor: Tensor) -> Tensor:
    """Points whose mean and covariance L L^T are exactly these."""
    points = torch.randn(num, len(mean))
    points = points - points.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(points.T.cov()), points.T, upper=False)
    return mean + (factor @ white).T


def rotation(dims: int) -> Tensor:
    return torch.linalg.qr(torch.randn(dims, dims)).Q


def test_frechet_distance_of_covariances_that_commute():
    """|m_1 - m_2|^2 + sum_d (s_d - t_d)^2, in any rotation of the axes; one of them is singular."""
    m, s = torch.tensor([1.0, 0.0, -2.0]), torch.tensor([1.0, 2.0, 0.5])
    n, t = torch.tensor([0.0, 2.0, -2.0]), torch.tensor([3.0, 2.0, 0.0])
    exact = 1 + 4 + (4 + 0 + 0.25)
    for r in (torch.eye(3), rotation(3)):
        a, b = with_moments(50, r @ m, r @ s.diag()), with_moments(30, r @ n, r @ t.diag())
        assert frechet_distance(a, b) == pytest.approx(exact, rel=1e-12)
        assert frechet_distance(b, a) == pytest.approx(exact, rel=1e-12)


def test_frechet_distance_of_covariances_that_do_not():
    """tr (S T)^{1/2} of 2 x 2 matrices is sqrt(tr S T + 2 sqrt(det S T)), by Cayley and Hamilton."""
    s, t = torch.tensor([[2.0, 1.0], [1.0, 3.0]]), torch.tensor([[1.0, -0.5], [-0.5, 4.0]])
    product = s @ t
    overlap = (product.trace() + 2 * product.det().sqrt()).sqrt()
    exact = float(s.trace() + t.trace() - 2 * overlap)
    a, b = (with_moments(20, torch.zeros(2), torch.linalg.cholesky(covariance)) for covariance in (s, t))
    assert frechet_distance(a, b) == pytest.approx(exact, rel=1e-12)


def test_frechet_distance_of_singular_covariances():
    """uu^T and vv^T: |u|^2 + |v|^2 - 2 |u.v|; of a set and itself, in more dimensions than it has points, 0; and in one dimension."""
    u, v = torch.randn(2, 5)
    exact = float(u @ u + v @ v - 2 * (u @ v).abs())
    one = torch.tensor([[-1.0], [0.0], [1.0]])
    assert frechet_distance(one * u, one.flip(0) * v) == pytest.approx(exact, rel=1e-12)
    points = 100 + torch.randn(10, 40)
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-11)
    a, b = torch.randn(20, 1), 3 * torch.randn(20, 1)
    assert frechet_distance(a, b) == pytest.approx(float((a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2), rel=1e-10)


def test_frechet_distance_of_samples_falls_to_that_of_their_laws():
    """It is too high by about c / N: ten times as many samples leave a tenth."""
    bias = [frechet_distance(torch.randn(num, 4), torch.randn(num, 4)) for num in (400, 4000)]
    assert 4 < bias[0] / bias[1] < 25


def kernel(x: Tensor, y: Tensor) -> float:
    return (float(x @ y) / len(x) + 1) ** 3


def test_kernel_distance_by_counting_pairs():
    """Two subsets that are alike have the distance of one, without noise; it is unbiased: no point is compared with itself."""
    x, y = torch.tensor([[0.0, 1.0], [2.0, 1.0]]), torch.tensor([[1.0, 1.0], [-1.0, 0.0]])
    exact = kernel(x[0], x[1]) + kernel(y[0], y[1]) - sum(kernel(a, b) for a in x for b in y) / 2
    same = torch.tensor([[0.5, 2.0]]).expand(8, 2)
    assert kernel_distance(same, same[:6], 2) == (0.0, 0.0)
    estimates = {round(kernel_distance(torch.cat([x, x]), torch.cat([y, y]), 2)[0], 10) for _ in range(100)}
    assert round(exact, 10) in estimates
    assert len(estimates) > 1


def test_kernel_distance_is_zero_in_the_mean_where_laws_are_equal():
    """Over 300 pairs of sets; and its standard error is the spread of its values, which it estimates with 9 degrees of freedom."""
    found = torch.tensor([kernel_distance(torch.randn(60, 3), torch.randn(50, 3)) for _ in range(300)])
    values, errors = found.unbind(1)
    assert values.mean().abs() < 4 * values.std() / 300**0.5
    assert (values < 0).double().mean() > 0.3
    assert errors.square().mean().sqrt() == pytest.approx(float(values.std()), rel=0.2)


def test_kernel_distance_in_closed_form():
    """One dimension, k(x, y) = 1 + 3 xy + 3 x^2 y^2 + x^3 y^3: MMD^2 = 3 (dm_1)^2 + 3 (dm_2)^2 + (dm_3)^2 of the raw moments."""
    a, b = torch.randn(20_000, 1), 1 + 0.5 * torch.randn(20_000, 1)
    exact = 3 * (0 - 1) ** 2 + 3 * (1 - 1.25) ** 2 + (0 - (1 + 3 * 0.25)) ** 2
    value, error = kernel_distance(a, b)
    assert abs(value - exact) < 4 * error < 0.1 * exact


def line(*points: float) -> Tensor:
    return torch.tensor(points, dtype=torch.get_default_dtype())[:, None]


def test_balls_on_a_line():
    """Data 0, 1, ..., 5 have balls of radius 1, which cover [-1, 6]; the samples' have the radii 1.5, 1.5 and 6, and all data but 0."""
    real, generated = line(0, 1, 2, 3, 4, 5), line(2.25, 3.75, 9.75)
    assert precision_recall(real, generated, 1) == pytest.approx((2 / 3, 5 / 6))
    # 2.25 lies in the balls of 2 and 3, 3.75 in those of 3 and 4, 9.75 in none
    assert density_coverage(real, generated, 1) == pytest.approx((4 / 3, 3 / 6))
    # with k = 2 those of 0 and 5 have the radius 2, and 3.75 lies in that of 5 too
    assert density_coverage(real, generated, 2) == pytest.approx((5 / 2 / 3, 4 / 6))


def test_recall_on_a_line():
    """Samples 0 and 2, k = 1, have balls that cover [-2, 4]; those of data -1 and 10 have the radius 11."""
    assert precision_recall(line(-1, 10), line(0, 2), 1) == (1.0, 0.5)
    assert precision_recall(line(0, 2), line(-1, 10), 1) == (0.5, 1.0)


def by_definition(real: Tensor, generated: Tensor, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage in loops, with the distances of differences."""

    def balls(points: Tensor) -> list[tuple[Tensor, float]]:
        return [(p, sorted(float((p - q).norm()) for j, q in enumerate(points) if j != i)[k - 1]) for i, p in enumerate(points)]

    def holds(ball: tuple[Tensor, float], point: Tensor) -> bool:
        return float((ball[0] - point).norm()) <= ball[1]

    real_balls, generated_balls = balls(real), balls(generated)
    precision = sum(any(holds(ball, y) for ball in real_balls) for y in generated) / len(generated)
    recall = sum(any(holds(ball, x) for ball in generated_balls) for x in real) / len(real)
    density = sum(holds(ball, y) for ball in real_balls for y in generated) / (k * len(generated))
    coverage = sum(any(holds(ball, y) for y in generated) for ball in real_balls) / len(real)
    return precision, recall, density, coverage


@pytest.mark.parametrize("k", [1, 3, 5])
def test_balls_by_definition(k):
    """Of random points, whatever the chunk, the order and the rotation."""
    real, generated = torch.randn(30, 3), 0.3 + 0.7 * torch.randn(24, 3)
    exact = pytest.approx(by_definition(real, generated, k), rel=1e-12)
    assert len(set(by_definition(real, generated, k))) == 4
    assert (*precision_recall(real, generated, k), *density_coverage(real, generated, k)) == exact
    for size in (1, 7):
        assert (*precision_recall(real, generated, k, size), *density_coverage(real, generated, k, size)) == exact
    turn = rotation(3)
    turned = (real.flip(0) @ turn, generated.flip(0) @ turn)
    assert (*precision_recall(*turned, k), *density_coverage(*turned, k)) == exact


@pytest.mark.parametrize("levels", [2, 4, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_distances_are_inside(levels, dtype):
    """Of pictures of few grey levels many distances are equal, some zero: as integers say, whose sums of squares are exact."""
    of_real, of_generated = (torch.randint(levels, (60, 9)) for _ in range(2))
    of_real[:5], of_generated[:3] = of_real[5:10].clone(), of_real[:3].clone()
    real, generated = ((levels_of / (levels - 1)).to(dtype) for levels_of in (of_real, of_generated))
    for k in (1, 3, 5):
        own, squares = ((a[:, None] - b).square().sum(-1) for a, b in ((of_real, of_real), (of_real, of_generated)))
        others = (of_generated[:, None] - of_generated).square().sum(-1)
        inside, holds = squares <= own.sort(1).values[:, k, None], squares <= others.sort(1).values[:, k]
        precision, recall = (share.double().mean().item() for share in (inside.any(0), holds.any(1)))
        assert precision_recall(real, generated, k) == pytest.approx((precision, recall))
        density, coverage = inside.double().sum().item() / (k * 60), inside.any(1).double().mean().item()
        assert density_coverage(real, generated, k) == pytest.approx((density, coverage))


def test_what_samples_of_the_law_of_the_data_have():
    """Density 1, and coverage 1 - C(N - 1 over k) / C(2 N - 1 over k) (Naeem et al., lemma 2), within 5 standard errors."""
    num, k = 100, 5
    found = torch.tensor([density_coverage(torch.randn(num, 2), torch.randn(num, 2), k) for _ in range(20)])
    expected = 1.0
    for i in range(k):
        expected *= (num - 1 - i) / (2 * num - 1 - i)
    error = found.std(0) / 20**0.5
    assert ((found.mean(0) - torch.tensor([1.0, 1 - expected])).abs() < 5 * error).all()
    assert (error < 0.03).all()


def test_a_mode_that_is_dropped_is_lost_to_recall_and_coverage_alone():
    """Data of two clusters far apart, samples of one of them: precise, and dense, but of half the data."""

    def cluster(num: int, at: float) -> Tensor:
        return at + 0.1 * torch.randn(num, 2)

    real, generated = torch.cat([cluster(200, 0.0), cluster(200, 10.0)]), cluster(400, 0.0)
    precision, recall = precision_recall(real, generated)
    density, coverage = density_coverage(real, generated)
    assert precision > 0.95
    assert 0.4 < recall <= 0.5
    assert density > 0.9
    assert 0.4 < coverage <= 0.5
    # the other way round, half of the samples are where no data are, and all data are found
    precision, recall = precision_recall(generated, real)
    density, coverage = density_coverage(generated, real)
    assert 0.4 < precision <= 0.5
    assert recall > 0.95
    assert density < 0.6
    assert coverage > 0.9


def test_one_outlier_of_the_data_makes_precision_high_and_density_does_not_mind():
    """The reason for density (Naeem et al., figure 1): the ball of an outlier reaches to the data, and holds all between."""
    real = torch.cat([0.1 * torch.randn(200, 2), torch.full((1, 2), 10.0)])
    generated = 5 + 0.1 * torch.randn(200, 2)
    assert precision_recall(real, generated)[0] == 1
    assert density_coverage(real, generated)[0] == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: frechet_distance(x[:1], x), "at least 2.*1 and 6"),
        (lambda x: kernel_distance(x, x, 4), "6 and 6.*num_subsets=4"),
        (lambda x: kernel_distance(x, x, 1), "num_subsets=1"),
        (lambda x: precision_recall(x, x, 6), "num_neighbours=6.*1 to 5"),
        (lambda x: precision_recall(x, x[:2], 2), "num_neighbours=2.*1 to 1"),
        (lambda x: density_coverage(x, x, 0), "num_neighbours=0"),
        (lambda x: density_coverage(x, x, 1, 0), "chunk_size=0"),
    ],
)
def test_sizes_that_cannot_be(call, message):
    """The message gives the numbers."""
    with pytest.raises(ValueError, match=message):
        call(torch.randn(6, 2))
