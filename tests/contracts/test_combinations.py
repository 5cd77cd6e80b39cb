"""The grid: every prior with every posterior, likelihood and objective that there is a yaml for.

What is legal trains for two steps; what is not is refused in words: tests/support/combinations.py has the rules.
By default each (posterior, prior, objective) meets one likelihood, all of them in turn; `--full-grid` trains every legal combination.
"""

import re
from typing import Any

import pytest
import torch
from combinations import (
    CLOSED_FORM,
    LIKELIHOODS,
    OBJECTIVES,
    PAIRS,
    POSTERIORS,
    PRIORS,
    Z_SHAPE,
    build,
    choices,
    data_for,
    model_of,
    objective_of,
    refusal,
)
from hydra.errors import InstantiationException


def train(posterior: str, prior: str, likelihood: str, objective: Any) -> None:
    """Two optimiser steps, as `LitVAE` makes them."""
    (x, y), model = data_for(likelihood), model_of(posterior, prior, likelihood)
    objective.num_examples = 100
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.Adam([{"params": list(model.parameters())}, *objective.parameter_groups()], lr=1e-3)
    for step in range(2):
        terms = objective(objective.draw(model, x, y), step)
        assert terms["loss"].isfinite(), terms
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert all(value.isfinite().all() for value in model.parameters())


def test_the_grid_is_all_that_there_is() -> None:
    assert choices("posterior") == sorted(POSTERIORS)
    assert choices("prior") == sorted(PRIORS)


@pytest.mark.parametrize(("posterior", "prior"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_every_combination_trains_or_is_refused_in_words(posterior: str, prior: str, request: pytest.FixtureRequest) -> None:
    full, turn = request.config.getoption("--full-grid"), PAIRS.index((posterior, prior))
    for i, objective in enumerate(OBJECTIVES):
        message = refusal(posterior, prior, objective)
        for likelihood in LIKELIHOODS if full and message is None else [LIKELIHOODS[(turn + i) % len(LIKELIHOODS)]]:
            where = f"posterior={posterior} prior={prior} likelihood={likelihood} objective={objective}"
            try:
                train(posterior, prior, likelihood, objective_of(posterior, prior, objective))
                refused = None
            except (ValueError, InstantiationException) as error:
                refused = str(error)
            assert (refused is None) == (message is None), f"{where}: expected {message!r}, but got {refused!r}"
            assert message is None or re.search(message, refused or ""), f"{where}: expected {message!r}, but got {refused!r}"


@pytest.mark.parametrize(("posterior", "prior"), [pair for pair in PAIRS if pair not in CLOSED_FORM and refusal(*pair, "elbo") is None])
def test_without_a_closed_form_the_analytic_kl_is_refused(posterior: str, prior: str) -> None:
    with pytest.raises(ValueError, match=r"no closed-form KL between .* set objective\.kl=k1"):
        train(posterior, prior, "bernoulli", build("objective", "elbo", Z_SHAPE[POSTERIORS[posterior]], 0))
