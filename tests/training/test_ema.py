"""Averaged weights: their recursion, who sees them, and that they go on bit for bit."""

import signal
from pathlib import Path

import forked_runs
import pytest
import torch
from small_runs import QUICK, SMALL, best_score, composed, same, train_small

from vaelab import load
from vaelab.commands import train as training
from vaelab.runs.folder import RunFolder
from vaelab.training.callbacks import EMA
from vaelab.training.checkpoints import model_weights

AVERAGED = ["callbacks=[default,ema]", "callbacks.ema.decay=0.8", "likelihood=gaussian", "likelihood.sigma=optimal"]
UNEVALUATED = [*QUICK, "evaluation.enabled=false"]


def last(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recorded = "+callbacks.weights={_target_: weights_callback.Weights, path: ${paths.run_dir}/weights.pt}"
    folder = tmp_path_factory.mktemp("averaged") / "run"
    code, printed = forked_runs.run(folder, *SMALL, *UNEVALUATED, *AVERAGED, recorded)
    assert code == 0, printed
    return folder


def test_the_average_is_its_recursion_and_training_does_not_see_it(run: Path, tmp_path: Path) -> None:
    """d_n = min(decay, (1 + n) / (10 + n)) at the n-th step after the first; buffers, such as a running sigma, are averaged, too."""
    steps = torch.load(run / "weights.pt")
    average = {name: value.clone() for name, value in steps[0].items()}
    for n, weights in enumerate(steps[1:], start=1):
        decay = min(0.8, (1 + n) / (10 + n))
        average = {name: decay * average[name] + (1 - decay) * value for name, value in weights.items()}
    checkpoint = last(run)
    torch.testing.assert_close(model_weights(checkpoint["state_dict"]), average)
    assert same(model_weights(checkpoint["current_model_state"]), steps[-1])
    plain = train_small(tmp_path / "plain", *UNEVALUATED, *AVERAGED[2:])
    assert same(last(plain)["state_dict"], checkpoint["current_model_state"])


def test_averaged_weights_are_validated_chosen_evaluated_and_loaded(run: Path) -> None:
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert same(dict(load(run).state_dict()), model_weights(best["state_dict"]))
    assert RunFolder(run).results()["val"]["bound"] == pytest.approx(best_score(run), rel=1e-7)


def stop(step: int, signum: int, validation: bool) -> str:
    options = f"step: {step}, signum: {int(signum)}, validation: {str(validation).lower()}"
    return f"+callbacks.stop={{_target_: signal_callback.SignalAt, {options}}}"


@pytest.mark.parametrize(
    ("stopped", "code"), [(stop(9, signal.SIGTERM, False), 143), (stop(6, signal.SIGTERM, True), 143), (stop(9, signal.SIGKILL, False), -9)]
)
def test_it_goes_on_bit_for_bit(stopped: str, code: int, run: Path, tmp_path: Path) -> None:
    """Also from within a validation, when averages stand where weights do."""
    words = [*SMALL, *UNEVALUATED, *AVERAGED]
    assert forked_runs.run(tmp_path / "run", *words, stopped)[0] == code
    ended, printed = forked_runs.run(tmp_path / "run", *words, "existing=resume")
    assert ended == 0, printed
    resumed, straight = last(tmp_path / "run"), last(run)
    for part in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "generators", "global_step"):
        assert same(resumed[part], straight[part]), part


def test_averages_alone_are_not_trained_further(run: Path) -> None:
    with pytest.raises(ValueError, match=r"this run averages its weights, .*: keep callbacks.ema"):
        training.train(composed([*SMALL, *UNEVALUATED, *AVERAGED[2:], "trainer.max_epochs=3", "existing=resume"], run))


def test_whole_numbers_are_copied_and_the_decay_is_one() -> None:
    assert EMA()._mean(torch.tensor(3), torch.tensor(7), 5).item() == 7
    with pytest.raises(ValueError, match=r"decay=1.0 must be at least 0 and less than 1"):
        EMA(1.0)
