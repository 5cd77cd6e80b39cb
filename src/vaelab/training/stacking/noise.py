"""Random numbers that a step draws, made known beforehand, so that each model of a stack has its own."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode


class NotStackableError(Exception):
    """Ends the stacking of models that can only be trained one by one; its text is the reason, as a clause."""


class Noise(NamedTuple):
    """A tensor of random numbers that depend on no other tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    fill: Callable[[Tensor, Generator | None], Any]  # draws in place, as torch would without a stack

    def empty(self, num: int) -> Tensor:
        """Room for the numbers of so many models."""
        return torch.empty(num, *self.shape, dtype=self.dtype, device=self.device)


class RecordNoise(TorchFunctionMode):
    """Inside, all that is drawn is written down.

    Raises:
        NotStackableError: if something is drawn that depends on what was computed before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[tuple[Noise, Tensor]] = []

    def __torch_function__(self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        found = drawn_by(function, args, kwargs or {})
        if found is None:
            return function(*args, **(kwargs or {}))
        noise, finish = found
        value = torch.empty(noise.shape, dtype=noise.dtype, device=noise.device)
        noise.fill(value, None)
        self.drawn.append((noise, value.clone()))
        if getattr(function, "__name__", "").endswith("_"):
            return args[0].copy_(value)
        return finish(value)


class GiveNoise(TorchFunctionMode):
    """Inside, what would be drawn is taken from a list, in its order.

    Raises:
        NotStackableError: if more is drawn than the list has.
    """

    def __init__(self, given: Sequence[Tensor]) -> None:
        super().__init__()
        self.given = iter(given)

    def __torch_function__(self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        found = drawn_by(function, args, kwargs or {})
        if found is None:
            return function(*args, **(kwargs or {}))
        value = next(self.given, None)
        if value is None:
            raise NotStackableError("its steps differ in what they draw")
        return found[1](value)


def drawn_by(function: Any, args: Sequence[Any], options: dict[str, Any]) -> tuple[Noise, Callable[[Tensor], Tensor]] | None:
    """The numbers that a call of torch draws, and a function from them to its result; None if it draws nothing.

    Raises:
        NotStackableError: if it draws what depends on what was computed before, or from a generator of its own.
    """
    name = getattr(function, "__name__", "")
    if name in DEPENDENT and not (name == "normal" and all(isinstance(each, Tensor) for each in args[:2])):
        raise NotStackableError(f"torch.{name} draws numbers that depend on the model")
    if function not in KINDS:
        return None
    if options.get("generator") is not None:
        raise NotStackableError(f"torch.{name} draws from a generator of its own")
    return KINDS[function](*args, **options)


def _made(fill: Callable[[Tensor, Generator | None], Any], shape: Sequence[int], dtype: torch.dtype, device: Any) -> tuple[Noise, Any]:
    return Noise(tuple(shape), dtype, torch.device(device), fill), lambda value: value


def _size(size: Sequence[Any]) -> tuple[int, ...]:
    return tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else tuple(size)


def _normal_(t: Tensor, mean: float = 0.0, std: float = 1.0, generator: None = None) -> tuple[Noise, Any]:
    return _made(lambda out, g: out.normal_(mean, std, generator=g), t.shape, t.dtype, t.device)


def _uniform_(t: Tensor, low: float = 0.0, high: float = 1.0, generator: None = None) -> tuple[Noise, Any]:
    return _made(lambda out, g: out.uniform_(low, high, generator=g), t.shape, t.dtype, t.device)


def _exponential_(t: Tensor, rate: float = 1.0, generator: None = None) -> tuple[Noise, Any]:
    return _made(lambda out, g: out.exponential_(rate, generator=g), t.shape, t.dtype, t.device)


def _normal(mean: Tensor, std: Tensor, generator: None = None) -> tuple[Noise, Any]:
    shape, dtype = torch.broadcast_shapes(mean.shape, std.shape), torch.promote_types(mean.dtype, std.dtype)
    return _made(lambda out, g: out.normal_(generator=g), shape, dtype, mean.device)[0], lambda value: value * std + mean


def _randn(*size: Any, dtype: torch.dtype | None = None, device: Any = "cpu", **_: Any) -> tuple[Noise, Any]:
    return _made(lambda out, g: out.normal_(generator=g), _size(size), dtype or torch.get_default_dtype(), device or "cpu")


def _rand(*size: Any, dtype: torch.dtype | None = None, device: Any = "cpu", **_: Any) -> tuple[Noise, Any]:
    return _made(lambda out, g: out.uniform_(generator=g), _size(size), dtype or torch.get_default_dtype(), device or "cpu")


def _randn_like(t: Tensor, dtype: torch.dtype | None = None, **_: Any) -> tuple[Noise, Any]:
    return _made(lambda out, g: out.normal_(generator=g), t.shape, dtype or t.dtype, t.device)


def _rand_like(t: Tensor, dtype: torch.dtype | None = None, **_: Any) -> tuple[Noise, Any]:
    return _made(lambda out, g: out.uniform_(generator=g), t.shape, dtype or t.dtype, t.device)


def _randint(*numbers: Any, device: Any = "cpu", dtype: torch.dtype = torch.int64, **_: Any) -> tuple[Noise, Any]:
    *limits, size = numbers
    low, high = limits if len(limits) == 2 else (0, limits[0])
    return _made(lambda out, g: out.random_(low, high, generator=g), size, dtype, device or "cpu")


def _randperm(n: int, device: Any = "cpu", dtype: torch.dtype = torch.int64, **_: Any) -> tuple[Noise, Any]:
    return _made(lambda out, g: out.copy_(torch.randperm(n, generator=g, device=out.device)), (n,), dtype, device or "cpu")


KINDS: dict[Any, Callable[..., tuple[Noise, Any]]] = {
    torch.Tensor.normal_: _normal_,
    torch.Tensor.uniform_: _uniform_,
    torch.Tensor.exponential_: _exponential_,
    torch.normal: _normal,
    torch.randn: _randn,
    torch.rand: _rand,
    torch.randn_like: _randn_like,
    torch.rand_like: _rand_like,
    torch.randint: _randint,
    torch.randperm: _randperm,
}
# what draws by the values of a tensor, so that nothing could be drawn before the step
DEPENDENT = {"normal", "bernoulli", "bernoulli_", "multinomial", "poisson", "binomial", "_standard_gamma", "_sample_dirichlet", "dropout"}
