"""The tutorial keeps its promises: its code runs, its equations point at lines of code, and nothing that it links to is missing."""

import os
import re
from pathlib import Path

import pytest
from forked_scripts import ROOT
from hydra import compose, initialize_config_dir

from vaelab.commands.cli import COMMANDS

TUTORIAL = ROOT / "docs" / "from_elbo_to_code.md"
PAGES = [pytest.param(path, id=path.name) for path in sorted((ROOT / "docs").glob("**/*.md"))]

PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^(```|\$\$).*?^\1$", re.MULTILINE | re.DOTALL)
CODE_LINK = re.compile(r"\[`([^`]+)`\]\(([^)#\s]+)#L(\d+)\)")  # [`code`](path#L57): line 57 of the file holds the code
LINK = re.compile(r"\]\(([^)\s]+)\)")
EQUATION = re.compile(r"^\$\$\n(.*?)^\$\$\n\n([^\n]*)", re.MULTILINE | re.DOTALL)


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def prose(text: str) -> str:
    """The page with code and equations blanked out, every line where it was."""
    return FENCED.sub(lambda match: "\n" * match[0].count("\n"), text)


def squeezed(code: str) -> str:
    return "".join(code.split())


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_the_tutorial_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # whatever a block may write
    text, namespace = TUTORIAL.read_text(), {"__name__": "tutorial"}
    blocks = list(PYTHON.finditer(text))
    assert len(blocks) >= 20
    for block in blocks:
        start = line_of(text, block.start(1))
        exec(compile("\n" * (start - 1) + block[1], str(TUTORIAL), "exec"), namespace)  # a traceback shows the line of the page


@pytest.mark.parametrize("page", PAGES)
def test_links_to_code_name_the_right_line(page) -> None:
    text, wrong = page.read_text(), []
    for link in CODE_LINK.finditer(prose(text)):
        code, path, number = link[1], link[2], int(link[3])
        where = f"{page.relative_to(ROOT)}:{line_of(prose(text), link.start())}: `{code}`"
        target = Path(os.path.normpath(page.parent / path))
        if not target.is_file():
            wrong.append(f"{where}: there is no {path}")
            continue
        found = [n for n, line in enumerate(target.read_text().splitlines(), 1) if squeezed(code) in squeezed(line)]
        if number not in found:
            now = f"it is now on line {' or '.join(map(str, found))}" if found else "no line holds it any more"
            wrong.append(f"{where} is not on line {number} of {target.relative_to(ROOT)}: {now}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_every_equation_is_followed_by_its_line_of_code() -> None:
    text = TUTORIAL.read_text()
    equations = list(EQUATION.finditer(text))
    assert len(equations) >= 20
    assert len(equations) == len(re.findall(r"^\$\$$", text, re.MULTILINE)) / 2
    without = [
        f"line {line_of(text, equation.start())}: {equation[1].strip()}" for equation in equations if not CODE_LINK.match(equation[2])
    ]
    assert not without, "no link [`code`](path#Lnn) after the equation of\n" + "\n".join(without)


@pytest.mark.parametrize("page", PAGES)
def test_nothing_that_a_page_links_to_is_missing(page) -> None:
    text = page.read_text()
    anchors = {slug(heading) for heading in re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)}
    missing = []
    for link in LINK.finditer(prose(text)):
        path, _, anchor = link[1].partition("#")
        if "://" in path:
            continue
        if path and not (page.parent / path).exists():
            missing.append(link[1])
        if not path and anchor not in anchors:
            missing.append(link[1])
    assert not missing, f"{page.relative_to(ROOT)} links to what is not there: {missing}"


def commands() -> list[str]:
    """The command lines of the tutorial, comments taken off."""
    lines = "".join(SHELL.findall(TUTORIAL.read_text())).replace("\\\n", " ").splitlines()
    return [line.partition("#")[0].strip() for line in lines if line.startswith("vaelab ")]


@pytest.mark.parametrize("command", commands())
def test_the_config_takes_the_words_of_each_command(command) -> None:
    _, name, *words = command.split()
    overrides = [word.partition(",")[0] for word in words if word != "-m"]  # of a sweep, its first job
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        compose(COMMANDS[name].config, overrides)
