"""Stacks of models with parts of somebody's own: each member's numbers are those that it has alone, or the stack is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from stacks import batch, models
from torch import Generator, Tensor, nn

from vaelab.training.stacking.differences import Besides, alike
from vaelab.training.stacking.noise import NotStackableError
from vaelab.training.stacking.stack import Stack, Trained

COUNTED: list[int] = []  # outside of any model
FACTORS = {"2.0": 3.0}  # by a number as it is written, which that of a stack is not


def counted(own: Any) -> int:
    own.seen.append(1)
    return len(own.seen)


def counted_outside(own: Any) -> int:
    COUNTED.append(1)
    return len(COUNTED)


def added(own: Any) -> Tensor:
    own.total = own.total + 1
    return own.total


LOSSES: dict[str, tuple[Callable[[Any, Tensor, int], Any], str]] = {
    "a product with the step": (lambda own, loss, step: loss + loss * step, "gives another|looks at the step"),
    "torch's product with the step": (lambda own, loss, step: loss + torch.mul(loss, step), "gives another"),
    "a tensor of the step": (lambda own, loss, step: loss * (1 + torch.tensor(step)), "gives another"),
    "a power of the step": (lambda own, loss, step: loss * (2 - 0.99**step), "gives another|looks at the step"),
    "the first step": (lambda own, loss, step: loss if step == 0 else 2 * loss, "looks at the step"),
    "another step": (lambda own, loss, step: loss if step != 7 else 2 * loss, "looks at the step"),
    "some steps": (lambda own, loss, step: loss * (2 if step in (100, 200) else 1), "looks at the step"),
    "a table of steps": (lambda own, loss, step: loss * {100: 2}.get(step, 1), "looks at the step"),
    "every third step": (lambda own, loss, step: loss * (1 + divmod(step, 3)[0]), "looks at the step"),
    "a list that grows": (lambda own, loss, step: loss * (2 if counted(own) > 3 else 1), "objective.seen changes in each step"),
    "a tensor that is no buffer": (lambda own, loss, step: loss * (1 + (added(own) > 3)), "objective.total changes in each step"),
    "a count outside": (lambda own, loss, step: loss * counted_outside(own), "gives another"),
    "NumPy": (lambda own, loss, step: loss * (np.random.rand() > 1e-9), "NumPy's generator"),  # noqa: NPY002
    "item": (lambda own, loss, step: loss * (1 if loss.item() > 0 else 2), "vmap does not take their step"),
}


def own_models(loss: Callable[[Any, Tensor, int], Any]) -> list[Trained]:
    """Models whose objective changes its loss."""
    found = models([])
    base: Any = type(found[0].objective)

    def forward(self: Any, draw: Any, step: int) -> Any:
        terms = base.forward(self, draw, step)
        return {**terms, "loss": loss(self, terms["loss"], step)}

    own = type("Own", (base,), {"forward": forward})
    for each in found:
        each.objective.__class__ = own
        vars(each.objective).update(seen=[], total=torch.zeros(()))
    return found


def first_step(trained: list[Trained]) -> dict[str, Tensor]:
    """The terms of the first step of a stack."""
    x, y = batch(trained[0], 0, len(trained))
    return Stack(trained).step(x, y, [0] * len(trained), [Generator().manual_seed(i) for i in range(len(trained))])[0]


@pytest.mark.parametrize(("loss", "reason"), LOSSES.values(), ids=LOSSES)
def test_what_depends_on_more_than_the_batch_is_refused(loss: Callable[[Any, Tensor, int], Any], reason: str) -> None:
    with pytest.raises(NotStackableError, match=reason):
        first_step(own_models(loss))


def test_an_attribute_that_the_first_model_does_not_share_is_noticed() -> None:
    """Whatever it is called: the step of the stack has that of the first one."""
    trained = own_models(lambda own, loss, step: loss * own._scale)
    for i, each in enumerate(trained):
        vars(each.objective)["_scale"] = 1.0 + i
    with pytest.raises(NotStackableError, match=r"they differ in objective\._scale"):
        first_step(trained)


def test_each_model_is_compared_with_its_step_alone() -> None:
    """Not the first one only: here what tells them apart lies outside of them."""
    trained = own_models(lambda own, loss, step: loss)
    for i, each in enumerate(trained):
        vars(each.objective)["scale"] = 1.0 + i
    base: Any = type(trained[0].objective)
    kept = base.forward
    base.forward = lambda self, draw, step: {**(terms := kept(self, draw, step)), "loss": terms["loss"] * FACTORS.get(repr(self.scale), 1)}
    with pytest.raises(NotStackableError, match="gives another"):
        first_step(trained)


@pytest.mark.parametrize("where", ["module", "parameter"])
def test_hooks_are_refused(where: str) -> None:
    """A hook may be another one in each model, and torch calls those of parameters in a backward pass alone."""
    trained = models([])
    for each in trained:
        if where == "module":
            each.objective.register_forward_hook(lambda module, given, terms: {**terms, "loss": 2 * terms["loss"]})
        else:
            next(each.parameters()).register_hook(lambda gradient: 0 * gradient)
    with pytest.raises(NotStackableError, match="has hooks"):
        first_step(trained)


@pytest.mark.parametrize(
    "change",
    [
        lambda each: setattr(each.objective, "beta", 3.0),
        lambda each: next(each.parameters()).requires_grad_(False),
        lambda each: each.objective.level.fill_(1.0),
        lambda each: each.objective.register_buffer("level", torch.ones(())),
    ],
    ids=["number", "frozen", "buffer", "another buffer"],
)
def test_a_change_between_steps_is_seen(change: Callable[[Trained], object]) -> None:
    (trained,) = models([], 1)
    trained.objective.register_buffer("level", torch.zeros(()))
    besides = Besides(trained)
    before = besides.now()
    with torch.no_grad():
        nn.init.zeros_(next(trained.parameters()))
    assert alike(before, besides.now(), {})  # weights are those of the stack
    change(trained)
    assert not alike(before, besides.now(), {})
