"""Stacks in training: the steps of their members, and the memory that they need."""

import copy
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor

from vaelab.training.stacking.batches import Gathered
from vaelab.training.stacking.members import StackedSteps
from vaelab.training.stacking.noise import NotStackableError
from vaelab.training.stacking.stack import Stack
from vaelab.training.stacking.updates import Updates, clip


def bytes_of(steps: StackedSteps) -> int:
    """The memory that a model needs in a stack: for weights, gradients and averages, and for what a step keeps of its batch.

    Args:
        steps: of the model, which waits for its next step.

    Raises:
        NotStackableError: if it cannot take that step.
    """
    kept = dict[int, int]()

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    devices = [steps.module.device] if steps.module.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            alone = copy.deepcopy(steps.trained)
            x, y = Gathered([steps.order])([steps.next_batch()], [Generator(steps.module.device)])
            alone(x[0], y[0], steps.next_step)
    except Exception as error:  # of whatever kind: training by itself meets it, too, and says what it says
        raise NotStackableError(f"its first step fails ({type(error).__name__})") from error
    weights = sum(weight.numel() * weight.element_size() for weight in alone.parameters())
    return 5 * weights + 2 * sum(kept.values())  # of the batch: what the step keeps, and the gradients of that


def free_bytes(device: torch.device) -> float:
    """The memory that is free; infinity where the system does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s*(\d+) kB", meminfo.read_text()) if meminfo.is_file() else None
    return 1024.0 * int(found[1]) if found else float("inf")


class Together:
    """A stack in training.

    Args:
        members: that have waited for each other at their next steps.

    Raises:
        NotStackableError: if they cannot be one stack.
    """

    def __init__(self, members: Sequence[StackedSteps]) -> None:
        self.members = list(members)
        self.stack = Stack([each.trained for each in members])
        self.updates = Updates(self.stack, [each.trainer.optimizers[0] for each in members])
        self.gathered = Gathered([each.order for each in members])
        self.unused = Generator(members[0].module.device)  # in place of those of models that take no step
        self.left = set[int]()  # models that train no more
        self.terms: dict[str, Tensor] = {}  # of the last step

    def advance(self) -> None:
        """Takes the steps that are due for all members; for most of them, where their batches differ in size.

        Raises:
            NotStackableError: if they cannot take the first of them, and have not changed.
        """
        active = [i for i in range(len(self.members)) if i not in self.left]
        for member in self.members:
            member.taken = 0
        sizes = [len(self.members[i].next_batch()) for i in active]
        size = max(sizes, key=sizes.count)
        active = [i for i, each in zip(active, sizes, strict=True) if each == size]
        for number in range(min(self.members[i].due() for i in active)):
            if any(len(self.members[i].next_batch()) != size for i in active):
                break  # a step of another size may not stack, which is known before something is counted
            for i in active if number else ():
                self.members[i].between_steps()
            active = self.step(active)
            if not active:
                break
        self.tell(active)
        self.updates.write_counts()

    def tell(self, active: Collection[int]) -> None:
        """Tells members the terms of the last step, which are read from a GPU at once."""
        values = torch.stack(list(self.terms.values())).double().T.tolist() if active else []
        for i in active:
            self.members[i].terms = dict(zip(self.terms, values[i], strict=True))

    def step(self, active: Sequence[int]) -> list[int]:
        """One step of some members; returns those whose loss was finite, which alone are changed by it."""
        idle = set(range(len(self.members))) - set(active)
        source = [each if i not in idle else self.members[active[0]] for i, each in enumerate(self.members)]
        generators = [self.unused if i in idle else each.generator for i, each in enumerate(self.members)]
        x, y = self.gathered([each.next_batch() for each in source], generators)
        terms, gradients = self.stack.step(x, y, [each.next_step for each in source], generators, idle)
        for i in active:
            self.members[i].taken += 1
        self.terms = terms
        if not bool(terms["loss"].isfinite().all()):
            lost = {i for i in active if not bool(terms["loss"][i].isfinite())}
            self.tell(lost)
            for i in lost:
                self.members[i].is_lost = True
            self.left |= lost
            idle |= lost
        trainer = self.members[0].trainer
        if trainer.gradient_clip_val:
            clip(gradients, trainer.gradient_clip_val, str(trainer.gradient_clip_algorithm or "norm").endswith("value"))
        self.updates.step(gradients, idle)
        return [i for i in active if i not in idle]

    def leave(self, member: StackedSteps) -> None:
        """Leaves a model as it is from here on."""
        self.left.add(self.members.index(member))
