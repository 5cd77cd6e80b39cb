"""Metrics that compare a run with those that differ from it in the seed alone."""

from collections.abc import Sequence
from typing import Any

from vaelab.build import OpenedRun, trained_model
from vaelab.metrics import disentanglement
from vaelab.metrics.data import Data
from vaelab.models import Model
from vaelab.runs.files import read_checkpoint
from vaelab.runs.find import other_seeds
from vaelab.runs.folder import RunFolder


def udr(
    model: Model,
    data: Data,
    run: OpenedRun,
    others: str | Sequence[str] | None = None,
    num_examples: int = 1000,
    similarity: str = "lasso",
    threshold: float = 0.01,
) -> dict[str, Any]:
    """The share of the codes of a run that others with other seeds have, too (Duan et al., 2020, https://arxiv.org/abs/1905.12614).

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
    own = run.folder
    folders = [others] if isinstance(others, str) else list(others or [str(own.path.absolute().parent)])
    siblings = other_seeds(own, folders)
    if not siblings:
        raise ValueError(
            "UDR compares runs that differ in their seeds alone, and no finished run in"
            f" {', '.join(folders)} is this one with another seed: train some (-m seed=range(5)), or say where they are"
            " (metrics.udr.others=<folders>)"
        )
    models = [with_weights_of(sibling, run) for sibling in siblings.values()]
    return disentanglement.udr(model, data, models, num_examples, similarity, threshold) | {"udr_seeds": list(siblings)}


def with_weights_of(other: RunFolder, run: OpenedRun) -> Model:
    """The model of a run with the weights of another of the same config, at the same checkpoint, best or last."""
    weights = read_checkpoint(other.checkpoint(run.checkpoint.stem))["state_dict"]
    return trained_model(run.config, weights, run.datamodule).to(run.model.device)
