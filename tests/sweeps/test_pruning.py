"""The callback that ends what a search has given up."""

from pathlib import Path

import forked_runs
import optuna
import pytest
from small_runs import QUICK, SMALL

from vaelab.sweeps.search import storage


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_of_two_processes_decides_whether_both_are_pruned(rank: int, tmp_path: Path) -> None:
    """As other trials go on meanwhile, the two might be told different things."""
    journal, run = str(tmp_path / "study.journal"), tmp_path / "run"
    study = optuna.create_study(study_name="pruned", storage=storage(journal), direction="maximize")
    number = study.ask({"seed": optuna.distributions.IntDistribution(0, 1)}).number
    pruner = f"{{_target_: rank_pruner.GivenUpByRank, rank: {rank}}}"
    where = f"monitor: val/elbo, storage: '{journal}', study: pruned, number: {number}, pruner: {pruner}"
    words = ["trainer=ddp_cpu", f"+callbacks.pruning={{_target_: vaelab.sweeps.pruning.Pruning, {where}}}"]
    codes, printed = forked_runs.run_ranks(run, 2, *SMALL, *QUICK, *words)
    (trial,) = study.trials
    assert list(trial.intermediate_values) == [3, 6][: 1 + rank], printed
    assert codes == ([1, 1] if rank == 0 else [0, 0])
    assert (run / "pruned.txt").is_file() == ("pruned" in trial.user_attrs) == (rank == 0)
    assert (run / "results.json").is_file() == (rank == 1)
