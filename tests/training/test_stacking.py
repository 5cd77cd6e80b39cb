"""Stacks of models: each member's numbers are those that it has alone."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from stacks import K1, STACKS, batch, models
from torch import Generator, Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from vaelab import rng
from vaelab.training.stacking.differences import Numbers, check_alike
from vaelab.training.stacking.graph import traced
from vaelab.training.stacking.noise import GiveNoise, NotStackableError, RecordNoise
from vaelab.training.stacking.stack import Stack
from vaelab.training.stacking.updates import Updates, clip

CASES = [pytest.param(words, id=f"{dial}: {name}") for dial, found in STACKS.items() for name, words in found.items()]


def state_after(seed: int) -> Tensor:
    return Generator().manual_seed(seed).get_state()


@pytest.mark.parametrize("words", CASES)
def test_twenty_steps_of_each_member_are_those_that_it_takes_alone(words: list[str]) -> None:
    """Weights, buffers, terms and generators, to the rounding of 64 bits."""
    trained = models(words)
    alone, num = [copy.deepcopy(each) for each in trained], len(trained)
    rates = [1e-3, 4e-3]
    stack = Stack(trained)
    optimizers: list[Optimizer] = [Adam(each.parameters(), lr=rate) for each, rate in zip(trained, rates, strict=True)]
    updates, generators = Updates(stack, optimizers), [Generator().manual_seed(10 + i) for i in range(num)]
    others = [Adam(each.parameters(), lr=rate) for each, rate in zip(alone, rates, strict=True)]
    states = [state_after(10 + i) for i in range(num)]
    before = torch.get_rng_state()
    for step in range(20):
        x, y = batch(trained[0], step, num)
        terms, gradients = stack.step(x, y, [step] * num, generators)
        updates.step(gradients)
        assert torch.equal(torch.get_rng_state(), before)  # nothing is drawn from that of the process
        for i, each in enumerate(alone):
            torch.set_rng_state(states[i])
            others[i].zero_grad()
            wanted = each(x[i], y[i], step)
            wanted["loss"].backward()
            others[i].step()
            states[i] = torch.get_rng_state()
            for name, value in wanted.items():
                torch.testing.assert_close(terms[name][i].detach(), value.detach(), rtol=1e-10, atol=1e-10)
        torch.set_rng_state(before)
    for i, (each, other) in enumerate(zip(trained, alone, strict=True)):
        for mine, theirs in ((each.named_parameters(), other.named_parameters()), (each.named_buffers(), other.named_buffers())):
            for (name, a), (_, b) in zip(mine, theirs, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")
        assert torch.equal(generators[i].get_state(), states[i])
    assert not torch.equal(next(trained[0].parameters()), next(trained[1].parameters()))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["objective.beta=1"], ["objective.beta=4"]),
        (["+schedule@objective.beta=linear"], ["+schedule@objective.beta=linear", "objective.beta.steps=7"]),
        (["likelihood=gaussian", "likelihood.sigma=0.5"], ["likelihood=gaussian", "likelihood.sigma=2"]),
        (["objective=geco", "objective.target=10"], ["objective=geco", "objective.target=20"]),
        (["objective.free_bits=0.1"], ["objective.free_bits=0.2"]),
        (["objective.capacity=1"], ["objective.capacity=2"]),
        (["objective=beta_tc", "objective.beta=1"], ["objective=beta_tc", "objective.beta=10"]),
        (["objective=info_mmd", "objective.weights.mmd=1"], ["objective=info_mmd", "objective.weights.mmd=10"]),
    ],
)
def test_numbers_that_differ_are_those_of_each_member(first: list[str], second: list[str]) -> None:
    trained = [models(words, 1)[0] for words in (first, second)]
    alone = [copy.deepcopy(each) for each in trained]
    stack, steps = Stack(trained), [3, 5]
    x, y = batch(trained[0], 0, 2)
    terms, gradients = stack.step(x, y, steps, [Generator().manual_seed(i) for i in range(2)])
    for i, each in enumerate(alone):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(i)
            wanted = each(x[i], y[i], steps[i])
        wanted["loss"].backward()
        assert float(terms["loss"][i]) == pytest.approx(float(wanted["loss"].detach()), rel=1e-12)
        for name, parameter in each.named_parameters():
            torch.testing.assert_close(gradients[name][i], parameter.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["posterior=vector_quantized", "objective=vq", "prior=uniform_codes"], "changes in each step"),
        (
            [
                "posterior=gumbel",
                "prior=relaxed_categorical",
                K1,
                "+schedule@posterior.temperature=linear",
                "posterior.temperature.start=1",
            ],
            "_count changes in each step",
        ),
    ],
)
def test_what_does_not_stack_is_refused_before_anything_is_drawn(words: list[str], reason: str) -> None:
    trained = models(words)
    weights = copy.deepcopy(trained[0].state_dict())
    stack, generators = Stack(trained), [Generator().manual_seed(i) for i in range(2)]
    x, y = batch(trained[0], 0, 2)
    with pytest.raises(NotStackableError, match=reason):
        stack.step(x, y, [0, 0], generators)
    assert all(torch.equal(generator.get_state(), state_after(i)) for i, generator in enumerate(generators))
    assert all(torch.equal(value, weights[name]) for name, value in trained[0].state_dict().items())


@pytest.mark.parametrize(
    ("words", "difference"),
    [
        (["latent_dim=4"], "differ in"),
        (["objective=iwae"], "differ in kind"),
        (["objective.num_samples=2"], "num_samples"),
        (["objective.kl=k1"], "kl"),
        (["likelihood=gaussian"], "differ in kind"),
        (["prior=mixture", K1], "other parts|differ"),
    ],
)
def test_models_of_other_structure_are_no_stack(words: list[str], difference: str) -> None:
    with pytest.raises(NotStackableError, match=difference):
        check_alike(models([], 1)[0], models(words, 1)[0])


def test_a_number_and_a_schedule_are_no_stack() -> None:
    with pytest.raises(NotStackableError, match="a number in some and a schedule in others"):
        Numbers([models([], 1)[0], models(["+schedule@objective.beta=linear"], 1)[0]])


DRAWS: dict[str, Callable[[], Tensor]] = {
    "randn": lambda: torch.randn(3, 7),
    "randn of a shape": lambda: torch.randn((20,), dtype=torch.float64),
    "rand": lambda: torch.rand(4, 5),
    "randn_like": lambda: torch.randn_like(torch.zeros(17)),
    "rand_like": lambda: torch.rand_like(torch.zeros(2, 3)),
    "normal_": lambda: torch.empty(5, 6).normal_(),
    "normal_ with moments": lambda: torch.empty(30).normal_(2, 3),
    "uniform_": lambda: torch.empty(9).uniform_(-1, 2),
    "exponential_": lambda: torch.empty(9).exponential_(),
    "normal": lambda: torch.normal(torch.arange(20.0), torch.full((2, 20), 0.5)),
    "randint": lambda: torch.randint(2, 9, (11,)),
    "randint below": lambda: torch.randint(9, (11,), device="cpu"),
    "randperm": lambda: torch.randperm(13),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_noise_is_what_torch_would_draw(draw: Callable[[], Tensor]) -> None:
    """From the same state of a generator, and leaving it in the same state."""
    with rng.fork(seed=3):
        wanted, after = draw(), torch.get_rng_state()
    with rng.fork(seed=3), RecordNoise() as record:
        assert torch.equal(draw(), wanted)
    ((noise, _),) = record.drawn
    room, generator = noise.empty(2), Generator().manual_seed(3)
    noise.fill(room[1], generator)
    assert torch.equal(generator.get_state(), after)
    with GiveNoise([room[1]]):
        assert torch.equal(draw(), wanted)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.bernoulli(torch.full((3,), 0.5)),
        lambda: torch.multinomial(torch.ones(3), 2),
        lambda: torch.poisson(torch.ones(3)),
        lambda: torch.rand(3, generator=Generator()),
        lambda: torch.normal(0.0, torch.ones(3)),
    ],
)
def test_draws_that_depend_on_the_model_do_not_stack(draw: Callable[[], Tensor]) -> None:
    with pytest.raises(NotStackableError), RecordNoise():
        draw()


def test_more_draws_than_in_the_first_step_do_not_stack() -> None:
    with pytest.raises(NotStackableError, match="differ in what they draw"), GiveNoise([]):
        torch.randn(3)


def masked(x: Tensor) -> list[Tensor]:
    """A constant that is written to by a view of it."""
    constant = torch.ones(4, 4)
    constant.diagonal()[:] = 3
    return [x * constant, (x * 1).add_(1), x]


def linear(x: Tensor) -> list[Tensor]:
    weight, bias = torch.arange(24.0).view(2, 4, 3), torch.arange(6.0).view(2, 1, 3)
    first = torch.bmm(x.expand(2, 4, 4), weight)
    return [first + bias, bias + first, torch.bmm(x.expand(2, 4, 4), weight) + 1, first.mT.mT]


@pytest.mark.parametrize("function", [masked, linear])
def test_a_traced_function_is_the_function(function: Callable[[Tensor], list[Tensor]]) -> None:
    x = torch.randn(4, 4)
    graph = traced(function, [x])
    for _ in range(2):  # nothing that it holds has been written to
        for found, wanted in zip(graph(x), function(x), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


class Linear(nn.Module):
    """Something with two parameters."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(5, 3, generator=generator, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(5, generator=generator, dtype=torch.float64))


def sgd(lr: float, **options: Any) -> Callable[[Any], Optimizer]:
    return lambda parameters: SGD(parameters, lr=lr, **options)


def adam(lr: float, **options: Any) -> Callable[[Any], Optimizer]:
    return lambda parameters: Adam(parameters, lr=lr, **options)


@pytest.mark.parametrize(
    "made",
    [
        [adam(0.1), adam(0.1), adam(0.1)],
        [adam(0.1), adam(0.2), adam(0.3)],
        [adam(0.1, weight_decay=0.1), adam(0.2, weight_decay=0.1), adam(0.2, weight_decay=0.1)],
        [adam(0.1, betas=(0.5, 0.9)), adam(0.2), adam(0.2, eps=1e-3)],
        [lambda parameters: AdamW(parameters, lr=0.1), lambda parameters: AdamW(parameters, lr=0.2), lambda parameters: AdamW(parameters)],
        [sgd(0.1, momentum=0.9), sgd(0.2, momentum=0.9), sgd(0.3)],
        [adam(0.1, amsgrad=True), adam(0.2, amsgrad=True), adam(0.3, amsgrad=True)],
    ],
    ids=["adam", "rates", "decay", "options", "adamw", "sgd", "amsgrad"],
)
def test_updates_are_those_of_each_optimizer(made: list[Callable[[Any], Optimizer]]) -> None:
    """Also of models of which one does not take each step, and one has taken steps before."""
    alone = [Linear(i) for i in range(3)]
    optimizers = [make(each.parameters()) for make, each in zip(made, alone, strict=True)]
    for parameter in alone[2].parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers[2].step()
    together = copy.deepcopy(alone)
    stack = Stack(together)  # type: ignore[arg-type]
    others = [make(each.parameters()) for make, each in zip(made, together, strict=True)]
    for other, optimizer in zip(others, optimizers, strict=True):
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    updates = Updates(stack, others)
    for step in range(4):
        frozen = {0} if step == 2 else set()
        generator = Generator().manual_seed(step)
        gradients = {name: torch.randn(value.shape, generator=generator, dtype=value.dtype) for name, value in stack.weights.items()}
        updates.step(gradients, frozen)
        for i, (each, optimizer) in enumerate(zip(alone, optimizers, strict=True)):
            for name, parameter in each.named_parameters():
                parameter.grad = gradients[name][i].clone()
            if i not in frozen:
                optimizer.step()
    updates.write_counts()
    for each, other, mine, theirs in zip(alone, together, optimizers, others, strict=True):
        for a, b in zip(each.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(dict(theirs.state[b]), dict(mine.state[a]), rtol=1e-12, atol=1e-12, check_device=False)


@pytest.mark.parametrize("by_value", [False, True])
def test_gradients_are_clipped_as_torch_does_for_each_model(by_value: bool) -> None:
    gradients = {"a": torch.randn(3, 4, 2) * torch.tensor([0.01, 1.0, 10.0]).view(3, 1, 1), "b": torch.randn(3, 5)}
    gradients["b"][0] *= 0.01
    parameters = [[nn.Parameter(torch.zeros(4, 2)), nn.Parameter(torch.zeros(5))] for _ in range(3)]
    for i, (a, b) in enumerate(parameters):
        a.grad, b.grad = gradients["a"][i].clone(), gradients["b"][i].clone()
        (nn.utils.clip_grad_value_ if by_value else nn.utils.clip_grad_norm_)([a, b], 0.5)
    clip(gradients, 0.5, by_value)
    for i, (a, b) in enumerate(parameters):
        torch.testing.assert_close(gradients["a"][i], a.grad)
        torch.testing.assert_close(gradients["b"][i], b.grad)


def test_a_change_of_a_model_is_one_of_the_stack() -> None:
    """So what loads, averages or writes the weights of a model needs to know nothing of a stack."""
    trained = models([])
    stack = Stack(trained)
    with torch.no_grad():
        for parameter in trained[1].parameters():
            parameter.fill_(2.0)
    assert all(bool((stacked[1] == 2).all()) and not bool((stacked[0] == 2).all()) for stacked in stack.weights.values())
