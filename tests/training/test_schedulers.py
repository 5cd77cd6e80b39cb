"""Learning rates: closed forms, what they are stepped by, and that they go on where they stopped."""

import csv
import math
from pathlib import Path

import pytest
import torch
from small_runs import QUICK, SMALL, composed, train_small
from torch.optim.lr_scheduler import CosineAnnealingLR

from vaelab.build import build
from vaelab.commands import train as training
from vaelab.commands.checking import check_steps
from vaelab.training.schedulers import Scheduling, cosine, one_cycle

TOP = 0.1
UNEVALUATED = [*QUICK, "evaluation.enabled=false", "trainer.log_every_n_steps=1"]


def rates(scheduler, num_steps: int) -> list[float]:
    """The learning rate of each step."""
    found = []
    for _ in range(num_steps):
        found.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def sgd(**options: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(1))]}, {"params": [], "lr": TOP / 2}], lr=TOP, **options)


def test_without_a_warm_up_it_is_the_cosine_of_torch() -> None:
    found, wanted = rates(cosine(sgd(), 50, final=0.1), 50), rates(CosineAnnealingLR(sgd(), 50, eta_min=0.1 * TOP), 50)
    assert found == pytest.approx(wanted, rel=1e-6)


def test_a_warm_up_rises_to_the_top_and_the_end_is_the_end() -> None:
    """10 steps up, half way down in the middle of the other 40, and no further rise after them."""
    found = rates(cosine(sgd(), 50, warmup_steps=10, final=0.2), 70)
    assert found[:11] == pytest.approx([TOP * min(step + 1, 10) / 10 for step in range(11)])
    assert found[30] == pytest.approx(TOP * 0.6)
    assert found[50:] == pytest.approx([TOP * 0.2] * 20)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}])
def test_one_cycle_has_its_top_at_each_groups_learning_rate(options: dict[str, float]) -> None:
    scheduler = one_cycle(sgd(**options), 39, rising=0.25, start=0.1, final=0.01)
    groups = scheduler.optimizer.param_groups
    seen = [(groups[0]["lr"], groups[1]["lr"])]
    for _ in range(39):
        scheduler.optimizer.step()
        scheduler.step()
        seen.append((groups[0]["lr"], groups[1]["lr"]))
    for group, top in enumerate((TOP, TOP / 2)):
        values = [pair[group] for pair in seen]
        assert (values[0], values[9], values[-1]) == pytest.approx((0.1 * top, top, 0.01 * top))
        assert max(values) == values[9]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: cosine(sgd(), 10, warmup_steps=10), "warmup_steps=10 must be fewer than the 10 steps of training"),
        (lambda: cosine(sgd(), 0), "num_steps=0 must be"),
        (lambda: one_cycle(sgd(), 10, rising=1.0), "a cycle needs 0 < rising < 1"),
        (lambda: Scheduling(cosine).of(sgd(), math.inf), "planned over all of training: set trainer.max_epochs"),
    ],
)
def test_what_cannot_be_planned_is_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def logged(run: Path) -> list[float]:
    return [float(row["train/lr"]) for row in csv.DictReader((run / "metrics.csv").open()) if row["train/lr"]]


PLANNED = {
    "by epochs": (["trainer.max_epochs=2"], 12),
    "by steps, which end within an epoch": (["trainer.max_epochs=-1", "trainer.max_steps=9"], 9),
    "by whichever is shorter": (["trainer.max_epochs=9", "trainer.max_steps=9"], 9),
    "by steps of the optimizer, of two batches each": (["trainer.max_epochs=2", "trainer.accumulate_grad_batches=2"], 6),
}


@pytest.mark.parametrize("case", PLANNED)
def test_the_learning_rate_is_planned_over_all_of_training_and_logged(case: str, tmp_path: Path) -> None:
    words, num_steps = PLANNED[case]
    run = train_small(tmp_path / "run", *UNEVALUATED, "scheduler=warmup_cosine", "scheduler.warmup_steps=3", *words)
    wanted = rates(cosine(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1e-3), num_steps, warmup_steps=3), num_steps)
    assert sorted(set(logged(run))) == pytest.approx(sorted(set(wanted)), rel=1e-6)


@pytest.mark.parametrize(("interval", "rate"), [("step", [1e-3] * 4 + [1e-4] * 4 + [1e-5] * 4), ("epoch", [1e-3] * 12)])
def test_another_scheduler_says_what_its_numbers_count(interval: str, rate: list[float], tmp_path: Path) -> None:
    steps = f"+scheduler={{_target_: torch.optim.lr_scheduler.StepLR, _partial_: true, step_size: 4, interval: {interval}}}"
    assert logged(train_small(tmp_path / "run", *UNEVALUATED, steps)) == pytest.approx(rate)


def test_what_does_not_say_it_is_refused(tmp_path: Path) -> None:
    silent = "+scheduler={_target_: torch.optim.lr_scheduler.StepLR, _partial_: true, step_size: 4}"
    with pytest.raises(ValueError, match=r"scheduler.interval=None must say what the numbers of .*StepLR count: step or epoch"):
        build(composed([*SMALL, silent], tmp_path))


@pytest.mark.parametrize("choice", ["adam", "adam_norm_grad", "adamax", "adamw", "radam", "rmsprop", "sgd"])
@pytest.mark.parametrize("scheduler", ["cosine", "warmup_cosine", "onecycle", "plateau", "none"])
def test_every_optimizer_takes_its_options_and_every_scheduler(choice: str, scheduler: str, tmp_path: Path) -> None:
    lit = build(composed([*SMALL, f"optimizer={choice}", f"scheduler={scheduler}"], tmp_path))
    check_steps(lit)
    optimizer = lit.optimizer([{"params": list(lit.parameters())}])
    assert type(optimizer).__name__.lower() == choice.replace("_", "")
    states = [optimizer.state_dict()] + ([] if lit.scheduling is None else [lit.scheduling.of(optimizer, 1000).state_dict()])
    torch.save(states, tmp_path / "states")
    assert torch.load(tmp_path / "states", weights_only=True) == states  # plain types alone can be read from a checkpoint


PLATEAU = ["scheduler=plateau", "scheduler.patience=0", "scheduler.threshold=1e9", "scheduler.factor=0.5", "trainer.max_epochs=4"]


def test_a_plateau_is_stepped_after_each_validation_and_goes_on_exactly(tmp_path: Path) -> None:
    """Nothing is so much better: from the second validation on, each of the two in an epoch halves the learning rate."""
    words = [*SMALL, *UNEVALUATED, *PLATEAU, "+trainer.val_check_interval=3"]
    straight = train_small(tmp_path / "straight", *words[len(SMALL) :])
    assert logged(straight) == pytest.approx([1e-3 * 0.5 ** max(0, step // 3 - 1) for step in range(24)])
    run = tmp_path / "run"
    for epochs in (1, 2, 4):  # a metric is not in a checkpoint, so that Lightning leaves out a step each time
        training.train(composed([*words, f"trainer.max_epochs={epochs}", "existing=resume"], run))
    assert logged(run) == logged(straight)


def test_a_metric_that_is_not_logged_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"scheduler.monitor=val/mse is not logged: there are train/"):
        train_small(tmp_path / "run", *UNEVALUATED, "scheduler=plateau", "scheduler.monitor=val/mse")


def test_one_cycle_goes_on_exactly(tmp_path: Path) -> None:
    words = [*SMALL, *UNEVALUATED, "scheduler=onecycle", "trainer.max_epochs=3"]
    straight = train_small(tmp_path / "straight", *words[len(SMALL) :])
    run = tmp_path / "run"
    stop = "+callbacks.stop={_target_: spoil_callback.StopAfter, epoch: 2}"
    training.train(composed([*words, stop], run))
    (run / "results.json").unlink()
    training.train(composed([*words, "existing=resume"], run))
    assert logged(run) == logged(straight)
