"""Values of a config, held against the annotations of the classes and functions that are built with them."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from vaelab.runs.configs import value_at

HYDRAS = ("_args_", "_convert_", "_partial_", "_recursive_", "_target_")  # keys that Hydra reads itself
WORDS = {NoneType: "null", bool: "true or false", float: "a number", int: "a whole number", str: "text"}


def check_argument(key: str, value: Any, config: Mapping[str, Any]) -> bool:
    """Check an argument of what a config builds by its annotation; return whether it has one.

    Args:
        key: such as optimizer.lr.
        value: of it, of plain types.
        config: with the `_target_` beside the key, of plain types.

    Raises:
        ValueError: if what is built does not take the argument, or not that value.
    """
    place, _, name = key.rpartition(".")
    target = value_at(config, f"{place}._target_") if place else None
    if target is None or "${" in str(value):
        return False
    if name == "_target_":
        found = located(value)
        is_absent = isinstance(value, str) and found is None  # which is said when the part is built
        if not is_absent and not callable(found):
            raise ValueError(f"{key}={shown(value)} must be the path of a class or function, such as torch.nn.ReLU")
    part = located(target)
    if name in HYDRAS or not callable(part):
        return False
    hints = hints_of(part)
    if hints and name not in hints:
        if place == "data" or key in ("scheduler.interval", "scheduler.monitor"):  # which others read
            return False
        raise ValueError(f"nothing uses {key}: {advice(name, hints, f'{place}.')}")
    hint = hints.get(name, inspect.Parameter.empty)
    if key == "scheduler.num_steps" and value is None:
        return True  # null: they are counted
    if not fits(value, hint):
        raise ValueError(f"{key}={shown(value)} must be {' or '.join(dict.fromkeys(kinds(hint)))}")
    return hint is not inspect.Parameter.empty


def advice(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The name that is like one that is not known, or all that there are."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else f"there are {', '.join(names)}" if names else "there are none"


def shown(value: Any) -> str:
    """A value as it is typed."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def located(target: Any) -> Any:
    """The object at a path; None if there is none."""
    from hydra.utils import get_object

    try:
        return get_object(target)
    except Exception:  # whatever an import raises; it is said when the part is built
        return None


def hints_of(part: Any) -> dict[str, Any]:
    """The arguments of a class or function with their annotations; {} if it takes any."""
    try:
        parameters = inspect.signature(part).parameters.values()
    except (TypeError, ValueError):  # of what is written in C
        return {}
    if any(parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) for parameter in parameters):
        return {}
    return {parameter.name: parameter.annotation for parameter in parameters}


def fits(value: Any, hint: Any) -> bool:
    """True if a value of a config can be an argument of that annotation; a part is a mapping with a `_target_`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in inner)
    if origin is Annotated:
        return fits(value, inner[0])
    if origin is Literal:
        return value in inner
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in WORDS or hint is None:
        return isinstance(value, hint or NoneType)
    if origin is tuple and Ellipsis not in inner:
        return isinstance(value, list) and len(value) == len(inner) and all(map(fits, value, inner))
    if origin in (list, tuple, Sequence):
        return isinstance(value, list) and all(fits(each, inner[0]) for each in value)
    if origin is Callable or (isinstance(hint, type) and hint not in (Any, object, Path, list, tuple, inspect.Parameter.empty)):
        return isinstance(value, dict) and ("_target_" in value or hint in (dict, Mapping))
    return True


def kinds(hint: Any) -> Iterator[str]:
    """Words for the values that fit an annotation."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        for each in inner:
            yield from kinds(float if each is int and float in inner else each)
    elif origin is Literal:
        yield from map(shown, inner)
    elif origin in (list, tuple, Sequence):
        count = f" of {len(inner)}" if origin is tuple and Ellipsis not in inner else ""
        yield f"a list{count}, each {' or '.join(dict.fromkeys(kinds(inner[0])))}"
    else:
        yield WORDS.get(hint, "a part with a _target_")
