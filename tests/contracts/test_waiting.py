"""A step of training never makes a GPU wait: it asks for no value, and copies nothing between devices."""

from typing import Any

import pytest
import torch
from combinations import CASES, case_of
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from waiting import Watch

from vaelab.distributions.von_mises_fisher import quadrature

WAITS = {
    "a value": lambda x: x.sum().item(),
    "a choice": lambda x: bool((x > 0).any()),
    "a shape": lambda x: x[x > 0],
    "a constant": lambda x: x * torch.tensor(2.0),
    "a constant of a distribution": lambda x: torch.distributions.Normal(x, torch.tensor([1.0, 2.0])),
    "another device": lambda x: x.to("meta"),
    "an inverse": lambda x: torch.linalg.inv(torch.eye(2)),
    "a draw": lambda x: torch.multinomial(x.abs(), 1),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_what_makes_a_gpu_wait_is_noted(wait: Any) -> None:
    with Watch() as watch:
        wait(torch.tensor([1.0, 2.0]))
    assert len(watch.found) > 1  # the first one is the x of this test


def test_what_does_not_is_not_noted() -> None:
    x = torch.rand(5, 3)
    with Watch() as watch:
        y = (x * 2.0).where(x > 0.5, 0.0)[torch.randperm(5)].new_full((), 3.0) + torch.zeros(3)
        torch.multinomial(x, 2, replacement=True), y.double()
    assert not watch.found


DIFFERENTIATE = ("-piwae", "-dreg")  # within the loss, for which torch wants a real device


@pytest.mark.parametrize("name", CASES)
def test_a_step_does_not_make_a_gpu_wait(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss on a GPU that is made believe; its gradient on the CPU."""
    model, loss, x, y = case_of(name)
    terms, watch = loss(loss.draw(model, x, y), 0), Watch()
    with watch:
        terms["loss"].backward()
    assert not watch.found
    monkeypatch.setattr(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True)
    if name.endswith(DIFFERENTIATE):  # on a device that has shapes alone
        model, loss, x, y = model.to("meta"), loss.to("meta"), x.to("meta"), y.to("meta")
        with watch:
            loss(loss.draw(model, x, y), 1)["loss"].backward()
        assert not watch.found
        return
    quadrature.cache_clear()
    with FakeTensorMode():

        def on_gpu(tensor: Tensor) -> Tensor:
            return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")

        for module in (model, loss):
            module._apply(on_gpu)
        loss(loss.draw(model, on_gpu(x), on_gpu(y)), 0)  # constants are copied once
        with watch:
            loss(loss.draw(model, on_gpu(x), on_gpu(y)), 1)
    quadrature.cache_clear()
    assert not watch.found
