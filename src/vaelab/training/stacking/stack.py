"""The weights of several models in one tensor each, and the step that trains them all."""

import copy
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, grad, vmap

from vaelab import rng
from vaelab.models import Model
from vaelab.objectives import Objective
from vaelab.training.stacking.differences import Numbers, alike, check_alike, first_difference
from vaelab.training.stacking.graph import traced
from vaelab.training.stacking.noise import GiveNoise, Noise, NotStackableError, RecordNoise

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-9}  # of the gradient of a parameter, relative to its norm
LEAST = 1e-2  # of the norm of the whole gradient, which that of a parameter counts at least as


class Trained(nn.Module):
    """A model with its objective, which are trained together."""

    def __init__(self, model: Model, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, x: Tensor, y: Tensor, step: Any) -> dict[str, Tensor]:
        """The terms of a batch."""
        return self.objective(self.objective.draw(self.model, x, y), step)


class NoStep(int):
    """The step that an objective is shown in a stack, whose models may be at different ones: only schedules may look at it.

    Torch takes the value of an int without asking it. So that is a step that no model is at, whose loss differs from theirs.

    Raises:
        NotStackableError: when anything is computed of it.
    """

    def _refuse(self, *_: Any) -> Any:
        raise NotStackableError("their objective looks at the step itself, and not through a schedule")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = _refuse
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __divmod__ = __rdivmod__ = __neg__ = __pos__ = __abs__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = __hash__ = __bool__ = _refuse
    __int__ = __index__ = __float__ = __round__ = __str__ = __repr__ = __format__ = _refuse


class Shape(NamedTuple):
    """The shapes and types of the batches that a step was traced for."""

    x: torch.Size
    y: torch.Size
    dtypes: tuple[torch.dtype, torch.dtype]


class Alone(NamedTuple):
    """A step of one model alone."""

    terms: dict[str, Tensor]
    gradients: dict[str, Tensor]  # without those of parameters that the loss does not depend on
    buffers: dict[str, Tensor]  # after it


class StepPlan(NamedTuple):
    """A step for batches of one shape."""

    graph: Any
    noise: list[Noise]
    given: list[Tensor]  # room for the noise, for all models
    names: list[str]  # of the terms
    changed: list[str]  # buffers that a step changes


class Stack:
    """M models of one kind, whose weights are slices of tensors (M, ...): a change of the stack is one of each model, and the reverse.

    A step draws what each model would draw, in its order and from its own generator, and computes the terms and gradients of all models
    in one list of operations: that of `torch.func.vmap` over the objective of one of them, traced. So any model stacks whose step
    vmap can take, if what it draws is known before the step.

    Args:
        trained: the models with their objectives, on one device; they may differ in weights, and in numbers and schedules.

    Raises:
        NotStackableError: if they differ in more.
    """

    def __init__(self, trained: Sequence[nn.Module]) -> None:
        first, *others = trained
        for other in others:
            check_alike(first, other)
        self.trained, self.numbers = list(trained), Numbers(trained)
        self.template = copy.deepcopy(first)
        parameters = [dict(each.named_parameters()) for each in trained]
        buffers = [dict(each.named_buffers()) for each in trained]
        self.weights = {name: torch.stack([each[name].detach() for each in parameters]) for name in parameters[0]}
        self.learned = [name for name, weight in parameters[0].items() if weight.requires_grad]
        for name, stacked in self.weights.items():
            for mine, part in zip(parameters, stacked, strict=True):
                mine[name].data = part
        self.buffers = {name: torch.stack([each[name] for each in buffers]) for name in buffers[0]}
        self.shared = {name for name, stacked in self.buffers.items() if bool(same_in_all(stacked))}
        self.plans = dict[Shape, StepPlan]()
        self._numbers: list[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.trained)

    def step(
        self, x: Tensor, y: Tensor, steps: Sequence[int], generators: Sequence[Generator], idle: Collection[int] = ()
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The terms (M,) and the gradients (M, ...) of a batch of each model.

        Args:
            x: batches (M, B, ...).
            y: their labels (M, B, ...).
            steps: at which each model is.
            generators: of each.
            idle: models whose buffers stay as they are.

        Raises:
            NotStackableError: if the step of these models cannot be computed at once; nothing has then been drawn.
        """
        shape = Shape(x.shape, y.shape, (x.dtype, y.dtype))
        if shape not in self.plans:
            self.plans[shape] = self.planned(x, y, steps)
        plan = self.plans[shape]
        for room, noise in zip(plan.given, plan.noise, strict=True):
            for part, generator in zip(room, generators, strict=True):
                noise.fill(part, generator)
        with torch.no_grad():
            found = plan.graph(*self.inputs(plan, x, y, steps))
        num, middle = len(self.learned), len(self.learned) + len(plan.names)
        for name, value in zip(plan.changed, found[middle:], strict=True):
            self.set_buffer(name, value, idle)
        return dict(zip(plan.names, found[num:middle], strict=True)), dict(zip(self.learned, found[:num], strict=True))

    def inputs(self, plan: StepPlan, x: Tensor, y: Tensor, steps: Sequence[int]) -> list[Tensor]:
        """The tensors that the graph of a plan takes."""
        if self._numbers is None or not self.numbers.are_constant:
            like = x if x.is_floating_point() else torch.empty(0)
            self._numbers = [torch.tensor(values, dtype=like.dtype, device=x.device) for values in self.numbers.at(steps)]
        held = [value.clone() if name in plan.changed else value for name, value in self.buffers.items() if name not in self.shared]
        return [*self.weights.values(), *held, *self._numbers, *plan.given, x, y]

    def set_buffer(self, name: str, value: Tensor, idle: Collection[int]) -> None:
        """A new value (M, ...) of a buffer, in the stack and in each model that is not idle."""
        keep = torch.tensor([i in idle for i in range(len(self))], device=value.device).view(-1, *[1] * (value.ndim - 1))
        self.buffers[name] = torch.where(keep, self.buffers[name], value)
        *path, last = name.split(".")
        for each, part in zip(self.trained, self.buffers[name], strict=True):
            each.get_submodule(".".join(path))._buffers[last] = part

    def planned(self, x: Tensor, y: Tensor, steps: Sequence[int]) -> StepPlan:
        """The step for batches of this shape, compared with the step of each model alone."""
        try:
            record = RecordNoise()
            first = self.alone(0, x[0], y[0], steps[0], record)
            noise, values = [each for each, _ in record.drawn], [value for _, value in record.drawn]
            if any(each.device.type != x.device.type for each in noise):
                raise NotStackableError("it draws on another device than that of its weights")
            changed = [name for name, value in self.trained[0].named_buffers() if not equal(value, first.buffers[name])]
            self.shared -= set(changed)
            self.learned = list(first.gradients)
            plan = StepPlan(None, noise, [each.empty(len(self)) for each in noise], list(first.terms), changed)
            for room, value in zip(plan.given, values, strict=True):
                room.copy_(value.expand_as(room))
            inputs = self.inputs(plan, x, y, steps)
            plan = plan._replace(graph=traced(self.flat(plan), [each.clone() for each in inputs]))  # a step may change buffers in place
            with torch.no_grad():
                found = plan.graph(*(each.clone() for each in inputs))
            for i in range(len(self)):
                alone = self.alone(i, x[i], y[i], steps[i], GiveNoise(values)) if i else first
                self.check([value[i] for value in found], plan, alone)
        except NotStackableError:
            raise
        except Exception as error:  # whatever vmap and tracing raise at what they cannot take
            raise NotStackableError(
                f"vmap does not take their step ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
            ) from error
        return plan

    def alone(self, model: int, x: Tensor, y: Tensor, step: int, noise: RecordNoise | GiveNoise) -> Alone:
        """A step of a copy of one model.

        Raises:
            NotStackableError: if it counts something, or draws from NumPy's generator.
        """
        whole, before, generator = copy.deepcopy(self.trained[model]), copy.deepcopy(self.trained[model]), rng.snapshot()[1]
        with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []), noise:
            terms = whole(x, y, step)
        found = torch.autograd.grad(terms["loss"], [whole.get_parameter(name) for name in self.learned], allow_unused=True)
        changed = first_difference(before, whole, in_numbers=True)
        if changed is not None:
            raise NotStackableError(f"{changed} changes in each step")
        if not alike(rng.snapshot()[1], generator, {}):
            raise NotStackableError("its step draws from NumPy's generator")
        gradients = {name: value for name, value in zip(self.learned, found, strict=True) if value is not None}
        return Alone({name: value.detach() for name, value in terms.items()}, gradients, dict(whole.named_buffers()))

    def check(self, found: Sequence[Tensor], plan: StepPlan, alone: Alone) -> None:
        """A model has the terms, the gradients and the buffers in the stack that it has alone, if its loss is finite.

        Args:
            found: what the stack computes of this model.
            plan: the step.
            alone: its step alone.

        Raises:
            NotStackableError: if it has others.
        """
        num, middle = len(self.learned), len(self.learned) + len(plan.names)
        terms = dict(zip(plan.names, found[num:middle], strict=True))
        if not bool(alone.terms["loss"].isfinite()):
            return
        tolerance = TOLERANCE.get(terms["loss"].dtype, 1e-2)
        if alone.gradients.keys() != set(self.learned):
            raise NotStackableError("the losses of some depend on other weights than those of others")
        norm = sum(float(value.double().square().sum()) for value in alone.gradients.values()) ** 0.5
        for name, value in zip(self.learned, found, strict=False):
            wanted = alone.gradients[name].double()
            away = float((value.double() - wanted).norm())
            if away > tolerance * max(float(wanted.norm()), LEAST * norm, 1e-12):
                raise NotStackableError(f"a step of the stack gives another gradient of {name}")
        for name, value in terms.items():
            if not torch.allclose(value.double(), alone.terms[name].double(), rtol=tolerance, atol=tolerance, equal_nan=True):
                raise NotStackableError(f"a step of the stack gives another {name}")
        for name, value in zip(plan.changed, found[middle:], strict=True):
            if not torch.allclose(value.double(), alone.buffers[name].double(), rtol=tolerance, atol=tolerance, equal_nan=True):
                raise NotStackableError(f"{name} changes in each step")

    def flat(self, plan: StepPlan) -> Any:
        """The gradients, the terms and the buffers that change, as a function of tensors alone."""
        names = list(self.weights)
        held = [name for name in self.buffers if name not in self.shared]
        shared = {name: self.buffers[name][0] for name in self.shared}
        counts = [len(names), len(held), len(self.numbers.slots), len(plan.noise)]

        def loss(
            learned: list[Tensor], fixed: dict[str, Tensor], buffers: dict[str, Tensor], numbers: Any, noise: Any, x: Any, y: Any
        ) -> Any:
            state = dict(zip(self.learned, learned, strict=True)) | fixed | buffers | shared
            before = self.numbers.put(self.template, numbers)
            try:
                with GiveNoise(noise):
                    terms = functional_call(self.template, state, (x, y, NoStep(999_999_937)))
            finally:
                self.numbers.put_back(self.template, before)
            return terms["loss"], ([terms[name] for name in plan.names], [state[name] for name in plan.changed])

        def all_of_them(*inputs: Tensor) -> list[Tensor]:
            parts, start = [], 0
            for count in counts:
                parts.append(list(inputs[start : start + count]))
                start += count
            weights, buffers, numbers, noise = parts
            of_name = dict(zip(names, weights, strict=True))
            learned = [of_name.pop(name) for name in self.learned]
            found, (terms, changed) = vmap(grad(loss, has_aux=True))(
                learned, of_name, dict(zip(held, buffers, strict=True)), numbers, noise, *inputs[start:]
            )
            return [*(each.contiguous() for each in found), *terms, *changed]  # as the weights are, which optimizers count on

        return all_of_them


def equal(a: Tensor, b: Tensor) -> bool:
    """True if two tensors hold the same, and NaN where the other has NaN."""
    return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())


def same_in_all(stacked: Tensor) -> Tensor:
    """True if all slices are alike."""
    return ((stacked == stacked[:1]) | (stacked != stacked)).all()
