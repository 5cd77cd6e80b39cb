"""Runs of quantisers: the use of codes is that of the whole validation split, and a run goes on bit for bit."""

import csv
import signal
from pathlib import Path

import forked_runs
import pytest
import torch
from small_runs import QUICK, SMALL, same

from vaelab.build import open_run
from vaelab.runs.folder import RunFolder

# codes that follow averages: at each of two depths of the top, from k-means, with noise of their own, and batch-norm before them; below
# them, codes that see them
WORDS = [
    *SMALL,
    *QUICK,
    "evaluation.enabled=false",
    "posterior=hierarchical",
    "posterior.channels=4",
    "posterior@posterior.top=residual",
    "posterior.top.depth=2",
    "posterior.top.dropout=0.5",
    "posterior.top.quantizer.num_codes=16",
    "posterior.top.quantizer.start=k_means",
    "posterior.top.quantizer.estimator=rotation",
    "posterior.top.quantizer.batch_norm=true",
    "posterior.bottom.num_codes=20",
    "prior=transformer_codes",
    "prior.channels=8",
    "prior.num_layers=1",
    "objective=vq",
    "z_shape=[6,4,3]",
    "data.eval_batch_size=10",
    "callbacks=[default,skip_updates]",
    "callbacks.skip_updates.warmup=2",
    "callbacks.skip_updates.factor=0.5",
]


def last(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("codes") / "run"
    code, printed = forked_runs.run(folder, *WORDS)
    assert code == 0, printed
    return folder


def test_use_of_codes_is_that_of_the_whole_split(run: Path) -> None:
    """In batches of 10 of 64 examples: in the log and in the results it is what one pass by hand counts, of each map; and it is drawn."""
    opened = open_run(run, "last")
    with torch.no_grad():
        indices = torch.cat([opened.model.encode(x, y).indices for x, y in opened.datamodule.batches("val")])
    assert indices.shape == (64, 2 * 2 * 2 + 4 * 3)
    columns = {"top": [indices[:, :8:2], indices[:, 1:8:2]], "bottom": [indices[:, 8:]]}
    entropies = {
        name: [torch.distributions.Categorical(probs=torch.bincount(column.flatten()).double()).entropy() for column in found]
        for name, found in columns.items()
    }
    used = {name: sum(column.unique().numel() for column in found) for name, found in columns.items()}
    by_hand = {
        "code_usage": sum(used.values()) / 52,
        "code_usage_top": used["top"] / 32,
        "code_usage_bottom": used["bottom"] / 20,
        "code_perplexity": torch.stack([*entropies["top"], *entropies["bottom"]]).mean().exp().item(),
        "code_perplexity_top": torch.stack(entropies["top"]).mean().exp().item(),
        "code_perplexity_bottom": entropies["bottom"][0].exp().item(),
    }
    rows = [row for row in csv.DictReader((run / "metrics.csv").open()) if row.get("val/code_usage")]
    results = RunFolder(run).results()["val"]
    for name, value in by_hand.items():
        assert float(rows[-1][f"val/{name}"]) == pytest.approx(value), name
        assert results[name] == pytest.approx(value), name
    assert (run / "figures" / "code_usage.png").stat().st_size > 0


@pytest.mark.parametrize(("step", "signum", "code"), [(9, signal.SIGTERM, 143), (9, signal.SIGKILL, -9)])
def test_it_goes_on_bit_for_bit(step: int, signum: int, code: int, run: Path, tmp_path: Path) -> None:
    """Codes, counts, running means, and the window of norms of skipped updates."""
    stop = f"+callbacks.stop={{_target_: signal_callback.SignalAt, step: {step}, signum: {int(signum)}, validation: false}}"
    assert forked_runs.run(tmp_path / "run", *WORDS, stop)[0] == code
    ended, printed = forked_runs.run(tmp_path / "run", *WORDS, "existing=resume")
    assert ended == 0, printed
    resumed, straight = last(tmp_path / "run"), last(run)
    for part in ("state_dict", "optimizer_states", "generators", "global_step"):
        assert same(resumed[part], straight[part]), part
    assert resumed["callbacks"]["SkipUpdates"] == straight["callbacks"]["SkipUpdates"]
    assert straight["callbacks"]["SkipUpdates"]["num_skipped"] > 0
