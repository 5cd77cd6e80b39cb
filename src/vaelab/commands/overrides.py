"""Words of the command line that Hydra accepts and that cannot be meant: keys that nothing uses, and values of another type."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from vaelab.checks import listed
from vaelab.commands.arguments import advice, check_argument, shown
from vaelab.commands.composing import CONF
from vaelab.runs.configs import value_at
from vaelab.runs.files import read_yaml

# keys of text, which Hydra takes for a number or a boolean where it looks like one
PLACES = ("data.cache", "data.file", "data.hidden", "data.root", "data_dir", "input", "output")
TEXT = (*PLACES, "against", "background", "checkpoint", "mask", "name", "pretrained", "resume", "run", "sweep")

LISTS = ("callbacks", "logger", "metrics")  # dials of which several may be chosen, or none


def check_words(config: Any, name: str, words: Sequence[str], choices: Mapping[str, Any]) -> None:
    """Raise if a word of the command line sets what nothing uses, or a number or boolean to something else.

    Args:
        config: that was composed, a DictConfig.
        name: of the yaml in conf/ that it was composed of.
        words: of the command line.
        choices: what each dial was set to, as Hydra notes it: {"optimizer": "adam", ...}.

    Raises:
        ValueError: if one does, with the key, the value and what to do.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(config, resolve=False)
    check_keys(plain, name)
    for override in OverridesParser.create().parse_overrides(list(words)):
        if override.is_delete() or override.is_sweep_override() or override.package is not None:
            continue
        key, value = override.key_or_group, override.value()
        if "${" in str(value):
            value = referred(config, key)
        check_target(key, value, choices)
        if name == "config" and key == "paths.run_dir":
            raise ValueError(f"paths.run_dir={value} follows hydra.run.dir: write hydra.run.dir={value}")
        if not check_argument(key, value, plain):
            check_type(key, value, default_of(key, name, choices))


def referred(config: Any, key: str) -> Any:
    """The value that one with interpolations refers to; "${}" if that cannot be said yet."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        found: Any = OmegaConf.to_container(OmegaConf.create({"value": OmegaConf.select(config, key)}, parent=config), resolve=True)
        return found["value"]
    except OmegaConfBaseException:  # which is said, with its key, when it is read
        return "${}"


def where_written(key: str) -> str:
    """The key of what a key of conf/ refers to, as model.posterior does to posterior; a key that refers to nothing else is its own."""
    names = key.split(".")
    for length in range(2, len(names) + 1):
        for path in (CONF / names[0]).glob("*.yaml"):
            group = f"{names[0]}/{path.stem}"
            for each in (group, *bases_of(group)):
                referred = re.fullmatch(r"\$\{([\w.]+)\}", str(value_at(yaml_of(each), ".".join(names[1:length]))))
                if referred:
                    return where_written(".".join([referred[1], *names[length:]]))
    return key


def check_keys(config: Mapping[str, Any], name: str) -> None:
    """Raise if a key at the top of a config, or of its evaluation or paths, is none that its yaml knows or that another one refers to.

    Raises:
        ValueError: if one is, with the nearest that there is.
    """
    text, known = json.dumps(config, default=str), {"": known_keys(name)}
    reads_runs = "script" in bases_of(name)  # whose data have keys of their own
    more = {"paths": yaml_of("paths/default"), "speed": yaml_of("speed/standard"), "evaluation": ["metrics"]}
    for part in (*more, *(["data"] if reads_runs else [])):
        if isinstance(config.get(part), Mapping):
            found = {key for each in (name, *bases_of(name)) for key in value_at(yaml_of(each), part) or {}}
            known[f"{part}."] = found | set(more.get(part, ()))
    metrics = {key for path in (CONF / "metrics").glob("*.yaml") for key in yaml_of(f"metrics/{path.stem}")}
    for prefix, keys in known.items():
        node = value_at(config, prefix[:-1]) if prefix else config
        check_known(prefix, [key for key in node if f"${{{prefix}{key}" not in text], keys)
    for place in ("evaluation.metrics", "metrics"):
        nodes = value_at(config, place)
        if isinstance(nodes, Mapping) and (name != "config" or place != "metrics"):
            check_known(f"{place}.", [key for key, node in nodes.items() if "_target_" not in (node or {})], metrics)


def check_known(prefix: str, keys: Iterable[str], known: Iterable[str]) -> None:
    """Raise if a key is not known.

    Raises:
        ValueError: if one is not.
    """
    names = sorted(known)
    for key in keys:
        if key not in names:
            raise ValueError(f"nothing uses {prefix}{key}: {advice(key, names, prefix)}")


def check_type(key: str, value: Any, default: Any) -> None:
    """Raise if a value cannot stand where its default stands: a boolean, or a number.

    Raises:
        ValueError: if it cannot.
    """
    if isinstance(value, str) and "${" in value:
        return
    if key in TEXT and not isinstance(value, str | None):
        raise ValueError(must_be_text(key, shown(value)))
    if isinstance(default, str) and default != "???" and not isinstance(value, str | None):
        raise ValueError(f"{key}={shown(value)} must be text, such as {default}")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if (isinstance(default, bool) or key.endswith("._partial_")) and not isinstance(value, bool):
        raise ValueError(f"{key}={shown(value)} must be true or false")
    if isinstance(default, int | float) and not isinstance(default, bool):
        is_object = isinstance(value, dict) and "_target_" in value  # a schedule
        if not (is_number or is_object):
            raise ValueError(f"{key}={shown(value)} must be a number")


def must_be_text(key: str, value: str) -> str:
    """The sentence about a value that Hydra takes for a number, a boolean or a list."""
    return f"{key}={value} must be text: if it is a name, write {key}='{value}'"


def check_target(key: str, value: Any, choices: Mapping[str, Any]) -> None:
    """Raise if a class is set that has a yaml of its own: it would be given the options of another one, where it takes them.

    Raises:
        ValueError: if it is, with the choice that has its options.
    """
    dial, _, below = key.rpartition(".")
    choice = choices.get(dial)
    if below != "_target_" or not isinstance(choice, str) or not (CONF / dial).is_dir():
        return
    files = {path.stem: default_of(key, "config", {dial: path.stem}) for path in sorted((CONF / dial).glob("*.yaml"))}
    fitting = [name for name, target in files.items() if target == value]
    if fitting and choice not in fitting:
        raise ValueError(f"{key}={value} would be given the options of {dial}={choice}: it must be {dial}={listed(fitting)}")


def default_of(key: str, name: str, choices: Mapping[str, Any]) -> Any:
    """The value that a yaml of conf/ gives a dotted key; None if it says nothing.

    Args:
        key: such as optimizer.lr.
        name: of the yaml of the command.
        choices: as of `check_words`.
    """
    found = next((value for each in (name, *bases_of(name)) if (value := value_at(yaml_of(each), key)) is not None), None)
    for dial, choice in choices.items():
        group, _, package = dial.partition("@")
        place = package or group
        if found is None and key.startswith(f"{place}.") and isinstance(choice, str) and (CONF / group / f"{choice}.yaml").is_file():
            below = key.removeprefix(f"{place}.")
            yamls = (f"{group}/{choice}", *bases_of(f"{group}/{choice}"))
            found = next((value for each in yamls if (value := value_at(yaml_of(each), below)) is not None), None)
    other = re.fullmatch(r"\$\{([\w.]+)\}", found) if isinstance(found, str) else None
    return default_of(other[1], name, choices) if other else found


@cache
def yaml_of(name: str) -> Mapping[str, Any]:
    """A yaml of conf/, with numbers such as 1e-3, which YAML takes for text, as numbers."""
    return {key: _number(value) for key, value in content(CONF / f"{name}.yaml", "restore it").items()}


def content(path: Path, advice: str) -> Mapping[str, Any]:
    """The keys of a yaml; {} if it holds comments alone, as scheduler=none does.

    Raises:
        DamagedFile: as `read_yaml`.
    """
    is_empty = all(line.startswith("#") or not line.strip() for line in path.read_text().splitlines())
    return {} if is_empty else read_yaml(path, advice)


def _number(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _number(each) for key, each in value.items()}
    return float(value) if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value) else value


def bases_of(name: str) -> list[str]:
    """The yamls beside a yaml that it is based on."""
    group = name.rpartition("/")[0]
    entries = [entry for entry in yaml_of(name).get("defaults", []) if isinstance(entry, str)]
    paths = [entry.removeprefix("/") if entry.startswith("/") or not group else f"{group}/{entry}" for entry in entries]
    return [path for path in paths if (CONF / f"{path}.yaml").is_file()]


@cache
def known_keys(name: str) -> set[str]:
    """The keys at the top of a config: those of its yaml, of what that is based on, and its dials."""
    found = (set(yaml_of(name)) - {"defaults"}).union(*map(known_keys, bases_of(name)))
    dials = [str(dial) for entry in yaml_of(name).get("defaults", []) if isinstance(entry, dict) for dial in entry]
    return found | {name.split(".")[0] for dial in dials if not dial.startswith("override ") for name in dial.split("@")}


def has_default(dial: str, choice: str, folders: Sequence[Path]) -> bool:
    """True if a choice of a dial is `default`, or a yaml in one of the folders that is based on it, be it through others."""
    path = next((path for folder in folders if (path := folder / dial / f"{choice}.yaml").is_file()), None)
    if choice == "default" or path is None:
        return choice == "default"
    bases = [base for base in content(path, "mend it").get("defaults") or [] if isinstance(base, str)]
    names = [base.removeprefix(f"/{dial}/") for base in bases]
    return any(has_default(dial, name, folders) for name in names if name != choice)


def check_first_names(words: Sequence[str], name: str, folders: Sequence[Path]) -> None:
    """Raise if a word sets what is neither a key at the top of a config nor a dial, before Hydra advises to add it.

    Args:
        words: of the command line.
        name: of the yaml in conf/.
        folders: with more dials, as `--config-dir` names them.

    Raises:
        ValueError: if one does, with the nearest that there is.
    """
    if any(word.startswith(("--config-name", "--config-path", "-cn", "-cp")) for word in words):
        return  # another yaml has other keys
    own = {path.name for folder in folders for path in folder.glob("*/")}
    known = known_keys(name) | own | {"hydra"} | ({"schedule"} if name == "config" else set())
    found = [match for word in words if (match := re.match(r"[+]*([A-Za-z_]\w*)([^=]*)=(.*)", word))]
    check_known("", [match[1] for match in found], known)
    for dial, rest, value in (match.groups() for match in found):
        choices = {path.stem for folder in (CONF, *folders) for path in (folder / dial).glob("*.yaml") if path.stem[0] != "_"}
        no_choice = r"null|true|false|[-+.\d]+" + ("" if dial in LISTS else r"|\[.*\]")
        if choices and not rest.startswith(".") and re.fullmatch(no_choice, value):
            raise ValueError(f"{dial}={value} is no choice: choose one of {', '.join(sorted(choices))}")
        if f"{dial}{rest}" in TEXT and re.fullmatch(r"[\[{].*|[-+]?[\d.]+(e[-+]?\d+)?|true|false", value):
            raise ValueError(must_be_text(f"{dial}{rest}", value))
        if f"{dial}{rest}" in TEXT and not value:
            raise ValueError(f"{dial}{rest}= is empty: name something, or leave it out")
        if (name, dial + rest) == ("config", "name") and (".." in Path(value).parts or value.startswith("/")):
            raise ValueError(f"name={value} leaves outputs/: another place is hydra.run.dir=<folder>")
        if dial == "callbacks" and not rest and value in choices - {"none"} and not has_default(dial, value, (CONF, *folders)):
            raise ValueError(f"callbacks={value} leaves out the others, which write checkpoints: write callbacks=[default,{value}]")
