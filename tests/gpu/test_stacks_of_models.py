"""A stack of models on a GPU draws and steps as its models do alone."""

import copy

import torch
from stacks import models
from torch import Generator

from vaelab import rng
from vaelab.training.stacking.stack import Stack
from vaelab.training.stacking.updates import Updates


def test_steps_of_a_stack_are_those_of_its_models(device: torch.device) -> None:
    trained = [each.to(device) for each in models([])]
    alone = [copy.deepcopy(each) for each in trained]
    stack, generators = Stack(trained), [Generator(device).manual_seed(10 + i) for i in range(2)]
    updates = Updates(stack, [torch.optim.Adam(each.parameters(), lr=1e-3 * (1 + i), fused=True) for i, each in enumerate(trained)])
    optimizers = [torch.optim.Adam(each.parameters(), lr=1e-3 * (1 + i), fused=True) for i, each in enumerate(alone)]
    states = [Generator(device).manual_seed(10 + i).get_state() for i in range(2)]
    x, y = torch.rand(2, 6, 1, 4, 4, dtype=torch.float64, device=device).round(), torch.zeros(2, 6, dtype=torch.long, device=device)
    for step in range(3):
        terms, gradients = stack.step(x, y, [step] * 2, generators)
        updates.step(gradients)
        for i, (each, optimizer) in enumerate(zip(alone, optimizers, strict=True)):
            rng.restore_device(states[i], device)
            optimizer.zero_grad()
            wanted = each(x[i], y[i], step)
            wanted["loss"].backward()
            optimizer.step()
            states[i] = rng.of_device(device)
            torch.testing.assert_close(terms["loss"][i], wanted["loss"].detach(), rtol=1e-10, atol=1e-10)
    for each, other in zip(trained, alone, strict=True):
        for a, b in zip(each.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
