"""Linear layers as convolutions: the same numbers, the same derivatives, wherever they are asked for."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from vaelab.networks import pointwise
from vaelab.networks.pointwise import Pointwise, fastest_products, gains_from_convolutions

SHAPES = [(1024, 64), (1003, 80), (64, 512), (3, 43, 300), (2, 5, 100, 64), (1, 64), (64,), (0, 64)]


class Seen(TorchDispatchMode):
    """Which operations were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.__name__)
        return func(*args, **(kwargs or {}))


def layer(in_features: int, out_features: int = 144, bias: bool = True) -> nn.Linear:
    return nn.Linear(in_features, out_features, bias)


def near(a: Tensor, b: Tensor) -> None:
    """To the rounding of a sum of products in float32."""
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_linear_layer(shape, bias):
    """x W^T + b, for any batch shape and any number of rows, also of a weight and an x that are not contiguous."""
    linear, x = layer(shape[-1], bias=bias), torch.randn(shape)
    expected = linear(x)
    with Pointwise():
        near(linear(x), expected)
        near(functional.linear(x, linear.weight, bias=linear.bias), expected)
        near(functional.linear(x.mT.contiguous().mT if x.ndim > 1 else x, linear.weight.T.contiguous().T, linear.bias), expected)


def test_large_layers_are_convolutions_and_small_ones_are_not():
    large, small = layer(512), layer(8, 8)
    with Seen() as seen, Pointwise():
        large(torch.randn(200, 512))
    assert "convolution.default" in seen.names
    with Seen() as seen, Pointwise():
        small(torch.randn(200, 8))
        large.double()(torch.randn(200, 512).double())
    assert "convolution.default" not in seen.names


def test_derivatives_with_respect_to_everything():
    linear, x = layer(256), torch.randn(300, 256, requires_grad=True)
    wanted = (x, linear.weight, linear.bias)
    expected = torch.autograd.grad(linear(x).sin().sum(), wanted)
    with Pointwise():
        found = torch.autograd.grad(linear(x).sin().sum(), wanted)
    for a, b in zip(found, expected, strict=True):
        near(a / b.abs().max(), b / b.abs().max())


def of_rows(network: nn.Module, x: Tensor) -> Tensor:
    return network(x).sin().sum()


TRANSFORMS = {
    "grad": lambda f, x: torch.func.grad(f)(x),
    "vmap of grad": lambda f, x: torch.func.vmap(torch.func.grad(f))(x.unflatten(0, (2, -1))),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x.cos(),))[1],
    "vmap": lambda f, x: torch.func.vmap(f)(x.unflatten(0, (2, -1))),
    "forward over reverse": lambda f, x: torch.func.jvp(torch.func.grad(f), (x,), (x.cos(),))[1],
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("recorded", [True, False])
def test_transforms_of_functions(name, recorded):
    """torch.func differentiates and vectorises through it, also inside no_grad."""
    network = nn.Sequential(layer(256, 128), nn.Tanh(), layer(128, 144))
    function, x = partial(of_rows, network), torch.randn(400, 256)
    expected = TRANSFORMS[name](function, x)
    with torch.set_grad_enabled(recorded), Pointwise():
        found = TRANSFORMS[name](function, x)
    near(found / expected.abs().max(), expected / expected.abs().max())


def test_half_precision_is_left_to_autocast():
    linear, x = layer(512), torch.randn(200, 512)
    with torch.autocast("cpu", torch.bfloat16):
        expected = linear(x)
        with Pointwise():
            found = linear(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("capability", "vendor", "gains"),
    [("AVX512", "AuthenticAMD", True), ("AVX512", "GenuineIntel", False), ("AVX2", "AuthenticAMD", False), ("AVX512", None, False)],
)
def test_convolutions_are_taken_where_they_are_faster(tmp_path, monkeypatch, capability, vendor, gains):
    """They are on AMD's processors with AVX-512; a system that does not tell the vendor keeps the linear layers."""
    told = tmp_path / "cpuinfo"
    if vendor is not None:
        told.write_text(f"vendor_id\t: {vendor}\n")
    monkeypatch.setattr(pointwise, "Path", lambda _: told)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    gains_from_convolutions.cache_clear()
    linear = layer(512)
    with Seen() as seen, fastest_products():
        linear(torch.randn(200, 512))
    gains_from_convolutions.cache_clear()
    assert ("convolution.default" in seen.names) == gains
