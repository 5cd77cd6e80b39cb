"""The updates of all models of a stack by their optimizers."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.adam import adam

from vaelab.training.stacking.stack import Stack

MOMENTS = ("exp_avg", "exp_avg_sq")
OF_ADAM = ("betas", "eps", "weight_decay", "decoupled_weight_decay", "amsgrad", "maximize")


class Neighbours(NamedTuple):
    """Neighbours in a stack whose updates are one call: they differ in learning rates at most."""

    names: tuple[str, ...]  # of parameters
    rows: slice
    rates: list[float]  # learning rates
    options: dict[str, Any]


class Updates:
    """Updates of a stack, each as the optimizer of its model would make it.

    Those of Adam and AdamW are made at once: their averages are stacked as weights are, and the state of each optimizer holds slices.
    Other optimizers take their own steps, one model after another.

    Args:
        stack: of M models.
        optimizers: of each; their learning rates are looked up at each step.
    """

    def __init__(self, stack: Stack, optimizers: Sequence[Optimizer]) -> None:
        self.stack, self.optimizers = stack, optimizers
        self.parameters = [dict(each.named_parameters()) for each in stack.trained]
        self.at_once = all(type(each) in (Adam, AdamW) and not each.defaults["amsgrad"] for each in optimizers)
        self.names = [self.names_of(i) for i in range(len(optimizers))]  # of the parameters of each group of each optimizer
        self.moments = dict[str, list[Tensor]]()
        self.counts = [0] * len(optimizers)
        self.scratch = dict[str, Tensor]()
        self._known: Any = None
        self._blocks = list[Neighbours]()
        if self.at_once:
            self.stack_moments()

    def names_of(self, model: int) -> list[tuple[str, ...]]:
        """Names of the parameters of each group of an optimizer."""
        of_parameter = {id(parameter): name for name, parameter in self.parameters[model].items()}
        return [tuple(of_parameter[id(each)] for each in group["params"]) for group in self.optimizers[model].param_groups]

    def stack_moments(self) -> None:
        """Has the state of each optimizer hold slices of stacked averages, with the values that it had."""
        states = [[optimizer.state[each[name]] for name in each] for optimizer, each in zip(self.optimizers, self.parameters, strict=True)]
        self.counts = [max((int(state["step"]) for state in found if "step" in state), default=0) for found in states]
        for name, weight in self.stack.weights.items():
            self.moments[name] = [torch.zeros_like(weight) for _ in MOMENTS]
            self.scratch[name] = torch.zeros_like(weight)
            for i, (optimizer, parameters) in enumerate(zip(self.optimizers, self.parameters, strict=True)):
                state = optimizer.state[parameters[name]]
                for key, stacked in zip(MOMENTS, self.moments[name], strict=True):
                    if key in state:
                        stacked[i] = state[key]
                    state[key] = stacked[i]
                state.setdefault("step", torch.zeros(()))
        for optimizer in self.optimizers:
            optimizer._opt_called = True  # type: ignore[attr-defined]  # else schedulers warn that they step before it

    def step(self, gradients: Mapping[str, Tensor], frozen: Collection[int] = ()) -> None:
        """Changes the weights of all models but some.

        Args:
            gradients: (M, ...) by the names of parameters.
            frozen: models that stay as they are.
        """
        if not self.at_once:
            self.step_each(gradients, frozen)
            return
        known = ([group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups], set(frozen), list(gradients))
        if known != self._known:
            self._known, self._blocks = known, self.blocks(gradients, frozen)
        for names, rows, rates, options in self._blocks:
            count, one_rate = float(self.counts[rows.start]), len(set(rates)) == 1
            weights = [self.stack.weights[name][rows] for name in names]
            # Adam's step is the learning rate times what does not depend on it, which is taken first where the rates differ
            target = weights if one_rate else [self.scratch[name][rows].zero_() for name in names]
            adam(
                target,
                [gradients[name][rows] for name in names],
                [self.moments[name][0][rows] for name in names],
                [self.moments[name][1][rows] for name in names],
                [],
                [torch.tensor(count, device=weights[0].device) for _ in names],
                fused=True,
                lr=rates[0] if one_rate else 1.0,
                **options,
            )
            if not one_rate:
                rate = torch.tensor(rates, dtype=weights[0].dtype, device=weights[0].device)
                for weight, change in zip(weights, target, strict=True):
                    weight.addcmul_(change, rate.view(-1, *[1] * (weight.ndim - 1)))
        for i in range(len(self.optimizers)):
            self.counts[i] += i not in frozen

    def blocks(self, gradients: Mapping[str, Tensor], frozen: Collection[int]) -> list[Neighbours]:
        """Neighbours that can be updated in one call."""
        found = list[Neighbours]()
        for group in range(len(self.names[0])):
            names = tuple(name for name in self.names[0][group] if name in gradients)
            last: tuple[Any, ...] | None = None
            for i, optimizer in enumerate(self.optimizers):
                if i in frozen or not names:
                    last = None
                    continue
                options = optimizer.param_groups[group]
                key = (*(options[each] for each in OF_ADAM), self.counts[i], options["weight_decay"] and options["lr"])
                if last == key:
                    rows = slice(found[-1].rows.start, i + 1)
                    found[-1] = found[-1]._replace(rows=rows, rates=[*found[-1].rates, float(options["lr"])])
                else:
                    plain = {each: options[each] for each in OF_ADAM if each != "betas"}
                    plain |= {"beta1": options["betas"][0], "beta2": options["betas"][1]}
                    found.append(Neighbours(names, slice(i, i + 1), [float(options["lr"])], plain))
                last = key
        return found

    def step_each(self, gradients: Mapping[str, Tensor], frozen: Collection[int]) -> None:
        for i, (optimizer, parameters) in enumerate(zip(self.optimizers, self.parameters, strict=True)):
            if i in frozen:
                continue
            for name, gradient in gradients.items():
                parameters[name].grad = gradient[i]
            optimizer.step()
            optimizer.zero_grad()

    def write_counts(self) -> None:
        """Tells the optimizers how many updates there were."""
        if self.at_once:
            for optimizer, count in zip(self.optimizers, self.counts, strict=True):
                for state in optimizer.state.values():
                    state["step"].fill_(float(count))


def clip(gradients: Mapping[str, Tensor], limit: float, by_value: bool = False) -> None:
    """Limits the gradients of each model in place, as `torch.nn.utils.clip_grad_norm_` and `clip_grad_value_` do.

    Args:
        gradients: (M, ...) by name.
        limit: of the norm of each model's whole gradient, or of each value.
        by_value: whether it is that of values.
    """
    if by_value:
        for gradient in gradients.values():
            gradient.clamp_(-limit, limit)
        return
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients.values()]).norm(dim=0)
    factor = (limit / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients.values():
        gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))
