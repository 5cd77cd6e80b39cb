"""Updates that are skipped: the rule on sequences of norms, and what a skipped step leaves as it was."""

from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import QUICK, same, train_small

from vaelab.training.callbacks import SkipUpdates

RUN = [*QUICK, "evaluation.enabled=false", "trainer.max_epochs=1", "callbacks=[default,skip_updates]"]


def test_the_rule_by_brute_force():
    """Each norm against the quantile of the finite norms before it that are in the window, skipped ones among them."""
    rng = np.random.default_rng(0)
    norms = [float(norm) for norm in rng.lognormal(0, 1, 300)]
    for step in (20, 100, 101, 250):
        norms[step] = (inf, nan)[step % 2]
    rule, finite = SkipUpdates(quantile=0.8, factor=1.5, window=50, warmup=10), list[float]()
    for step, norm in enumerate(norms):
        expected = not np.isfinite(norm) or (len(finite) >= 10 and norm > 1.5 * np.quantile(finite[-50:], 0.8))
        assert rule.skips(norm) == expected, step
        finite += [norm] if np.isfinite(norm) else []
    assert 10 < rule.num_skipped < 100


def test_it_cannot_lock_for_ever():
    """Norms that become a thousand times larger, and stay so: about 1 - quantile of the window are skipped, and then no more."""
    rule = SkipUpdates(quantile=0.9, factor=2.0, window=100, warmup=10)
    assert not any(rule.skips(1.0) for _ in range(200))
    skipped = [rule.skips(1000.0) for _ in range(500)]
    assert skipped == [True] * sum(skipped) + [False] * (500 - sum(skipped))
    assert sum(skipped) == 11  # one more than a tenth of the window, for numpy interpolates between the two sizes


def test_equal_norms_are_never_too_large():
    rule = SkipUpdates(factor=1.0, warmup=2)
    assert not any(rule.skips(3.0) for _ in range(50))


def test_the_state_is_all_that_counts():
    norms = np.random.default_rng(1).lognormal(0, 1, 200).tolist()
    one, other = (SkipUpdates(quantile=0.5, factor=1.5, window=20, warmup=5) for _ in range(2))
    for norm in norms[:100]:
        one.skips(norm)
    other.load_state_dict(one.state_dict())
    assert [one.skips(norm) for norm in norms[100:]] == [other.skips(norm) for norm in norms[100:]]
    assert one.state_dict() == other.state_dict()


def last(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def test_skipped_steps_leave_weights_and_optimizer_as_they_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A limit that nothing stays below after two steps: the weights are those of two steps, and so are Adam's averages and counts."""
    strict = ["callbacks.skip_updates.warmup=2", "callbacks.skip_updates.factor=1e-9"]
    skipping, short = train_small(tmp_path / "skipping", *RUN, *strict), train_small(tmp_path / "short", *RUN, "trainer.max_steps=2")
    assert last(skipping)["global_step"] == 6
    for part in ("state_dict", "optimizer_states"):
        assert same(last(skipping)[part], last(short)[part]), part
    told = capsys.readouterr().out
    assert "warning: 1 of the last 3 updates were skipped" in told
    assert told.count("updates were skipped, because") == 1
    assert "4 of 6 updates were skipped for their gradients" in told
    rows = (skipping / "metrics.csv").read_text().splitlines()
    columns = rows[0].split(",")
    assert {"train/gradient_norm", "train/skipped_updates"} <= set(columns)
    counts = [row.split(",")[columns.index("train/skipped_updates")] for row in rows[1:]]
    assert [float(count) for count in counts if count] == [1, 4]  # at steps 3 and 6


def test_a_batch_that_is_not_finite_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Without the callback it ends training; a step that is logged meets it, too."""
    poison = "+callbacks.poison={_target_: nan_callback.NanBatchAt, step: 2}"
    run = train_small(tmp_path / "run", *RUN, poison)
    assert last(run)["callbacks"]["SkipUpdates"]["num_skipped"] == 1
    assert all(value.isfinite().all() for value in last(run)["state_dict"].values())
    assert "1 of 6 updates were skipped" in capsys.readouterr().out
    with pytest.raises(ValueError, match="the loss is not finite"):
        train_small(tmp_path / "stops", *RUN, "~callbacks.skip_updates", poison)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantile": 1.0}, r"quantile=1.0 must be in \(0, 1\)"),
        ({"factor": 0}, "factor=0 must be positive"),
        ({"window": 10, "warmup": 11}, "warmup=11 must not be larger than window=10"),
        ({"alarm": 0.0}, r"alarm=0.0 must be in \(0, 1\]"),
    ],
)
def test_impossible_rules_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SkipUpdates(**options)
