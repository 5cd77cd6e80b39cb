"""What is known of a run by comparing it with those that differ from it in the seed alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vaelab.build import Run, build_model
from vaelab.metrics import disentanglement
from vaelab.metrics.data import Data
from vaelab.models import Model
from vaelab.runs.summary.runs import find_runs, read_run
from vaelab.training.checkpoints import find_checkpoint, model_weights, read_checkpoint


def udr(
    model: Model,
    data: Data,
    run: Run,
    others: str | Sequence[str] | None = None,
    num_examples: int = 1000,
    similarity: str = "lasso",
    threshold: float = 0.01,
) -> dict[str, Any]:
    """How much the codes of a run are those of others with other seeds (Duan et al., 2020, https://arxiv.org/abs/1905.12614).

    `vaelab.metrics.disentanglement.udr` of it, and udr_seeds: those of the others, in the order of udr_with_each.

    Args:
        model: of the run.
        data: of the run, whose test examples all models encode.
        run: the run.
        others: folders or globs at or below which other seeds are looked for; None: the folder that the run is in, which is its sweep.
        num_examples: how many at most; 1,000 as in the authors' code.
        similarity: "lasso" or "spearman".
        threshold: in nats; codes of which the rate is lower do not count.

    Raises:
        ValueError: if there is no other seed, or as `vaelab.metrics.disentanglement.udr`.
    """
    folders = [others] if isinstance(others, str) else list(others or [str(run.folder.absolute().parent)])
    siblings = other_seeds(run.folder, folders)
    if not siblings:
        raise ValueError(
            "UDR compares runs that differ in their seeds alone, and no finished run in"
            f" {', '.join(folders)} is this one with another seed: train some (-m seed=range(5)), or say where they are"
            " (metrics.udr.others=<folders>)"
        )
    models = [with_weights_of(folder, run) for folder in siblings.values()]
    return disentanglement.udr(model, data, models, num_examples, similarity, threshold) | {"udr_seeds": list(siblings)}


def other_seeds(run: Path, folders: Sequence[str]) -> dict[int, Path]:
    """The finished runs, by seed, whose configs differ from that of a run in what changes no number and in the seed.

    Raises:
        ValueError: if the run is not finished, or there is no such folder.
    """
    own, found = read_run(run, run.name), {}
    for folder in find_runs(folders).values():
        try:
            other = read_run(folder, folder.name)
        except ValueError:
            continue  # not finished
        same = {**other.tree, "evaluation": None} == {**own.tree, "evaluation": None}
        if same and other.seed is not None and other.seed != own.seed:
            found[other.seed] = folder
    return dict(sorted(found.items()))


def with_weights_of(other: Path, run: Run) -> Model:
    """The model of a run with the weights of another of the same config, at the same checkpoint, best or last."""
    model = build_model(run.config)
    model.load_state_dict(model_weights(read_checkpoint(find_checkpoint(other, run.checkpoint.stem))["state_dict"]))
    return model.to(run.model.device).eval()
