"""AdamNormGrad: steps of Adam on gradients of length 1, whatever the size of the loss."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam

from vaelab.training.optimizers import AdamNormGrad


def losses(network: nn.Module, x: Tensor) -> Tensor:
    return network(x).square().sum()


def steps(optimizer_of: type[Adam], change: float | None, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Weights after five steps; change: what the loss is times, None: gradients of length 1 by hand."""
    torch.manual_seed(0)
    network = nn.Linear(4, 3, dtype=dtype)
    optimizer = optimizer_of(network.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        (losses(network, torch.randn(8, 4, dtype=dtype)) * (1.0 if change is None else change)).backward()
        if change is None:
            for weight in network.parameters():
                weight.grad /= weight.grad.norm() + 1e-7
        optimizer.step()
    return [weight.detach() for weight in network.parameters()]


def test_it_is_adam_on_gradients_of_length_1() -> None:
    torch.testing.assert_close(steps(AdamNormGrad, 1.0), steps(Adam, None), rtol=0, atol=0)


@pytest.mark.parametrize("change", [1e-3, 1e4])
def test_the_size_of_the_loss_does_not_matter(change: float) -> None:
    torch.testing.assert_close(steps(AdamNormGrad, change), steps(AdamNormGrad, 1.0), rtol=1e-4, atol=1e-6)


def test_a_closure_computes_loss_and_gradients_first() -> None:
    torch.manual_seed(0)
    network, x = nn.Linear(4, 3), torch.randn(8, 4)
    optimizer = AdamNormGrad(network.parameters(), lr=0.01)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = losses(network, x)
        loss.backward()
        return loss

    before = losses(network, x).item()
    assert optimizer.step(closure).item() == before
    assert losses(network, x).item() < before


@pytest.mark.parametrize("fused", [False, True])
def test_the_scale_of_a_float16_loss_is_taken_out_before(fused: bool) -> None:
    """Steps with a GradScaler are those without, also where fused Adam would take the scale out itself."""
    found = []
    for scale in (None, 2.0**16):
        torch.manual_seed(0)
        network, x = nn.Linear(4, 3), torch.randn(8, 4)
        optimizer = AdamNormGrad(network.parameters(), lr=0.01, eps=1e-4, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(losses(network, x)).backward()
            scaler.step(optimizer)
            scaler.update()
        found.append([weight.detach() for weight in network.parameters()])
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)
