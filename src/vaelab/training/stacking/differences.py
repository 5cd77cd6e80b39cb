"""Differences between models that might be one stack: numbers may differ, and all else must be alike."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vaelab.objectives import Objective
from vaelab.schedules import Schedule
from vaelab.training.stacking.noise import NotStackableError

OF_TORCH = frozenset(vars(nn.Module()))  # attributes of every module
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Slot(NamedTuple):
    """A place in a module for a number: an attribute, or an entry of one that is a mapping."""

    part: str  # its name within the whole
    attribute: str
    key: str | None = None

    def __str__(self) -> str:
        return ".".join(filter(None, (self.part, self.attribute, self.key)))

    def get(self, whole: nn.Module) -> Any:
        """The value there."""
        value = getattr(whole.get_submodule(self.part), self.attribute)
        return value if self.key is None else value[self.key]

    def put(self, whole: nn.Module, value: Any) -> None:
        """Another value there, which is no parameter or buffer."""
        part = whole.get_submodule(self.part)
        if self.key is not None:
            value = {**vars(part)[self.attribute], self.key: value}
        vars(part)[self.attribute] = value


def slots(whole: nn.Module) -> Iterator[Slot]:
    """The places of all numbers and schedules of a module, without those that shapes depend on: num_..., and those of torch's layers."""
    for name, part in whole.named_modules():
        for attribute, value in vars(part).items() if not type(part).__module__.startswith("torch.") else ():
            if attribute.startswith(("_", "num_")) or attribute == "training":
                continue
            if isinstance(value, dict):
                yield from (Slot(name, attribute, key) for key, each in value.items() if varies(part, each))
            elif varies(part, value):
                yield Slot(name, attribute)


def varies(part: nn.Module, value: Any) -> bool:
    """True if a value of a part may be another one in each model of a stack."""
    return is_number(value) or (isinstance(part, Objective) and is_schedule(value))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_schedule(value: Any) -> bool:
    return callable(value) and not isinstance(value, type | nn.Module)


def check_alike(first: nn.Module, other: nn.Module) -> None:
    """Two models of one stack have the same parts, and differ in numbers alone.

    Raises:
        NotStackableError: if they do not, with the first difference, or if hooks change what they compute.
    """
    for name, part in first.named_modules():
        if any(vars(part)[hooks] for hooks in HOOKS):
            raise NotStackableError(f"{name or 'the model'} has hooks")
    for name, parameter in first.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            raise NotStackableError(f"{name} has hooks")
    found = first_difference(first, other)
    if found is not None:
        raise NotStackableError(f"they differ in {found}")


def first_difference(first: nn.Module, other: nn.Module, in_numbers: bool = False) -> str | None:
    """The first thing in which two models differ, weights and buffers aside; None if there is none.

    Args:
        first: a model.
        other: another one.
        in_numbers: whether numbers and schedules that may be others in each model of a stack count, too.
    """
    names, others = dict(first.named_modules()), dict(other.named_modules())
    if names.keys() != others.keys():
        return "parts"
    free = set[tuple[str, str]]() if in_numbers else {(slot.part, slot.attribute) for slot in slots(first)}
    free &= {(slot.part, slot.attribute) for slot in slots(other)}
    places = {id(part): name for parts in (names, others) for name, part in parts.items()}
    for name, part in names.items():
        a, b = vars(part), vars(others[name])
        if type(part) is not type(others[name]) or a.keys() != b.keys():
            return f"kind ({name or type(part).__name__})"
        for attribute in a:
            counts = attribute not in OF_TORCH and (name, attribute) not in free
            if counts and not alike(a[attribute], b[attribute], places):
                return f"{name}.{attribute}".lstrip(".")
    for kind in ("named_parameters", "named_buffers"):
        mine, theirs = ({key: (t.shape, t.dtype, t.requires_grad) for key, t in getattr(whole, kind)()} for whole in (first, other))
        if mine != theirs:
            return "shapes"
    return None


def alike(a: Any, b: Any, places: Mapping[int, str]) -> bool:
    """True if two values mean the same to a model.

    Args:
        a: a value of a model.
        b: one of another model.
        places: names of the parts of both, by id: the same place is the same part.
    """
    if a is b:
        return True
    if type(a) is not type(b):
        return is_number(a) and is_number(b) and a == b
    if isinstance(a, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key], places) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(alike(u, v, places) for u, v in zip(a, b, strict=True))
    if isinstance(a, partial):
        return alike((a.func, a.args, a.keywords), (b.func, b.args, b.keywords), places)
    if isinstance(a, nn.Module):
        return places[id(a)] == places.get(id(b)) if id(a) in places else first_difference(a, b, in_numbers=True) is None
    return alike(vars(a), vars(b), places) if is_object(a) else bool(a == b)


def is_object(value: Any) -> bool:
    """True if a value is an instance of a class of Python's, such as a schedule."""
    return hasattr(value, "__dict__") and not isinstance(value, type) and not hasattr(value, "__code__")


class Numbers:
    """The numbers of the models of a stack that differ, or that change while training, at each step.

    Args:
        wholes: the models, each with its objective.
    """

    def __init__(self, wholes: Sequence[nn.Module]) -> None:
        self.slots, self.values = list[Slot](), list[list[float | Schedule]]()
        for slot in slots(wholes[0]):
            values = [slot.get(whole) for whole in wholes]
            scheduled = [not is_number(value) for value in values]
            if any(scheduled) or any(value != values[0] for value in values):
                if any(scheduled) != all(scheduled):
                    raise NotStackableError(f"{slot} is a number in some and a schedule in others")
                self.slots.append(slot)
                self.values.append(values)

    def at(self, steps: Sequence[int]) -> list[list[float]]:
        """Each number of each model, at the step that each is at."""
        return [
            [value(step) if callable(value) else float(value) for value, step in zip(values, steps, strict=True)] for values in self.values
        ]

    @property
    def are_constant(self) -> bool:
        return not any(callable(values[0]) for values in self.values)

    def put(self, whole: nn.Module, given: Sequence[Tensor]) -> list[Any]:
        """Sets tensors in place of the numbers of a model; returns what was there."""
        before = [slot.get(whole) for slot in self.slots]
        for slot, value, old in zip(self.slots, given, before, strict=True):
            slot.put(whole, known_schedule(value) if callable(old) else value)
        return before

    def put_back(self, whole: nn.Module, before: Sequence[Any]) -> None:
        for slot, value in zip(self.slots, before, strict=True):
            slot.put(whole, value)


def known_schedule(value: Tensor) -> Callable[[Any], Tensor]:
    """A schedule whose value at this step is known."""
    return lambda step: value


class Besides:
    """The attributes of a model besides its weights, to see whether a callback changes them between two steps.

    Args:
        whole: the model.
    """

    def __init__(self, whole: nn.Module) -> None:
        self.values = [(vars(whole.get_submodule(part)), attribute) for part, attribute in {slot[:2]: None for slot in slots(whole)}]
        self.buffers = [(part._buffers, name) for part in whole.modules() for name in part._buffers]
        self.parameters = list(whole.parameters())

    def now(self) -> list[Any]:
        """Something that is alike only if nothing has changed; buffers are known by what is written to them."""
        buffers = [(id(buffers[name]), getattr(buffers[name], "_version", 0)) for buffers, name in self.buffers]
        values = [dict(value) if isinstance(value := values[name], dict) else value for values, name in self.values]
        return [values, buffers, [parameter.requires_grad for parameter in self.parameters]]
