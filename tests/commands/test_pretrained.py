"""pretrained=<run folder>: what is taken over from a trained run, and from which run nothing can be."""

from pathlib import Path

import pytest
import torch
from small_runs import SMALL, composed, train_small

VAMP = ["prior=vamp", "prior.num_components=5", "objective.kl=k1"]
QUICK = ["trainer.max_epochs=1", "evaluation.enabled=false", "evaluation.figures=false"]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("first") / "run", *VAMP, *QUICK, "optimizer.lr=0.01")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_everything_is_taken_over_and_pseudo_inputs_do_not_start_anew(first: Path, tmp_path: Path) -> None:
    again = train_small(tmp_path / "run", *VAMP, *QUICK, "optimizer.lr=0", f"pretrained={first}", "data.split_seed=1", "seed=1")
    torch.testing.assert_close(weights(again), weights(first), rtol=0, atol=0)


def test_a_prior_of_another_kind_is_what_it_was_built_as(first: Path, tmp_path: Path) -> None:
    again = weights(train_small(tmp_path / "run", *QUICK, "optimizer.lr=0", "prior=mixture", "objective.kl=k1", f"pretrained={first}"))
    expected = {name: value for name, value in weights(first).items() if not name.startswith("model.prior")}
    torch.testing.assert_close({name: again[name] for name in expected}, expected, rtol=0, atol=0)
    assert "model.prior.loc" in again


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("posterior=laplace", "model.posterior=vaelab.posteriors.Laplace"),
        ("likelihood=continuous_bernoulli", "model.likelihood=vaelab.likelihoods.ContinuousBernoulli"),
        ("encoder.activation._target_=torch.nn.Tanh", "model.posterior.network.activation=torch.nn.Tanh"),
        ("encoder.hidden=[16]", "the posterior of that run has other weights"),
    ],
)
def test_weights_that_would_mean_something_else_are_refused(first: Path, override: str, named: str, tmp_path: Path) -> None:
    from vaelab.commands.train import train

    with pytest.raises(ValueError, match=named.replace(".", r"\.")):
        train(composed([*SMALL, *QUICK, "objective.kl=k1", override, f"pretrained={first}"], tmp_path / "run"))
