"""Active units are counted while training, and a collapse is told once, when it is one."""

import csv
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from forked_scripts import command
from small_runs import train_small

QUIET = ["evaluation.enabled=false", "evaluation.figures=false", "~callbacks.pictures", "data.dataset.num_train=256", "data.val_size=64"]
# Any rate costs more than all pixels. Initial weights give z a rate; six steps of this learning rate, an epoch, are enough to press it out.
FAST = "optimizer.lr=0.01"
HOPELESS = ["objective.beta=10000", FAST]


def active_units(run: Path) -> list[float]:
    """Of each validation."""
    rows = csv.DictReader((run / "metrics.csv").open())
    return [float(row["val/active_units"]) for row in rows if row.get("val/active_units")]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]):
    """The lines that speak of a collapse."""
    return lambda: [line for line in capsys.readouterr().out.splitlines() if "collapsed" in line]


def test_the_units_that_are_logged_are_those_of_all_validation_data(tmp_path: Path, told) -> None:
    """In batches of 10, of the last weights; nothing is said of a model that uses z."""
    from vaelab import metrics
    from vaelab.build import open_run
    from vaelab.distributions import centre

    threshold = 0.05
    run = train_small(
        tmp_path,
        *QUIET,
        "latent_dim=8",
        "optimizer.lr=0.01",
        "data.eval_batch_size=10",
        f"callbacks.collapse.threshold={threshold}",
        "callbacks.collapse.patience=0",
    )
    opened = open_run(run, "last")
    with torch.no_grad():
        means = torch.cat([centre(opened.model.encode(x, y)) for x, y in opened.datamodule.batches("val")])
    assert len(means) == 64
    variances = means.var(0, correction=0)
    assert active_units(run)[-1] == metrics.active_units(means, threshold)
    assert 0 < (variances > threshold).sum() < 8  # some are, and some are not
    assert ((variances / threshold).log().abs() > 1e-4).all()  # and none is so near that rounding decides
    assert told() == []


def test_a_collapse_is_told_once_with_its_remedies(tmp_path: Path, told) -> None:
    """Six steps an epoch: all of five validations find a rate of nearly nothing, and patience ends at the second."""
    run = train_small(tmp_path, *QUIET, *HOPELESS, "callbacks.collapse.patience=10", "trainer.max_epochs=5")
    assert active_units(run) == [0] * 5
    (message,) = told()
    assert "its rate was below 0.1 nats from step 0 to 12," in message
    assert "+schedule@objective.beta=linear" in message
    assert "objective.free_bits=0.1" in message


def test_no_collapse_is_told_while_a_weight_still_changes(tmp_path: Path, told) -> None:
    """beta goes from 5,000 to 10,000 in 20 steps: step 24 is the first validation after that, although patience was over at step 6."""
    schedule = ["+schedule@objective.beta=linear", "objective.beta.start=5000", "objective.beta.end=10000", "objective.beta.steps=20"]
    train_small(tmp_path, *QUIET, *schedule, FAST, "callbacks.collapse.patience=1", "trainer.max_epochs=6")
    (message,) = told()
    assert "from step 0 to 24" in message


def test_codes_have_no_units_and_can_collapse(tmp_path: Path, told) -> None:
    """One-hot variables, whose rate is pressed to nothing."""
    codes = ["posterior=gumbel", "prior=uniform_categorical", "z_shape=[4,3]"]
    run = train_small(tmp_path, *QUIET, *codes, *HOPELESS, "callbacks.collapse.patience=6")
    assert active_units(run) == []
    assert len(told()) == 1


def test_points_of_a_sphere_have_no_units(tmp_path: Path, told) -> None:
    """And a rate that is not small."""
    run = train_small(tmp_path, *QUIET, "posterior=hyperspherical", "prior=uniform_sphere", "callbacks.collapse.patience=0")
    assert active_units(run) == []
    assert told() == []


def test_a_model_that_has_just_begun_is_no_collapse_and_counting_changes_no_weight(tmp_path: Path, told) -> None:
    """Patience is 1000 steps, if nobody says otherwise; with and without the callback, weights are the same to the last bit."""
    a, b = train_small(tmp_path / "a", *QUIET, *HOPELESS), train_small(tmp_path / "b", *QUIET, *HOPELESS, "~callbacks.collapse")
    assert (active_units(a), active_units(b)) == ([0, 0], [])
    assert told() == []
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (a, b)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_run_that_is_resumed_is_told_when_one_that_was_not_stopped_is(tmp_path: Path, told) -> None:
    """13 steps are not over at step 12, where it stops, but at 18."""
    run = train_small(tmp_path, *QUIET, *HOPELESS, "callbacks.collapse.patience=13")
    assert told() == []
    resumed = command("train.py", f"resume={run}", "trainer.max_epochs=5").stdout
    assert resumed.count("collapsed") == 1
    assert "from step 0 to 18" in resumed


def test_training_is_not_listened_to() -> None:
    """Only validation is: no hook is left on the model after it."""
    from lightning import Trainer

    from vaelab import VAE, likelihoods, posteriors, priors
    from vaelab.networks import MLP
    from vaelab.objectives import ELBO
    from vaelab.training.callbacks import PosteriorCollapse
    from vaelab.training.lit import LitVAE

    callback, trainer = PosteriorCollapse(), Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    vae = VAE(posteriors.Gaussian(MLP, (4,), (1,)), likelihoods.Bernoulli(MLP, (1,), (4,)), priors.StandardNormal((1,)))
    module = LitVAE(vae, ELBO(), torch.optim.Adam)
    callback.on_validation_epoch_start(trainer, module)
    assert len(vae._forward_hooks) == 1
    callback.on_validation_epoch_end(trainer, module)
    assert not vae._forward_hooks


def test_units_are_those_of_all_latent_variables() -> None:
    """Two layers whose means have the variances 1, 0 and 4, 4 over two batches: three active units."""
    from lightning import Trainer
    from torch.distributions import Independent, Normal

    from vaelab import Draw, Latent
    from vaelab.training.callbacks import PosteriorCollapse

    callback = PosteriorCollapse()
    for sign in (1.0, -1.0):  # no unit moves within a batch
        latents = []
        for means in (torch.tensor([[sign, 7.0]]), torch.tensor([[[2 * sign, 5 + 2 * sign]]])):
            q = Independent(Normal(means.expand(*means.shape[:-2], 3, 2), 1.0), 1)
            z = q.rsample((1,) if means.ndim == 2 else ())  # the lower layer's q has a batch shape (K, B)
            latents.append(Latent(z=z, q=q, p=q, log_q=q.log_prob(z)))
        callback._add(torch.nn.Identity(), (), Draw(x=torch.zeros(3, 1), y=None, p_x=q, latents=tuple(latents)))
    assert callback.active(Trainer(logger=False, accelerator="cpu", enable_checkpointing=False).strategy) == 3


class Step:
    """A schedule: 0 before a step, 1 from it on."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, step: int) -> float:
        return float(step >= self.at)


def test_when_the_weights_of_an_objective_have_settled() -> None:
    """Once they are within 1 % of all that they will be until the last step: those of a part of a sum as well."""
    from vaelab.networks import MLP
    from vaelab.objectives import ELBO, MMD, FactorTC, Sum
    from vaelab.schedules import Cyclical, Linear, Sigmoid
    from vaelab.training.callbacks.collapse import settled

    def first(objective: torch.nn.Module, last: int = 1000) -> int:
        return next(step for step in range(last + 1) if settled(objective, step, last))

    assert first(ELBO()) == 0
    assert first(ELBO(beta=Linear(0, 1, steps=70))) == 70
    assert first(ELBO(beta=Linear(0, 1, steps=250))) == math.ceil(0.99 * 250)
    assert first(ELBO(beta=Linear(0, 1, steps=5000)), last=950) == math.ceil(0.99 * 950)  # training ends before the warm-up
    assert first(ELBO(beta=4.0, capacity=Linear(0, 25, steps=70))) == 70
    assert first(ELBO(beta=Sigmoid(0, 1, center=100, width=10))) == math.ceil(100 + 10 * math.log(99))
    assert first(ELBO(beta=Cyclical(0, 1, period=300, ratio=0.5))) >= 990  # never, before the end
    assert first(Sum(elbo=ELBO(), mmd=MMD())) == 0
    assert first(Sum({"mmd": Step(30)}, elbo=ELBO(), mmd=MMD())) == 30
    assert first(Sum(elbo=ELBO(beta=Step(40)), mmd=MMD())) == 40
    assert first(Sum(elbo=ELBO(), tc=FactorTC((2,), partial(MLP, hidden=(4,)), weight=Step(50)))) == 50


@pytest.mark.parametrize("wrong", [{"threshold": -0.1}, {"rate": -1.0}, {"patience": -1}])
def test_negative_numbers_are_refused(wrong: dict) -> None:
    from vaelab.training.callbacks import PosteriorCollapse

    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value} must be at least 0"):
        PosteriorCollapse(**wrong)
