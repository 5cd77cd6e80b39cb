"""The options of Lightning's trainer: each works, or is one sentence. Each line here is a run of a second."""

import csv
from pathlib import Path

import pytest
import torch
from small_runs import QUICK, SMALL, composed, train_small
from torch.utils.data import SequentialSampler

from vaelab.commands.checking import check_trainer, check_values
from vaelab.data.batches import Batches, SameBatches
from vaelab.runs.folder import RunFolder

# six batches of training and one of validation an epoch
RUN = [*QUICK, "evaluation.enabled=false", "trainer.log_every_n_steps=1"]


def column(run: Path, name: str) -> list[float]:
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    return [float(row[name]) for row in rows if row.get(name)]


# the words, and how many steps, begun epochs and validations they make
LENGTHS = {
    "max_steps, without epochs": (["trainer.max_epochs=-1", "trainer.max_steps=8"], 8, 2, 1),
    "max_steps, within epochs": (["trainer.max_steps=8"], 8, 2, 1),
    "limit_train_batches, a number": (["trainer.limit_train_batches=2"], 4, 2, 2),
    "limit_train_batches, a share": (["trainer.limit_train_batches=0.5"], 6, 2, 2),
    "limit_val_batches, none": (["trainer.limit_val_batches=0"], 12, 2, 0),
    "overfit_batches": (["+trainer.overfit_batches=2"], 4, 2, 2),
    "accumulate_grad_batches, which do not divide": (["trainer.accumulate_grad_batches=4"], 4, 2, 2),
    "val_check_interval, a share": (["+trainer.val_check_interval=0.5"], 12, 2, 4),
    "val_check_interval, of batches": (["+trainer.val_check_interval=4"], 12, 2, 2),
    "val_check_interval, across epochs": (["+trainer.val_check_interval=8", "trainer.check_val_every_n_epoch=null"], 12, 2, 1),
    "check_val_every_n_epoch": (["trainer.check_val_every_n_epoch=2"], 12, 2, 1),
    "num_sanity_val_steps": (["trainer.num_sanity_val_steps=-1"], 12, 2, 2),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_a_run_is_as_long_as_it_is_told(case: str, tmp_path: Path) -> None:
    words, steps, epochs, validations = LENGTHS[case]
    run = train_small(tmp_path / "run", *RUN, *words)
    results = RunFolder(run).results()
    assert (results["steps"], results["epochs"]) == (steps, epochs)
    assert len(column(run, "train/loss")) == steps
    assert len(column(run, "val/bound")) == validations
    assert Path(results["checkpoint"]).name == ("best.ckpt" if validations else "last.ckpt")


def test_a_time_ends_a_run_without_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a Timer, which Lightning asks after each batch."""
    run = train_small(tmp_path / "run", *RUN, "trainer.max_epochs=-1", "+trainer.max_time={milliseconds: 1}")
    assert 1 <= RunFolder(run).results()["steps"] <= 6
    assert "a callback ended training in epoch" in capsys.readouterr().out


def test_overfitted_are_the_same_batches_in_each_epoch() -> None:
    """Lightning leaves their order alone, because it takes them for a SequentialSampler."""
    order, same = Batches(50, 8, training=True, seed=3), SameBatches(50, 8, training=True, seed=3)
    first = [batch.tolist() for batch in same]
    assert isinstance(same, SequentialSampler)
    assert first == [batch.tolist() for batch in order]
    for sampler in (order, same):
        sampler.set_epoch(1)
    assert first == [batch.tolist() for batch in same] != [batch.tolist() for batch in order]


COMPUTED = {
    "deterministic": ["trainer.deterministic=true"],
    "detect_anomaly": ["+trainer.detect_anomaly=true"],
    "benchmark": ["+trainer.benchmark=true"],
    "inference_mode": ["+trainer.inference_mode=false"],
    "gradient_clip_val, of a norm that is never reached": ["trainer.gradient_clip_val=1e9"],
    "num_sanity_val_steps": ["trainer.num_sanity_val_steps=2"],
    "enable_model_summary": ["trainer.enable_model_summary=true"],
    "profiler": ["+trainer.profiler=simple"],
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("plain") / "run", *RUN, "trainer.max_epochs=1")


@pytest.mark.parametrize("case", COMPUTED)
def test_what_looks_at_a_run_does_not_change_it(case: str, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_small(tmp_path / "run", *RUN, "trainer.max_epochs=1", *COMPUTED[case])
    torch.use_deterministic_algorithms(False)
    torch.autograd.set_detect_anomaly(False)
    assert column(run, "train/loss") == column(plain, "train/loss")
    assert column(run, "val/bound") == column(plain, "val/bound")
    if case == "profiler":
        (table,) = run.glob("*profile*.txt")
        assert "run_training_batch" in table.read_text()
        assert "run_training_batch" in capsys.readouterr().out


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_clipped_gradients_move_weights_no_further(algorithm: str, tmp_path: Path) -> None:
    """With plain SGD at lr = 1, six steps of clipped gradients are at most six clips long, in norm or in each number."""
    words = ["optimizer=sgd", "optimizer.lr=1", "optimizer.momentum=0", "trainer.gradient_clip_val=1e-3", "trainer.max_epochs=1"]
    recorded = "+callbacks.weights={_target_: weights_callback.Weights, path: ${paths.run_dir}/weights.pt}"
    run = train_small(tmp_path / "run", *RUN, *words, f"+trainer.gradient_clip_algorithm={algorithm}", recorded)
    steps = torch.load(run / "weights.pt")
    for before, after in zip(steps, steps[1:], strict=False):
        moved = torch.cat([(after[name] - before[name]).flatten() for name in before])
        moved = moved.norm() if algorithm == "norm" else moved.abs().max()
        assert 0 < float(moved) <= 1e-3 * (1 + 1e-3)


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_networks_in_half_precision_are_near_those_of_float32(precision: str, plain: Path, tmp_path: Path) -> None:
    run = train_small(tmp_path / "run", *RUN, "trainer.max_epochs=1", f"trainer.precision={precision}")
    assert column(run, "train/loss") == pytest.approx(column(plain, "train/loss"), rel=5e-3)
    assert (column(run, "train/loss") == column(plain, "train/loss")) == (precision == "32-true")


def test_a_log_of_no_step_has_the_validations(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run", *RUN[:-1], "trainer.log_every_n_steps=0")
    assert column(run, "train/loss") == []
    assert len(column(run, "val/bound")) == 2


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trainer.check_val_every_n_epoch=0", "trainer.check_val_every_n_epoch=0 must be a whole number of at least 1"),
        ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches=0 must be a whole number of at least 1"),
        ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val=-1 must be positive and finite; null: nothing is clipped"),
        ("trainer.max_epochs=null", "trainer.max_epochs=null would be 1000: write that, or -1 for a run without an end"),
        ("trainer.use_distributed_sampler=true", "would share out the data twice"),
        ("trainer.precision=64-true", "trainer.precision=64-true: data and probabilities are float32"),
        ("+trainer.logger=false", "trainer.logger is not used: write logger=none"),
        ("+trainer.callbacks=[]", "trainer.callbacks is not used: write callbacks=none"),
        ("+trainer.default_root_dir=x", "trainer.default_root_dir is not used: write hydra.run.dir=<folder>"),
        ("+trainer.limit_predict_batches=1", "trainer.limit_predict_batches is not used: nothing is predicted"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(word: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # whose message is looked at
        check_values(composed([*SMALL, word], tmp_path))
    assert message in str(refused.value)


def test_a_run_may_have_steps_or_a_time_in_place_of_epochs() -> None:
    check_trainer({"max_epochs": None, "max_steps": 5})
    check_trainer({"max_epochs": None, "max_steps": -1, "max_time": "00:01:00:00"})
