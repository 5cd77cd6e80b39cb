"""The public face: its names, and the examples in its docstrings, which are run."""

import ast
import doctest
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from house import ROOT, modules

import vaelab

FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def run_examples(name: str, names: dict) -> int:
    """Run the examples of a public name, or of the package; return how many there are."""
    found = getattr(vaelab, name) if name else vaelab
    (test,) = doctest.DocTestFinder(recurse=False).find(found, name or "vaelab", globs=names)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    said: list[str] = []
    assert runner.run(test, out=said.append, clear_globs=False).failed == 0, "".join(said)
    names.update(test.globs)
    return len(test.examples)


@pytest.mark.parametrize("name", vaelab.__all__)
def test_examples_in_docstrings_are_so(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go on with the model and the x of the package's own docstring."""
    monkeypatch.chdir(tmp_path)
    names: dict = {public: getattr(vaelab, public) for public in vaelab.__all__}
    assert run_examples("", names)
    assert run_examples(name, names)


def test_public_names_are_where_they_live() -> None:
    for name, home in vaelab.HOMES.items():
        assert getattr(vaelab, name) is getattr(import_module(home), name)
    assert set(vaelab.__all__) == vaelab.HOMES.keys()
    assert set(vaelab.__all__) | {"__version__"} <= set(dir(vaelab))
    assert vaelab.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="no attribute 'Vae'"):
        _ = vaelab.Vae


def test_a_users_file_sees_the_types(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from vaelab import ELBO, load, __version__\nreveal_type(load('x'))\nELBO(kl=3)\n__version__ + 1\n")
    others = ",".join(f"{name}.*" for name in ("torch", "lightning", "hydra", "omegaconf", "numpy", "matplotlib", "scipy", "PIL", "rich"))
    (tmp_path / "mypy.ini").write_text(f"[mypy]\n[mypy-{others}]\nfollow_imports = skip\n")  # which would take a minute
    line = [sys.executable, "-m", "mypy", "--no-incremental", str(file)]
    told = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=False).stdout
    assert 'Revealed type is "vaelab.models.base.Model"' in told
    for wrong in ('"ELBO" has incompatible type "int"', 'Unsupported operand types for + ("str"'):
        assert wrong in told, told


PREPOSITIONS = (
    "of by as in on at for from with without to into onto over under between among after before through until within during against"
)
QUESTIONS = "what which where when whether who whose how why that because since while if both"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_docstrings_begin_with_what_a_thing_is_or_does(path: Path) -> None:
    """So that they stand alone in help()."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (docstring := ast.get_docstring(node)):
            first = re.split(r"\W", docstring, maxsplit=1)[0]
            begins_wrongly = first.istitle() and first.lower() in (PREPOSITIONS + " " + QUESTIONS).split()
            assert not begins_wrongly, f"{getattr(node, 'name', path.stem)}: {docstring.splitlines()[0]}"
