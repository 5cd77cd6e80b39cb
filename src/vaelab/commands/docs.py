"""Pages of the documentation, for who has no clone."""

import sys
from collections.abc import Sequence
from pathlib import Path

PAGES = {path.stem: path for path in sorted((Path(__file__).parents[1] / "docs").glob("*.md"))}


def print_page(words: Sequence[str]) -> int:
    """Print the page that a word names; without one, the names of all pages with their titles."""
    if not words or {"-h", "--help"} & set(words):
        print("vaelab docs <page> prints a page:\n")
        for name, path in PAGES.items():
            print(f"  {name:24}{path.read_text().splitlines()[0].lstrip('# ')}")
        return 0
    if words[0] not in PAGES:
        print(f"vaelab docs: there is no page {words[0]}: choose one of {', '.join(PAGES)}", file=sys.stderr)
        return 2
    print(PAGES[words[0]].read_text(), end="")
    return 0
