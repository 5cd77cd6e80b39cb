"""How the package is built, in numbers: python tests/support/house.py [folder of a checkout]

A room is a package directly below vaelab, or a module beside its __init__, which is a room as well, together with __main__; the plugins
of Hydra are one more. An arrow is that a room imports from another one; a circle, rooms that all lead to one another; a loose module, one
beside __init__. Arrows inside leave out those of __init__, which names what is public, and those to checks, which know no other room.
"""

import ast
import sys
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEFINITION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def modules(root: Path = ROOT) -> list[Path]:
    """The files of the package and of its plugins."""
    return sorted(path for name in ("vaelab", "hydra_plugins") for path in (root / "src" / name).rglob("*.py"))


def room(path: Path) -> str:
    """The room that a file is in."""
    _, _, inside = path.as_posix().rpartition("/src/")
    package, name = inside.split("/")[:2]
    name = "__init__" if name == "__main__.py" else name.removesuffix(".py")
    return name if package == "vaelab" else package


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> set[str]:
    """The modules that a file imports, and the names that it imports from vaelab itself, such as vaelab.rng."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = node.module in ("vaelab", "hydra_plugins")
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if whole else {node.module or ""}
    return found


def arrows(paths: list[Path]) -> dict[str, set[str]]:
    """The rooms that each room imports from."""
    below: dict[str, set[str]] = {room(path): set() for path in paths}
    for path in paths:
        for name in imports(path):
            package, _, inside = name.partition(".")
            if package == "vaelab" and inside:
                target = inside.split(".")[0]
                below[room(path)].add(target if target in below else "__init__")
            elif package == "hydra_plugins" and inside.startswith("vaelab"):
                below[room(path)].add(package)
    return {name: others - {name} for name, others in below.items()}


def circles(below: dict[str, set[str]]) -> set[frozenset[str]]:
    """The sets of rooms that all lead to one another."""
    reached = {name: set(others) for name, others in below.items()}
    for middle in below:
        for others in reached.values():
            others |= reached[middle] if middle in others else set()
    return {frozenset(other for other in reached[name] if name in reached[other]) for name in below} - {frozenset()}


def statements(path: Path) -> int:
    """How many there are in a file, without docstrings."""
    nodes = list(ast.walk(parsed(path)))
    docstrings = sum(isinstance(node, (ast.Module, *DEFINITION)) and ast.get_docstring(node) is not None for node in nodes)
    return sum(isinstance(node, ast.stmt) for node in nodes) - docstrings


def defined(path: Path) -> set[str]:
    """The public functions and classes of a module."""
    return {node.name for node in parsed(path).body if isinstance(node, DEFINITION) and not node.name.startswith("_")}


def loose(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.parent.name == "vaelab" and path.parent.parent.name == "src" and not path.stem.startswith("__")]


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def numbers(root: Path = ROOT) -> dict[str, int]:
    """All of them, by name."""
    paths = modules(root)
    below = arrows(paths)
    return {
        "rooms": len(below),
        "arrows": sum(map(len, below.values())),
        "arrows inside": sum(len(others - {"checks"}) for name, others in below.items() if name != "__init__"),
        "circles": len(circles(below)),
        "loose modules": len(loose(paths)),
        "longest file": max(map(lines, paths)),
        "statements": sum(map(statements, paths)),
        "names defined twice": sum(count > 1 for count in Counter(name for path in paths for name in defined(path)).values()),
    }


if __name__ == "__main__":
    for name, number in numbers(*map(Path, sys.argv[1:])).items():
        print(f"{name:20} {number}")
