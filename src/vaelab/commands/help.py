"""Help of the command line, in 80 columns, read from the yamls of conf/ and from their comments."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vaelab.commands.composing import CONF

WIDTH, INDENT = 80, 26


class Line(NamedTuple):
    """A line of a yaml: its dotted key, its value, and what its comment says."""

    key: str
    value: str
    comment: str
    is_dial: bool


def help_of_all(about: Mapping[str, str]) -> str:
    """Help of `vaelab`: its commands, a line each."""
    rows = [row(name, words) for name, words in about.items()]
    return "\n".join(
        [
            "vaelab <command> [...]: research with Variational Autoencoders",
            "",
            *rows,
            "",
            "`vaelab <command> --help` says what a command takes; `vaelab --version`.",
        ]
    )


def help_of_one(command: str, config: str, words: Sequence[str]) -> str:
    """Help of a command that Hydra composes: its examples, dials and values.

    Args:
        command: its name.
        config: name of its yaml.
        words: of the command line, of which `--config-dir` adds choices.
    """
    folders = [CONF, *config_dirs(words)]
    lines = list({line.key: line for line in lines_of(config)}.values())  # a yaml may replace what it is based on
    dials = [f"{row(f'{line.key}={line.value}', line.comment)}\n{row('', choices(line.key, folders))}" for line in lines if line.is_dial]
    values = [row(f"{line.key}={line.value}" if line.value else line.key, line.comment) for line in lines if not line.is_dial]
    return "\n".join(
        [
            f"vaelab {command} [dial=choice ...] [key=value ...]",
            "",
            *head_of(config),
            *(["", "Dials, with their defaults, and what they may be set to:", "", *dials] if dials else []),
            *(["", "Values:", "", *values] if values else []),
            "",
            *textwrap.wrap(
                f"`vaelab {command} --cfg job` shows all keys and values that a command line leads to; `--config-dir my_conf` adds yamls"
                " of your own.",
                WIDTH,
            ),
        ]
    )


def config_dirs(words: Sequence[str]) -> list[Path]:
    """The folders that `--config-dir` names."""
    after = [following for word, following in zip(words, words[1:], strict=False) if word in ("--config-dir", "-cd")]
    return [Path(name) for name in [*after, *(word.partition("=")[2] for word in words if word.startswith("--config-dir="))]]


def row(left: str, right: str) -> str:
    """Two columns; the right one is wrapped."""
    wrapped = textwrap.wrap(right, WIDTH - INDENT, break_on_hyphens=False) or [""]
    first = [f"  {left:{INDENT - 2}}{wrapped[0]}"] if len(left) < INDENT - 2 else [f"  {left}", " " * INDENT + wrapped[0]]
    return "\n".join(line.rstrip() for line in [*first, *(" " * INDENT + line for line in wrapped[1:])])


def head_of(config: str) -> list[str]:
    """The comment that a yaml begins with."""
    lines = (CONF / f"{config}.yaml").read_text().splitlines()
    head = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    return [line.removeprefix("#").removeprefix(" ") for line in head]


def choices(dial: str, folders: Sequence[Path]) -> str:
    """The values that a dial may be set to."""
    group = dial.partition("@")[0]
    return ", ".join(sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml") if path.stem[0] != "_"}))


def lines_of(config: str) -> Iterator[Line]:
    """Lines of a yaml that say something in a comment, with those of the yamls that it is based on before."""
    above: list[tuple[int, str]] = []  # the keys that a line lies below, with their indentation
    for text in (CONF / f"{config}.yaml").read_text().splitlines():
        found = re.match(r"( *)(- )?([\w@./]+)(?:: *(.*?))? *(?:  # (.*))?$", text)
        if not found or text.startswith("#"):
            continue
        indent, item, key, value, comment = len(found[1]), found[2], found[3], found[4] or "", found[5] or ""
        above = [(depth, name) for depth, name in above if depth < indent]
        place = ".".join([*(name for _, name in above), key])
        if place == "defaults" and value:
            for base in re.findall(r"\w+", value.replace("_self_", "")):
                yield from lines_of(base)
        elif place.startswith("defaults.") and item:
            if found[4] is None and key != "_self_":
                yield from lines_of(key)
            elif comment and key != "_self_":
                yield Line(key, value, comment, is_dial=True)
        elif comment and not place.startswith("hydra"):
            yield Line(place, value, comment, is_dial=False)
        above.append((indent, key))
