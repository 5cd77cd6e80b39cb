"""Hooks of mkdocs: pages that lie outside of docs/, the source files that pages link to, and links between all of them.

A link is relative to the file that holds it, so that it works where the repository is read. The site has the same files at other places,
so that each link is rewritten: to the page of a file, to a page that shows a source file, or, for a folder, to its name alone.
"""

import ast
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).parents[2]
ELSEWHERE = {  # pages that do not lie in docs/, or not at the place that they have in the site
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docs/site/index.md": "index.md",
    "docs/site/reference.md": "reference.md",
}
FENCED = re.compile(r"^(```|~~~|\$\$).*?^\1$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[((?:`[^`]*`|[^\]`])*)\]\(([^)\s]+)\)")
SECTION = re.compile(r"^<!-- README: (.*) -->$", re.MULTILINE)  # where the start page shows a section of the README
TREE = re.compile(r"^<!-- tree -->$", re.MULTILINE)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".js": "js", ".sh": "bash"}

places: dict[Path, File] = {}  # of each file of the repository that the site shows


def prose(text: str, change: re.Pattern, by: Callable[[re.Match], str]) -> str:
    """The text with a pattern replaced, but for blocks of code and equations."""
    parts, end = [], 0
    for block in FENCED.finditer(text):
        parts += [change.sub(by, text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, change.sub(by, text[end:])])


def section(match: re.Match) -> str:
    """A section of the README, without its heading."""
    readme = (ROOT / "README.md").read_text()
    begin = readme.index(f"\n## {match[1]}\n")
    return readme[begin:].split("\n## ")[1].partition("\n")[2].strip()


def tree() -> str:
    """The files of the package: a line for each, which is the first sentence of its docstring."""
    lines = ["| file | what it is |", "|---|---|"]
    for path in sorted((ROOT / "src" / "vaelab").rglob("*.py"), key=lambda path: (path.parent, path.name)):
        name = path.relative_to(ROOT / "src" / "vaelab").as_posix()
        said = first_sentence(path).replace("|", "\\|")
        shown = name.replace("__init__.py", "") or "vaelab"
        lines.append(f"| **`{shown}`** | **{said}** |" if path.name == "__init__.py" else f"| `{name}` | {said} |")
    return "\n".join(lines)


def first_sentence(path: Path) -> str:
    """What the docstring of a module says first, on one line."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return re.split(r"(?<=[^.]\.)\s|\n\n", docstring)[0].replace("\n", " ")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere, and the source files that any page links to."""
    for source, name in ELSEWHERE.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    places.clear()
    places.update({Path(file.abs_src_path): file for file in files if file.abs_src_path and Path(file.abs_src_path).is_file()})
    for path in [path for path, file in places.items() if file.is_documentation_page()]:
        for _, _, target in LINK.findall(FENCED.sub("", path.read_text())):
            linked = Path(os.path.normpath(path.parent / target.partition("#")[0]))
            if "://" not in target and linked.is_file() and linked not in places:
                name = linked.relative_to(ROOT).as_posix()
                fence = "`" * 8
                shown = f"---\ntitle: {name}\nsearch: {{exclude: true}}\nhide: [navigation, toc]\n---\n# `{name}`\n\n"
                shown += f'{fence}{LANGUAGES.get(linked.suffix, "text")} linenums="1"\n{linked.read_text()}{fence}\n'
                places[linked] = File.generated(config, f"source/{name}.md", content=shown)
                files.append(places[linked])
    return files


def rewritten(match: re.Match, page: Page, path: Path) -> str:
    """A link of the file `path`, as it is on the page that shows the file."""
    picture, text, target = match.groups()
    name, hash_, anchor = target.partition("#")
    linked = places.get(Path(os.path.normpath(path.parent / name)))
    if "://" in target or not name:
        return match[0]
    if linked is None:
        return text
    if linked.src_uri.startswith("source/"):  # whose lines are no anchors that mkdocs knows
        line = f"#__span-0-{anchor[1:]}" if anchor else ""
        return f'<a href="{get_relative_url(linked.url, page.url)}{line}">{text}</a>'
    relative = os.path.relpath(linked.src_uri, Path(page.file.src_uri).parent)
    return f"{picture}[{text}]({relative}{hash_}{anchor})"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with its links rewritten, and with what is shown in place of comments."""
    path = Path(page.file.abs_src_path or "")
    if page.file.src_uri.startswith("source/"):
        return markdown
    if page.parent is None:
        page.meta["hide"] = ["navigation"]  # a page that is all of its tab
    shown = prose(markdown, LINK, partial(rewritten, page=page, path=path))
    shown = SECTION.sub(lambda match: prose(section(match), LINK, partial(rewritten, page=page, path=ROOT / "README.md")), shown)
    return TREE.sub(lambda match: tree(), shown)
