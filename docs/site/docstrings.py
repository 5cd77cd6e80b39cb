"""Docstrings as Markdown: an extension of griffe, which reads the package for the reference.

They are written for help(). Here examples become blocks of code, and signs of mathematics, as in (K, B, *z_shape), stay what they are.
"""

import re

from griffe import Attribute, Class, Extension, Function, Module, Object

EXAMPLE = re.compile(r"^( *)>>> .*(?:\n\1\S.*)*", re.MULTILINE)
SIGN = re.compile(r"(`[^`]*`)|([*<\[\]])")


def escaped(text: str) -> str:
    """The text with signs that Markdown would take for its own escaped, but for those in code."""
    return SIGN.sub(lambda match: match[1] or ("&lt;" if match[2] == "<" else "\\" + match[2]), text)


def markdown(docstring: str) -> str:
    """The docstring with its signs escaped, and its examples in fences."""
    parts, end = [], 0
    for match in EXAMPLE.finditer(docstring):
        parts += [escaped(docstring[end : match.start()]), f"{match[1]}```pycon\n{match[0]}\n{match[1]}```"]
        end = match.end()
    return "".join([*parts, escaped(docstring[end:])])


def change(thing: Object) -> None:
    if thing.docstring:
        thing.docstring.value = markdown(thing.docstring.value)


class Docstrings(Extension):
    """Changes the docstring of each module, class and function."""

    def on_module(self, *, mod: Module, **_: object) -> None:
        change(mod)

    def on_class(self, *, cls: Class, **_: object) -> None:
        change(cls)

    def on_function(self, *, func: Function, **_: object) -> None:
        change(func)

    def on_attribute(self, *, attr: Attribute, **_: object) -> None:
        change(attr)
