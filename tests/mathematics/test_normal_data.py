"""Data of known covariance, and the log-likelihood that probabilistic PCA has at its maximum."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.distributions import MultivariateNormal

from vaelab.data.normal import normal, ppca_log_likelihood

VARIANCES = [4, 2, 1.5, 1, 0.7, 0.5, 0.3]


def test_the_sample_has_mean_0_and_that_covariance() -> None:
    x = normal("train", VARIANCES, num=200, seed=3).x.double()
    torch.testing.assert_close(x.mean(0), torch.zeros(7, dtype=torch.float64), rtol=0, atol=1e-7)
    torch.testing.assert_close(x.T @ x / 200, torch.tensor(VARIANCES, dtype=torch.float64).diag(), rtol=0, atol=1e-6)
    assert torch.equal(normal("test", VARIANCES, num=200, seed=3).x, normal("train", VARIANCES, num=200, seed=3).x)


@pytest.mark.parametrize("num_components", [1, 2, 5])
def test_ppca_is_the_best_of_its_covariances(num_components: int) -> None:
    """Mean log N(x; 0, W W^T + sigma^2 I) is that value at the maximum of Tipping & Bishop, and nowhere higher."""
    variances = torch.tensor(VARIANCES, dtype=torch.float64)
    x = normal("train", VARIANCES, num=500).x.double()

    def mean_log_prob(parameters: np.ndarray) -> float:
        weight = torch.from_numpy(parameters[:-1]).reshape(7, num_components)
        covariance = weight @ weight.T + np.exp(2 * parameters[-1]) * torch.eye(7, dtype=torch.float64)
        return MultivariateNormal(torch.zeros(7, dtype=torch.float64), covariance).log_prob(x).mean().item()

    exact = ppca_log_likelihood(VARIANCES, num_components)
    rest = variances[num_components:].mean()
    weight = torch.eye(7, num_components, dtype=torch.float64) * (variances[:num_components] - rest).sqrt()
    best = np.append(weight.flatten().numpy(), rest.sqrt().log().item())
    assert mean_log_prob(best) == pytest.approx(exact, abs=1e-6)
    start = np.random.default_rng(0).normal(size=len(best)) / 2
    found = minimize(lambda parameters: -mean_log_prob(parameters), start, options={"maxiter": 50})
    assert -found.fun <= exact + 1e-6
    assert -found.fun == pytest.approx(exact, abs=1e-2)


def test_the_order_of_dimensions_does_not_matter() -> None:
    assert ppca_log_likelihood(VARIANCES[::-1], 2) == pytest.approx(ppca_log_likelihood(VARIANCES, 2), abs=1e-12)


@pytest.mark.parametrize(
    ("variances", "num_components", "message"),
    [
        ([], 1, "must be a list of positive numbers"),
        ([2, -1], 1, r"variances=\[2, -1\] must be a list of positive numbers"),
        ([2, float("nan")], 1, r"variances=\[2, nan\] must be a list"),
        ([2, 1], 2, "num_components=2 must be below the 2 dimensions"),
        ([2, 1], 0, "num_components"),
    ],
)
def test_what_it_refuses(variances: list[float], num_components: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ppca_log_likelihood(variances, num_components)
    with pytest.raises(ValueError, match="must be"):
        normal("train", variances, num=1)
