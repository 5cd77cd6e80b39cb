"""Wheels for a machine that has torch and no network: what the package and its tests on a GPU need beside what is there.

python tests/support/wheels.py                                prints the requirements
python tests/support/wheels.py wheels 3.12 torch lightning    fills a folder for a version of Python, without some packages
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
OF_TESTS = ["pytest>=8", "beartype>=0.19"]
OF_SOURCES = ["antlr4-python3-runtime==4.9.*"]  # which Hydra needs, and which is no wheel on PyPI
NEED_TORCH = ("zuko",)  # and nothing else that is not there; with what it needs, torch would be downloaded
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 17)] + ["manylinux2014_x86_64"]


def name_of(requirement: str) -> str:
    """The name of a package, in a requirement or a file's name, as all of its spellings have it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", requirement)[0]).lower()


def needed() -> list[str]:
    """The requirements of the package and of its tests on a GPU."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *OF_TESTS]


def fill(folder: Path, python: str, there: set[str]) -> None:
    """Download or build wheels of all that is needed and not there."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [each for each in needed() if name_of(each) not in there]
    alone = [each for each in wanted if name_of(each) in NEED_TORCH]
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), *OF_SOURCES)
    options = ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp", f"--dest={folder}", f"--find-links={folder}"]
    options += [f"--platform={platform}" for platform in PLATFORMS]
    pip("download", *options, "--no-deps", *alone)
    pip("download", *options, *(each for each in wanted if each not in alone))
    for path in folder.glob("*.whl"):
        if name_of(path.name.split("-")[0]) in there:
            path.unlink()


def pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words], check=True)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(*needed())
    else:
        fill(Path(sys.argv[1]), sys.argv[2], set(map(name_of, sys.argv[3:])))
