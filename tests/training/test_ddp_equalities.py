"""Two processes, with half of each batch each, train every objective to the weights of one process with the whole batch.

So do they if each has its share of the weights alone.
"""

import os
from inspect import isabstract
from typing import Any

import pytest
import torch
from forked_scripts import ROOT, Script
from two_process_training import CASES, COUPLED, UNSHARDABLE, Step, train

from vaelab import objectives
from vaelab.likelihoods import Gaussian
from vaelab.networks import MLP, ConvEncoder
from vaelab.objectives import FactorTC, Objective
from vaelab.training.fsdp import unshardable
from vaelab.training.lit import local_to_each_process

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "support")])}
every_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes train all cases to."""
    folder = tmp_path_factory.mktemp("halves")
    script = ROOT / "tests" / "support" / "two_process_training.py"
    started = [Script(script, str(folder), str(rank), "2", env=ENVIRONMENT) for rank in (0, 1)]
    ended = [process.wait() for process in started]
    assert [done.returncode for done in ended] == [0, 0], "\n".join(done.stderr for done in ended)[-3000:]
    return [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)]


def apart(a: dict[str, Any], b: dict[str, Any]) -> float:
    """The largest difference between their weights."""
    assert a["weights"].keys() == b["weights"].keys()
    return max((a["weights"][key].double() - b["weights"][key].double()).abs().max().item() for key in a["weights"])


@every_case
def test_two_processes_train_to_the_weights_of_one(name: str, ranks: list[dict[str, Any]], double: None) -> None:
    """Parameters of model and objective, and buffers: running means, multipliers, codebooks."""
    one = train(name, 0, 1)
    assert one["moved"] > 1e-4
    assert apart(one, ranks[0]["together"][name]) < 1e-10
    assert apart(one, ranks[1]["together"][name]) < 1e-10


@pytest.mark.parametrize("name", [name for name in CASES if name not in UNSHARDABLE])
def test_two_processes_that_share_out_the_weights_train_to_those_of_one(name: str, ranks: list[dict[str, Any]], double: None) -> None:
    one = train(name, 0, 1)
    assert apart(one, ranks[0]["shared_out"][name]) < 1e-10
    assert apart(one, ranks[1]["shared_out"][name]) < 1e-10


def test_the_others_are_refused() -> None:
    """What freezes or writes weights within a step, and weights that cannot be divided."""
    assert {name for name, (build, build_model) in CASES.items() if unshardable(Step(build_model(), build()))} == UNSHARDABLE
    assert unshardable(Gaussian(MLP, (2,), (3,), sigma="learned")) == ["log_sigma, which is a single number"]


@every_case
def test_the_mean_over_processes_of_each_term_is_that_of_all_examples(name: str, ranks: list[dict[str, Any]], double: None) -> None:
    """So it is what the reduction of the log has to give."""
    one = train(name, 0, 1)
    pairs = zip(one["terms"], *(rank["together"][name]["terms"] for rank in ranks), strict=True)
    for whole, first, second in pairs:
        assert {key: (first[key] + second[key]) / 2 for key in whole} == pytest.approx(whole, rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("name", sorted(name for name in COUPLED if not name.startswith("vq")))
def test_processes_that_looked_at_their_own_batches_alone_would_not(name: str, ranks: list[dict[str, Any]], double: None) -> None:
    assert apart(train(name, 0, 1), ranks[0]["apart"][name]) > 1e-6


def test_every_objective_is_compared() -> None:
    """All but the abstract bases, of which there are no instances."""
    tested = {type(part) for build, _ in CASES.values() for part in build().modules() if isinstance(part, Objective)}
    assert tested == {objective for name in objectives.__all__ if not isabstract(objective := getattr(objectives, name))}


def test_what_stays_local_is_told() -> None:
    """The permutations of FactorVAE, and batch-norm unless it is synchronised."""
    told = {name: local_to_each_process(build()) for name, (build, _) in CASES.items()}
    assert {name for name, notes in told.items() if notes} == {"factor_tc"}
    assert told["factor_tc"] == [FactorTC.local]
    encoder = ConvEncoder((1, 16, 16), (4,), channels=[4], batch_norm=True)
    assert "trainer.sync_batchnorm=true" in local_to_each_process(encoder)[0]
    assert local_to_each_process(torch.nn.SyncBatchNorm.convert_sync_batchnorm(encoder)) == []
