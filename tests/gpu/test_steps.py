"""A step on a GPU computes what it does on the CPU, and never waits."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from combinations import CASES, Case, case_of
from same_noise import SameNoise
from torch import Tensor

from vaelab.evidence import importance_weighted

# Against float64, float32 on a CPU is off by up to 1.3e-5 of the largest number of a case (the loss with a flow as the prior and the MMD;
# the next is 1.5e-6) and of the largest gradient (1.1e-5, of sylvester; the next is 1.2e-6). Two devices, which add up in orders of their
# own and have an exp and a log of their own, may differ by twice as much; the rest is for a GPU's functions, which are right to two units
# in the last place, and not to one.
SHARE = 1e-4


def on(case: Case, device: torch.device) -> Case:
    return Case(*(part.to(device) for part in case))


@contextmanager
def errors_if_waiting(device: torch.device) -> Iterator[None]:
    """Inside, what makes the CPU wait for a GPU is an error."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def step(case: Case) -> dict[str, Tensor]:
    """The terms of a loss, whose gradient it leaves in the parameters."""
    terms = case.objective(case.objective.draw(case.model, case.x, case.y), 3)
    terms["loss"].backward()
    return {name: value.detach() for name, value in terms.items()}


def gradients(case: Case) -> dict[str, Tensor]:
    """Of all that has one, and the buffers that the step changed."""
    found = dict[str, Tensor]()
    for name, part in (("model", case.model), ("objective", case.objective)):
        found |= {f"{name}.{key}": value.grad for key, value in part.named_parameters() if value.grad is not None}
        found |= {f"{name}.{key}": value for key, value in part.named_buffers() if value.is_floating_point()}
    return found


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Assert that all numbers are equal but for a share of the largest of them."""
    assert found.keys() == wanted.keys()
    largest = max(float(value.abs().nan_to_num(0.0, 0.0, 0.0).max()) for value in wanted.values())
    for name, value in wanted.items():
        torch.testing.assert_close(
            found[name].cpu(), value, rtol=SHARE, atol=SHARE * largest, equal_nan=True, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_are_those_of_the_cpu(name: str, device: torch.device) -> None:
    results = []
    for where in (torch.device("cpu"), device):
        case = on(case_of(name), where)
        torch.manual_seed(1)
        with SameNoise():
            results.append((step(case), gradients(case)))
    (terms, slopes), (found_terms, found_slopes) = results
    assert {value.device.type for value in found_terms.values()} == {device.type}
    assert_close(found_terms, terms)
    assert_close(found_slopes, slopes)


@pytest.mark.parametrize("name", CASES)
def test_a_step_does_not_wait(name: str, device: torch.device) -> None:
    """The second one: the first one copies constants, and loads libraries."""
    case = on(case_of(name), device)
    optimizer = torch.optim.Adam([{"params": list(case.model.parameters())}, *case.objective.parameter_groups()], fused=True)
    for waits in (False, True):
        if waits:
            with errors_if_waiting(device):
                optimizer.zero_grad()
                step(case)
                optimizer.step()
        else:
            step(case)
            optimizer.step()
    assert all(bool(weight.isfinite().all()) for weight in case.model.parameters())


@pytest.mark.parametrize("name", ["gaussian-standard_normal-bernoulli-elbo", "conv", "sigma=learned", "ladder_vae"])
def test_log_likelihood_is_that_of_the_cpu(name: str, device: torch.device) -> None:
    """In chunks of one size; 1,000 weights are added up in double precision, so that log p(x) has the rounding of one of them."""
    found = []
    for where in (torch.device("cpu"), device):
        case = on(case_of(name), where)
        torch.manual_seed(1)
        with SameNoise():
            evidence = importance_weighted(case.model, case.x, num_samples=1000, chunk_size=200)
        found.append({"log p(x)": evidence.log_likelihood.cpu(), "samples": evidence.effective_sample_size.cpu()})
    for name, value in found[0].items():
        assert_close({name: found[1][name]}, {name: value})


def test_memory_of_log_likelihood_does_not_grow_with_samples(device: torch.device) -> None:
    case, peaks = on(case_of("gaussian-standard_normal-bernoulli-elbo"), device), []
    for num_samples in (1000, 1000, 20_000):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        importance_weighted(case.model, case.x, num_samples=num_samples, chunk_size=500)
        peaks.append(torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0)
    assert peaks[2] == peaks[1]
