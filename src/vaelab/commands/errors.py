"""Errors that a user can mend, whoever raises them, as one sentence with the key, the value and what to do."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, ParamSpec, TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vaelab.commands.arguments import advice, hints_of, located
from vaelab.commands.overrides import where_written
from vaelab.runs.configs import flatten, value_at

# what Hydra says of a word of the command line, and what we say
SENTENCES = {
    r"Could not append to config\. An item is already at '([^']+)'\. Either remove \+ prefix: '([^']+)'.*": (
        r"\1 is there already: write \2, without +"
    ),
    r"Could not add '([^']+)'\. '([^']+)' is already in the defaults list.*": r"\2 is there already: write \1, without +",
    r"Multiple values for ([\w@./]+)\..*": r"\1 is a dial that is set already: write \1=<choice>, without +",
    r"Ambiguous value for argument '([^=']+)=(.*?)' 1\..*": r"\1=\2 has a comma: a list is \1=[\2], and -m tries one value after the other",
    r"Could not override '([^']+)'\. No match in the defaults list\. To append to your default list use (\S+)": (
        r"\1 is not set: write \2 to add it"
    ),
    r"Could not delete from config\. '([^']+)' does not exist\.": r"~\1 removes what is not there: look at --cfg job",
}

FIXED = ("", "evaluation", "paths")  # places in which nothing uses a key that conf/ does not have
PACKAGE = Path(__file__).parent.parent
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}

P = ParamSpec("P")
T = TypeVar("T")


class UserError(ValueError, CompactHydraException):
    """A ValueError that Hydra prints as its message alone."""


def report_errors(function: Callable[P, T]) -> Callable[P, T]:
    """A function whose errors the command line shows in a sentence if a user can mend them, unless HYDRA_FULL_ERROR=1 asks for all."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            message = in_words(error, args[0] if args else None)
            if message is None or not HydraConfig.initialized() or wants_all():
                raise
        raise UserError(message)

    return wrapper


def wants_all() -> bool:
    """True if tracebacks are asked for."""
    return os.environ.get("HYDRA_FULL_ERROR") == "1"


def end_in_words(function: Callable[[], T]) -> T:
    """Call a function; if it raises an error that a user can mend, end the process with a sentence.

    Raises:
        SystemExit: then.
    """
    try:
        return function()
    except Exception as error:
        message = None if wants_all() else in_words(error)
        if message is None:
            raise
        end(message)


def end(message: str) -> NoReturn:
    """End the process with a message.

    Raises:
        SystemExit: always.
    """
    print(message, file=sys.stderr)
    raise SystemExit(1)


def in_words(error: Exception, config: Any = None) -> str | None:
    """The sentence in an error of this package, of Hydra, of OmegaConf or of Lightning about a config, or of a disk; None for others.

    Args:
        error: that was raised.
        config: that was built, in which wrong arguments have their keys.
    """
    text = plain(str(error))
    key = str(error).partition("full_key: ")[2].split("\n")[0].strip() or refers(config, text)
    if isinstance(error, InstantiationException):
        return of_building(error, text, key, config)
    if isinstance(error, UserError) or is_ours(error):
        return with_key(error, key, config)
    if isinstance(error, OmegaConfBaseException):
        return f"{key}: {text}" if key and key not in text else text
    if isinstance(error, CompactHydraException):
        return of_composing(error, text)
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return f"cannot use {error.filename or 'all files'}: {error.strerror}; what was written before is kept"
    return of_monitor(error, config) or (str(error) if type(error).__name__ == "MisconfigurationException" else of_worker(error))


def of_monitor(error: Exception, config: Any) -> str | None:
    """The sentence about a metric that a callback or a scheduler waits for and that nothing logs; None for other errors of Lightning."""
    told = re.search(r"\(monitor='(.+?)'\)` could not find.*?: (.*)\. HINT|on metric `?(.+?)`? which is not available(.*)", str(error))
    if told is None or not isinstance(config, DictConfig):
        return None
    name, others = told[1] or told[3], told[2] or told[4]
    keys = [key for key, value in flatten(OmegaConf.to_container(config)).items() if key.endswith("monitor") and value == name]
    return f"{' and '.join(keys)}={name} is no metric of this run: there are {', '.join(re.findall(r'(?:train|val)/[a-z_]+', others))}"


def of_worker(error: BaseException) -> str | None:
    """The sentence in a ValueError that code of this package has raised in a process that loads data; None for other errors."""
    _, _, told = str(error).partition("Original Traceback (most recent call last):\n")
    files, (_, is_value_error, message) = re.findall(r'^  File "(.+?)", line', told, re.M), told.rpartition("\nValueError: ")
    return message.strip() if is_value_error and files and Path(files[-1]).is_relative_to(PACKAGE) else None


def plain(text: str) -> str:
    """Lines that Hydra has written, as one, without what it tells a programmer."""
    lines = [line.strip() for line in text.splitlines()]
    return " ".join(line for line in lines if line and not re.match(r"(full_key|object_type|reference_type)[:=]|See https", line))


def of_composing(error: CompactHydraException, text: str) -> str:
    """The sentence about a word that no config can be composed with."""
    cause = error.__cause__
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read: put quotes around text that has brackets, commas or spaces in it, as in \"key='a, b'\""
    if isinstance(error, MissingConfigException) and error.options is not None:
        dial, _, choice = str(error.missing_cfg_file).rpartition("/")
        return f"{dial}={choice} is no choice: {advice(choice, sorted(name for name in error.options if name[0] != '_'), f'{dial}=')}"
    absent = re.fullmatch(r"Could not override '[^']+'\. To append to your config use \+([^=]+)=(.*)", text)
    if absent and isinstance(cause, OmegaConfBaseException):
        return of_absent(absent[1], absent[2], cause)
    for pattern, sentence in SENTENCES.items():
        found = re.fullmatch(pattern, text)
        if found:
            return found.expand(sentence)
    return f"{text}: {plain(str(cause))}" if isinstance(cause, OmegaConfBaseException) else text


def of_absent(key: str, value: str, cause: OmegaConfBaseException) -> str:
    """The sentence about a key that a config does not have."""
    place, _, name = key.rpartition(".")
    own = where_written(place)
    if own != place:
        return f"{key}={value} is set where {place} is written: {own}.{name}={value}"
    config = OmegaConf.to_container(cause.parent_node._get_root(), resolve=False) if cause.parent_node is not None else {}
    known = value_at(config, place) if place else config
    if not isinstance(known, Mapping) or not known:
        return f"nothing uses {key}={value}: {place} has no keys"
    taken = hints_of(located(known.get("_target_"))) if "_target_" in known else {}
    if name in taken:
        return f"{key} is not set: write +{key}={value} to add it"
    advised = advice(name, [str(each) for each in known if str(each)[0] != "_"] or list(taken), f"{place}." if place else "")
    takes_any = not taken and place not in FIXED and "did you mean" not in advised
    return f"nothing uses {key}={value}: {advised}" + (f"; +{key}={value} adds another" if takes_any else "")


def refers(config: Any, text: str) -> str:
    """The key whose value refers to what a message of OmegaConf says is not there; "" if there is none."""
    absent = re.fullmatch(r"Interpolation key '(.+)' not found", text)
    values = flatten(OmegaConf.to_container(config, resolve=False)) if absent and isinstance(config, DictConfig) else {}
    return next((key for key, value in values.items() if absent and f"${{{absent[1]}}}" in str(value)), "")


def of_building(error: InstantiationException, text: str, key: str, config: Any) -> str:
    """The sentence about a part that could not be built."""
    absent, cause = re.search(r"Error (?:locating target|loading) '([^']+)'", text), error.__cause__
    if absent:
        place = f"{where_written(key)}._target_={absent[1]}: " if key else ""
        return f"{place}there is no {absent[1]}: is the folder of its module on the path, as in PYTHONPATH=. vaelab ...?"
    if cause is None:
        return f"{key}: {text}" if key else text
    if is_ours(cause):
        return with_key(cause, key, config)
    unused = re.search(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'", str(cause))
    found = [place for place, node in parts_of(config) if unused and unused[2] in node]
    if unused and len(found) == 1:
        return f"nothing uses {found[0]}.{unused[2]}: {unused[1]} has no such argument"
    is_called_early = re.search(r"\(\) missing \d+ required", str(cause))
    advice = "; give the argument, or, to call the function later, write _partial_: true beside its _target_" if is_called_early else ""
    return f"{key}: {plain(str(cause))}{advice}"


def is_ours(error: BaseException) -> bool:
    """True for a ValueError that code of this package has raised."""
    calls = frames(error)
    return isinstance(error, ValueError) and bool(calls) and Path(calls[-1].f_code.co_filename).is_relative_to(PACKAGE)


def frames(error: BaseException) -> list[FrameType]:
    """The calls that an error has passed through, from the outermost on."""
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def parts_of(config: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The nodes of a config that are built, by their dotted keys; a node that others refer to has the key where it is written."""

    def below(node: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if isinstance(node, Mapping):
            if "_target_" in node:
                yield place, node
            for name, value in node.items():
                yield from below(value, f"{place}.{name}" if place else str(name))

    yield from below(OmegaConf.to_container(config, resolve=False) if isinstance(config, DictConfig) else {}, "")


def with_key(error: BaseException, key: str, config: Any = None) -> str:
    """The message of an object that could not be built; an argument of it has its name in the config.

    `num_samples=0 must be ...` becomes `objective.num_samples=0 must be ...`, and so does an argument of what another object builds.
    What an object says that has no node in the config stays as it is.

    Args:
        error: that was raised.
        key: of the node that Hydra built, if it says so.
        config: that was built.
    """
    text, name = str(error), re.match(r"(\w+)=", str(error))
    if name is None:
        return text
    parts = list(parts_of(config))
    for frame in reversed(frames(error)):
        code = frame.f_code
        if name[1] not in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
            continue
        places = [place for place, node in parts if code_of(node["_target_"]) is code]
        told = [place for place in places if place.removeprefix("model.") == key.removeprefix("model.")] or places
        if len(told) == 1:
            return f"{told[0]}.{text}"
        if frame is frames(error)[1] and key:  # the call that Hydra makes
            return f"{key}.{text}"
    return text


def code_of(target: Any) -> Any:
    """The code that is run with the arguments of a `_target_`: of a function, or of the __init__ of a class; None if there is none."""
    found = located(target)
    return getattr(getattr(found, "__init__", None) if isinstance(found, type) else found, "__code__", None)
